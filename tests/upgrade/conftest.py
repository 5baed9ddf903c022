"""The project that version 1.0.0 left, for the code under test to continue."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import Project
from tests.upgrade.unpack import unpack

HOUR = 3600.0
"""Seconds after which the cooldown of the fixture is over."""


@pytest.fixture
def left(project: Project, facts: Path) -> Project:
    """The project as 1.0 left it just now, in the place of the usual one."""
    shutil.rmtree(project.root)
    unpack(project.root.parent)
    return project


@pytest.fixture
def left_an_hour_ago(project: Project, facts: Path) -> Project:
    """The same project, left an hour ago: the cooldown is over."""
    shutil.rmtree(project.root)
    unpack(project.root.parent, seconds_ago=HOUR)
    return project
