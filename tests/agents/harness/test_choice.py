"""Which backend a role gets, and how the built-in backends are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.agents.harness import backends, registry
from scriptorium.agents.harness.choice import backend_name, choose, known_backends
from scriptorium.project.config import parse

NEW_BACKEND = """
from scriptorium.agents.harness.base import Harness

class New(Harness):
    name = "new"
    model_prefixes = ("new-", "gpt-new-")

    def program(self):
        return "new"

    def argv(self, task, last_message):
        return ["new"]

    def read(self, line, report):
        return iter(())
"""


@pytest.fixture
def new_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a file to the directory of backends."""
    (tmp_path / "new.py").write_text(NEW_BACKEND)
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "builtin", registry.builtin.__wrapped__)


@pytest.mark.parametrize(
    ("text", "backend", "model"),
    [
        ("{}", "codex", "gpt-5.1-codex-mini"),
        ('{"models": {"coding": "claude-opus-5-5"}}', "claude-code", "claude-opus-5-5"),
        ('{"models": {"coding": "grok-4"}}', "typoi", "grok-4"),
        ('{"models": {"coding": "claude-code"}}', "claude-code", "claude-code"),
        ('{"agents": {"coding": {"harness": "claude-code"}}}', "claude-code", "claude-code"),
        ('{"agents": {"coding": {"harness": "claude-code", "model": "opus"}}}', "claude-code", "opus"),
        ('{"agents": {"coding": {"harness": "codex"}}, "models": {"coding": "o9"}}', "codex", "o9"),
        ('{"models": {"coding": "mine"}, "harnesses": {"mine": {"command": ["x"]}}}', "mine", "mine"),
    ],
)
def test_a_backend_is_chosen_by_name_or_by_the_models_prefix(text: str, backend: str, model: str) -> None:
    config = parse(text)
    assert (backend_name(config, "coding"), config.model("coding")) == (backend, model)


def test_the_default_comes_first_and_the_backend_of_any_model_last() -> None:
    assert known_backends(parse("{}")) == ["codex", "claude-code", "typoi"]


@pytest.mark.usefixtures("new_backend")
def test_a_new_backend_is_one_file() -> None:
    assert known_backends(parse("{}")) == ["codex", "claude-code", "new", "typoi"]
    for model, backend in (("new", "new"), ("new-1", "new"), ("gpt-new-1", "new"), ("gpt-5", "codex"), ("ne", "typoi")):
        config = parse(f'{{"models": {{"coding": "{model}"}}}}')
        harness, chosen = choose(config, "coding", Path())
        assert (harness.name, chosen) == (backend, model)
