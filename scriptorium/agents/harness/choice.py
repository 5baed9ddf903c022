"""Which backend a role gets."""

from __future__ import annotations

from pathlib import Path

from scriptorium.agents.harness import registry
from scriptorium.agents.harness.base import Harness
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.project.config import Config


def backend_name(config: Config, role: str) -> str:
    """Return the name of the backend for a role: as configured, else by the model's name or prefix."""
    model = config.model(role)
    return config.backends.get(role) or (model if model in config.harnesses else registry.backend_of(model))


def known_backends(config: Config) -> list[str]:
    """Return the names of all backends, the built-in ones first."""
    return list(dict.fromkeys((*registry.builtin(), *config.harnesses)))


def choose(config: Config, role: str, root: Path) -> tuple[Harness, str]:
    """Return the harness and the model for a role. Raises, with exit code 78, for an unknown backend.

    ``root`` is the top of the repository; the paths of configured programs are relative to it.
    """
    name, model = backend_name(config, role), config.model(role)
    program = config.harnesses.get(name)
    if program is not None and program.protocol == "acp":
        from scriptorium.agents.harness.acp import Acp

        return Acp(name, program, root), model
    if program is not None:
        from scriptorium.agents.harness.command import CommandHarness

        return CommandHarness(name, program, root), model
    kind = registry.builtin().get(name)
    if kind is not None:
        return kind.create(config, model), model
    from difflib import get_close_matches

    known = known_backends(config)
    near = get_close_matches(name, known, 1)
    raise ScriptoriumError(
        f"role '{role}' names the unknown backend '{name}'",
        f"did you mean '{near[0]}'?" if near else f"one of: {', '.join(known)}",
        ExitCode.CONFIG,
    )
