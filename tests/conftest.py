"""Fixtures: every test has its own environment, and a project on request."""

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
from scriptorium.project.paths import Paths
from tests import fork_server
from tests.support import Project, sealed

pytest.register_assert_rewrite("tests.neighbours.cases")

# the same examples every time: a flaky test helps nobody
settings.register_profile("scriptorium", derandomize=True, database=None, deadline=None, max_examples=100)
settings.load_profile("scriptorium")


def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of `-n auto`: tests wait for processes and time limits about as long as they work."""
    return 2 * (os.cpu_count() or 1)


def pytest_sessionfinish() -> None:
    """End the fork server, so that its CPU time counts as used by pytest."""
    fork_server.close()


@pytest.fixture(autouse=True)
def _sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the user's home, git configuration and settings from the test and its child processes."""
    environment = sealed(os.environ, tmp_path / "home", tmp_path / "root")
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    scrub_environment()  # so that git started within a test sees it as well
    yield
    for home in tmp_path.glob("*/*-" + 12 * "[0-9a-f]"):
        sockets = Paths(home.parent, "", home.name).sockets
        if tmp_path not in sockets.parents:  # the sockets of a long state root are below /tmp
            shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Remove the log handlers of the test, whose stream is closed after the test."""
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


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory whose path is short enough for the addresses of sockets."""
    with TemporaryDirectory(prefix="sockets-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, $FACTS in the environment, in which agents and gates leave facts for the test."""
    directory = tmp_path / "facts"
    directory.mkdir()
    monkeypatch.setenv("FACTS", str(directory))
    return directory
