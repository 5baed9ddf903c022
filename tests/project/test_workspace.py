"""A workspace whose repository changes while a daemon runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from tests.neighbours.cases import show, submitted
from tests.support import Project


def test_a_branch_that_was_renamed_is_found_by_its_new_name(project: Project) -> None:
    workspace, tip = project.workspace, project.git("rev-parse", "master")
    assert workspace.master_commit() == tip

    project.git("branch", "-m", "master", "main")
    assert (workspace.master_commit(), workspace.master) == (tip, "main")


def test_a_branch_that_is_gone_keeps_its_name_where_none_takes_its_place(project: Project) -> None:
    workspace, tip = project.workspace, project.git("rev-parse", "master")
    assert workspace.master == "master"
    project.git("checkout", "--quiet", "--detach")
    project.git("branch", "-D", "master")
    with pytest.raises(ScriptoriumError):
        workspace.master_commit()
    assert workspace.master == "master"

    project.git("branch", "master")
    assert workspace.master_commit() == tip


@pytest.fixture
def named(tmp_path: Path) -> Project:
    """A project that lands on main, with a branch master created after the first ticket."""
    project = Project(tmp_path / "named", "main")
    project.init()
    submitted(project)
    assert process_next(project.workspace) == ItemResult("0001-thing", ItemOutcome.LANDED)
    assert show(project, commit="main") == "0001-thing"
    return project


def test_work_does_not_go_over_to_a_branch_that_is_made_later(named: Project) -> None:
    config = (named.root / "scriptorium.json").read_text()
    named.git("branch", "master")

    result = named.run("health")
    assert (result.code, result.err) == (
        78,
        "scriptorium: cannot determine whether work lands on 'main', as before, or on 'master'\n"
        "hint: name one of them as 'branch' in 'scriptorium.json'\n",
    )

    named.configure(branch="master")
    assert named.workspace.master == "master"
    (named.root / "scriptorium.json").write_text(config)
    named.git("branch", "-D", "master")
    assert named.workspace.master == "main"
    named.git("branch", "-m", "main", "master")
    assert named.workspace.master == "master"


def test_a_reload_keeps_the_landing_branch_while_two_are_possible(named: Project) -> None:
    workspace = named.workspace
    assert workspace.master == "main"
    named.git("branch", "master")

    workspace.reload()
    assert workspace.master == "main"
    named.configure(branch="master")
    workspace.reload()
    assert workspace.master == "master"
