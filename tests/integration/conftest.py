"""The real agent programs, with separate home directories, and with a scripted or a real model.

With SCRIPTORIUM_TEST_MODEL naming a model, the tests that make sense with a real model run against it, with
the program that belongs to the name, and with the key in the environment (OPENAI_API_KEY, CODEX_API_KEY,
ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN) or codex's own sign-in (CODEX_AUTH_FILE, or auth.json in the user's
codex home).
"""

from __future__ import annotations

import os
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from scriptorium.agents.harness.registry import backend_of
from tests.integration.table import pytest_addoption, pytest_configure, pytest_runtest_makereport
from tests.scripted_model import (
    OPENCODE_LOCK,
    OPENCODE_OFFLINE,
    Reply,
    Request,
    ScriptedModel,
    claude_environment,
    codex_config,
    opencode_config,
)
from tests.support import Project

__all__ = ["pytest_addoption", "pytest_configure", "pytest_runtest_makereport"]

REAL_MODEL = os.environ.get("SCRIPTORIUM_TEST_MODEL", "")
KEYS = {
    name: os.environ[name]
    for name in ("OPENAI_API_KEY", "CODEX_API_KEY", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
    if name in os.environ
}
AUTH = Path(
    os.environ.get("CODEX_AUTH_FILE")
    or Path(os.environ.get("CODEX_HOME") or Path(os.environ.get("HOME", "/"), ".codex"), "auth.json")
)
ROLES = ("architect", "manager", "coding")

collect_ignore = [
    "test_doctor.py",
    "test_faults.py",
    "test_misbehaviour.py",
    "test_planning.py",
    "test_resume.py",
    "test_sandbox.py",
    "test_scripted_model.py",
]
collect_ignore = collect_ignore if REAL_MODEL else []


class Backend(ABC):
    """A real agent program for all roles of a project, and the script of its model."""

    name: ClassVar[str]
    program: ClassVar[str]
    model: ClassVar[str]
    """The name of the scripted model, unless a real model is configured."""

    def __init__(self, home: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        assert shutil.which(self.program), f"'{self.program}' is not on PATH\nhint: make integration-test"
        self.home, self.project, self.monkeypatch = home, project, monkeypatch
        self.real = bool(REAL_MODEL)
        home.mkdir()
        self.configure_home()
        for name, value in KEYS.items() if self.real else ():
            monkeypatch.setenv(name, value)
        project.configure(
            models=dict.fromkeys(ROLES, REAL_MODEL or self.model),
            reasoning_effort=dict.fromkeys(ROLES, "medium"),
            endpoints={"local": "http://127.0.0.1:0"},
        )
        project.init()

    @abstractmethod
    def configure_home(self) -> None:
        """Give the program its own home directory, without the user's settings."""

    @abstractmethod
    def point_at(self, root: str) -> None:
        """Point the program to a model at an address, without retries."""

    @contextmanager
    def answering(self, script: Callable[[Request], Reply]) -> Iterator[list[Request]]:
        """Serve the program with a script for a block; yields the requests, which stay empty with a real model."""
        if self.real:
            yield []
            return
        with ScriptedModel(script) as model:
            self.point_at(model.root)
            yield model.requests

    @contextmanager
    def refused(self) -> Iterator[None]:
        """Point the program to an address on which nothing listens."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, but not listening
            self.point_at(f"http://127.0.0.1:{taken.getsockname()[1]}")
            yield


class Codex(Backend):
    name, program, model = "codex", "codex", "gpt-5.5"

    def configure_home(self) -> None:
        self.monkeypatch.setenv("CODEX_HOME", str(self.home))
        if self.real:
            if AUTH.exists():
                shutil.copy(AUTH, self.home / "auth.json")
            assert KEYS or AUTH.exists(), "a real model needs OPENAI_API_KEY, CODEX_API_KEY or codex's sign-in"

    def point_at(self, root: str) -> None:
        (self.home / "config.toml").write_text(codex_config(f"{root}/v1"))


class Claude(Backend):
    name, program, model = "claude-code", "claude", "claude-opus-5-5"

    def configure_home(self) -> None:
        for name in list(os.environ):
            if name.startswith(("ANTHROPIC_", "CLAUDE")):
                self.monkeypatch.delenv(name)
        self.monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(self.home))
        assert KEYS or not self.real, "a real model needs ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN"

    def point_at(self, root: str) -> None:
        for name, value in claude_environment(root, str(self.home)).items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.setenv("CLAUDE_CODE_MAX_RETRIES", "0")


class OpenCode(Backend):
    """Runs by the Agent Client Protocol, as a harness of the configuration."""

    name, program, model = "opencode", "opencode", "scripted/model"

    def configure_home(self) -> None:
        for name in list(os.environ):
            if name.startswith("OPENCODE"):
                self.monkeypatch.delenv(name)
        self.config = Path(os.environ["HOME"], ".config", "opencode")
        (self.config / "node_modules").mkdir(parents=True)
        (self.config / "package-lock.json").write_text(OPENCODE_LOCK)
        program = {"protocol": "acp", "command": ["opencode", "acp"], "env": OPENCODE_OFFLINE}
        agents = {role: {"harness": "opencode"} for role in ROLES}
        self.project.configure(harnesses={"opencode": program}, agents=agents)

    def point_at(self, root: str) -> None:
        (self.config / "opencode.json").write_text(opencode_config(f"{root}/v1"))


BACKENDS: tuple[type[Backend], ...] = (Codex, Claude)
USED = [kind for kind in BACKENDS if not REAL_MODEL or backend_of(REAL_MODEL) == kind.name]

every = pytest.mark.parametrize(
    "backend", [*USED, *([] if REAL_MODEL else [OpenCode])], indirect=True, ids=lambda kind: kind.name
)
"""Marks a test that runs with the programs in USED, and with programs that only the configuration adds."""


@pytest.fixture(params=USED, ids=[kind.name for kind in USED])
def backend(
    request: pytest.FixtureRequest, tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Backend:
    """Each agent program in turn."""
    made: Backend = request.param(tmp_path / "agent", project, monkeypatch)
    return made


@pytest.fixture
def codex(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Codex:
    """The codex on PATH."""
    return Codex(tmp_path / "agent", project, monkeypatch)


@pytest.fixture
def claude(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Claude:
    """The claude on PATH."""
    return Claude(tmp_path / "agent", project, monkeypatch)


@pytest.fixture
def opencode(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> OpenCode:
    """The opencode on PATH."""
    return OpenCode(tmp_path / "agent", project, monkeypatch)
