"""scriptorium worktrees: the worktrees of tickets in progress."""

from __future__ import annotations

import json

import pytest

from tests.support import Project


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def test_no_ticket_in_progress_is_said_so(project: Project) -> None:
    project.ticket("0001")
    assert project.run("worktrees") == (0, "scriptorium: no active ticket worktrees\n", "")
    assert project.run("worktrees", "--json") == (0, "[]\n", "")


def test_worktrees_of_tickets_in_progress_are_a_table(project: Project) -> None:
    project.ticket("0001")
    project.ticket("0002-späte-tür")
    rows = []
    for _ in range(2):
        name, worktree = project.run("assign").out.rstrip("\n").split("\t")
        rows.append((worktree, name, f"scriptorium/ticket-{name[:4]}"))

    result = project.run("worktrees")

    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == ["WORKTREE\tTICKET\tBRANCH", *("\t".join(row) for row in rows)]
    assert [tuple(row.values()) for row in json.loads(project.run("worktrees", "--json").out)] == rows
    for worktree, _, branch in rows:
        assert f"worktree {worktree}\n" in project.git("worktree", "list", "--porcelain")
        assert project.git("symbolic-ref", "--short", "HEAD", cwd=project.root.parent / worktree) == branch


def test_ticket_of_the_original_names_its_worktree_itself(project: Project) -> None:
    text = "# Old\n\n**Area:** core\n\n**Worktree:** /tmp/elsewhere/tickets/0001-old\n"
    project.commit_plan({"tickets/in-progress/0001-old.md": text})
    assert project.run("worktrees").out.splitlines()[1:] == [
        "/tmp/elsewhere/tickets/0001-old\t0001-old\tscriptorium/ticket-0001"
    ]


def test_ticket_whose_worktree_is_gone_is_left_out(project: Project) -> None:
    project.ticket("0001", state="in-progress")
    assert project.run("worktrees").out == "scriptorium: no active ticket worktrees\n"
