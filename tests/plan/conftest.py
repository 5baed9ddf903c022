"""The plan store of a new project."""

from __future__ import annotations

import pytest

from scriptorium.git.repository import Repository
from scriptorium.plan.store import PlanStore
from tests.support import Project


@pytest.fixture
def store(project: Project) -> PlanStore:
    project.init()
    return PlanStore(Repository.discover(project.root))
