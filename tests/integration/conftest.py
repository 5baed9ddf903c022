"""The real codex, with a home of its own and a scripted model behind it, or with a real model.

With SCRIPTORIUM_TEST_MODEL naming a model, the tests that make sense with a real one run against
it, with the key in the environment (OPENAI_API_KEY, CODEX_API_KEY) or codex's own sign-in
(CODEX_AUTH_FILE, or auth.json in the user's codex home).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.scripted_model import Reply, Request, ScriptedModel, codex_config
from tests.support import Project

REAL_MODEL = os.environ.get("SCRIPTORIUM_TEST_MODEL", "")
KEYS = {name: os.environ[name] for name in ("OPENAI_API_KEY", "CODEX_API_KEY") if name in os.environ}
AUTH = Path(
    os.environ.get("CODEX_AUTH_FILE")
    or Path(os.environ.get("CODEX_HOME") or Path(os.environ.get("HOME", "/"), ".codex"), "auth.json")
)

collect_ignore = ["test_codex_faults.py", "test_scripted_model.py"] if REAL_MODEL else []


@dataclass
class Codex:
    """The real codex, and how the tests script the model behind it; ``real`` when a vendor's answers instead."""

    home: Path
    project: Project
    real: bool

    @contextmanager
    def answering(self, script: Callable[[Request], Reply]) -> Iterator[list[Request]]:
        """Put a script behind codex for a block; yields the requests it sees, none with a real model."""
        if self.real:
            yield []
            return
        with ScriptedModel(script) as model:
            (self.home / "config.toml").write_text(codex_config(model.url))
            yield model.requests


@pytest.fixture
def codex(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Codex:
    """The codex on PATH, for all roles of a project with its plan branch made."""
    assert shutil.which("codex"), "'codex' is not on PATH\nhint: make integration-test"
    home = tmp_path / "codex"
    home.mkdir()
    monkeypatch.setenv("CODEX_HOME", str(home))
    model = REAL_MODEL or "gpt-5.5"
    if REAL_MODEL:
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        if AUTH.exists():
            shutil.copy(AUTH, home / "auth.json")
        assert KEYS or AUTH.exists(), "a real model needs OPENAI_API_KEY, CODEX_API_KEY or codex's sign-in"
    project.configure(
        models=dict.fromkeys(("architect", "manager", "coding"), model),
        reasoning_effort=dict.fromkeys(("architect", "manager", "coding"), "medium"),
        endpoints={"local": "http://127.0.0.1:0"},
    )
    project.init()
    return Codex(home, project, bool(REAL_MODEL))
