"""Fixtures: every test has an environment of its own, and a project in it for the asking."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from scriptorium.git.environment import scrub_environment
from tests import fork_server
from tests.support import Project, sealed

pytest.register_assert_rewrite("tests.neighbours.cases")

# the same examples every time: a test that fails once in a while helps nobody
settings.register_profile("scriptorium", derandomize=True, database=None, deadline=None, max_examples=100)
settings.load_profile("scriptorium")


def pytest_xdist_auto_num_workers() -> int:
    """Return what `-n auto` means: tests wait for processes and time limits about as long as they work."""
    return 2 * (os.cpu_count() or 1)


def pytest_sessionfinish() -> None:
    """End the fork server, or what it has used would not count as used by pytest."""
    fork_server.close()


@pytest.fixture(autouse=True)
def _sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's home, git configuration and settings from the test and what it starts."""
    environment = sealed(os.environ, tmp_path / "home", tmp_path / "root")
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    scrub_environment()  # so that git started from within a test sees it, too


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Take back what the test has set up for its log lines, which would go to a stream that is closed by then."""
    logger = logging.getLogger("scriptorium")
    before = logger.handlers, logger.propagate, logger.level, logging.raiseExceptions
    yield
    logger.handlers, logger.propagate, logger.level, logging.raiseExceptions = before


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A repository with a green gate and no plan branch yet."""
    project = Project.copied(tmp_path / "project")
    yield project
    for process in project.started:
        process.kill()
        process.communicate()
    shutil.rmtree(project.paths.sockets, ignore_errors=True)  # a long state root has its sockets below /tmp


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory of sockets whose path is short enough for a socket's address."""
    with TemporaryDirectory(prefix="sockets-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, $FACTS to agents and gates, where they leave what the test wants to know."""
    directory = tmp_path / "facts"
    directory.mkdir()
    monkeypatch.setenv("FACTS", str(directory))
    return directory
