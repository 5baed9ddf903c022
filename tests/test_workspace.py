"""A repository with all that belongs to it, for as long as a daemon runs."""

from __future__ import annotations

import pytest

from scriptorium.errors import ScriptoriumError
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
