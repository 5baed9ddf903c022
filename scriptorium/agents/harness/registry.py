"""The built-in backends: each file in `backends/` defines one `Harness` with its name and its models."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from scriptorium.agents.harness import backends
from scriptorium.agents.harness.base import Harness
from scriptorium.project.config import DEFAULT_MODEL


@cache
def builtin() -> dict[str, type[Harness]]:
    """Return the built-in backends by name.

    The default model's backend is first, the backend that takes any model is last.
    """
    found = [_harness_in(module.name) for module in iter_modules(backends.__path__)]
    default = _longest_match(found, DEFAULT_MODEL)
    found.sort(key=lambda kind: (kind is not default, "" in kind.model_prefixes, kind.name))
    return {kind.name: kind for kind in found}


def backend_of(model: str) -> str:
    """Return the built-in backend for a model: the backend of that name, else by the longest prefix."""
    known = builtin()
    return model if model in known else _longest_match(list(known.values()), model).name


def _harness_in(module: str) -> type[Harness]:
    loaded = import_module(f"{backends.__name__}.{module}")
    kinds = [kind for kind in vars(loaded).values() if isinstance(kind, type) and issubclass(kind, Harness)]
    [harness] = [kind for kind in kinds if kind.__module__ == loaded.__name__]
    return harness


def _longest_match(kinds: list[type[Harness]], model: str) -> type[Harness]:
    matches = [(len(prefix), kind) for kind in kinds for prefix in kind.model_prefixes if model.startswith(prefix)]
    return max(matches, key=lambda match: match[0])[1]
