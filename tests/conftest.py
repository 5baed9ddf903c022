"""Fixtures: every test has an environment of its own, and a project in it for the asking."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import Project, sealed

# the same examples every time: a test that fails once in a while helps nobody
settings.register_profile("scriptorium", derandomize=True, database=None, deadline=None, max_examples=100)
settings.load_profile("scriptorium")


@pytest.fixture(autouse=True)
def _sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's home, git configuration and settings from the test and what it starts."""
    environment = sealed(os.environ, tmp_path / "home", tmp_path / "root")
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository with a green gate and no plan branch yet."""
    return Project(tmp_path / "project")
