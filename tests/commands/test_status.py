"""scriptorium status: ticket counts and active agents, without any change."""

from __future__ import annotations

import json

import pytest

from tests.support import PLAN, Project, until

WAITING = "WAITING: no spec — run 'scriptorium plan'"


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def test_fresh_plan_is_all_zeros_and_waits_for_a_spec(project: Project) -> None:
    assert project.run("status") == (
        0,
        "Open: 0\nIn Progress: 0\nDone: 0\nStuck: 0\nActive Agent: none\n"
        f"Master: unknown {project.git('rev-parse', 'master')[:12]}\n{WAITING}\n",
        "",
    )


def test_tickets_are_counted_by_state_and_the_queue_is_shown(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n", "tickets/open/README.txt": "no ticket\n"})
    for number, state in enumerate(["open", "open", "in-progress", "done", "done", "done", "stuck"], 1):
        project.ticket(f"{number:04d}", state=state)
    item = "**Ticket:** tickets/in-progress/0003-thing.md\n"
    project.commit_plan({"queue/merge/pending/0001-0003-thing.md": item})
    assert project.run("health").code == 0

    assert project.run("status").out == (
        "Open: 2\nIn Progress: 1\nDone: 3\nStuck: 1\nActive Agent: none\n"
        "Stuck Tickets: 0007-thing\nMerge Queue: 0003-thing\n"
        f"Master: green {project.git('rev-parse', 'master')[:12]}\n"
    )
    assert json.loads(project.run("status", "--json").out) == {
        "schema": 1,
        "counts": {"open": 2, "in-progress": 1, "done": 3, "stuck": 1},
        "active": [],
        "open": ["0001-thing", "0002-thing"],
        "in_progress": ["0003-thing"],
        "stuck": ["0007-thing"],
        "queue": ["0003-thing"],
        "master": {"branch": "master", "commit": project.git("rev-parse", "master"), "health": "green"},
        "sandbox": {},
        "spec": True,
        "running": False,
        "plan": project.git("rev-parse", PLAN),
    }


def test_agent_at_work_is_shown_with_its_branch_and_worktree(project: Project) -> None:
    base = project.root.parent
    project.agent(f"pwd -P > {base}/draft; mv {base}/draft {base}/where; sleep 1000")
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    with project.running("code", name):
        until((base / "where").exists)
        worktree = (base / "where").read_text().strip()

        assert project.run("status").out.splitlines()[4:7] == [
            f"Active Agent Ticket: 0001 (tickets/in-progress/{name}.md)",
            "Active Agent Branch: scriptorium/ticket-0001",
            f"Active Agent Worktree: {worktree}",
        ]
        assert json.loads(project.run("status", "--json").out)["active"] == [
            {"ticket": name, "branch": "scriptorium/ticket-0001", "worktree": worktree}
        ]
    until(lambda: "Active Agent: none\n" in project.run("status").out)


def test_red_master_is_shown(project: Project) -> None:
    commit = project.gate("false")
    assert project.run("health").code == 3
    assert f"Master: red {commit[:12]}\n" in project.run("status").out


def test_wrong_configuration_hides_nothing_else(project: Project) -> None:
    project.ticket("0001")
    (project.root / "scriptorium.json").write_text("{")
    result = project.run("status")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Open: 1\n")
    assert "Master: unknown: 'scriptorium.json': line 1 is not JSON" in result.out


def test_ticket_that_cannot_be_read_is_counted(project: Project) -> None:
    project.commit_plan({"tickets/open/0001-broken.md": "---\n[", "tickets/open/Der Käse.md": ""})
    assert project.run("status").out.startswith("Open: 2\n")


def test_looking_changes_nothing(project: Project) -> None:
    project.ticket("0001")
    assert project.run("assign").code == 0
    refs = project.git("for-each-ref")
    (worktree,) = (project.root.parent / "root").glob("*/worktrees/tickets/*")
    (worktree / "half.txt").write_text("done\n")
    for argv in (("status",), ("status", "--json"), ("worktrees",), ("worktrees", "--json")):
        assert project.run(*argv).code == 0
    assert project.git("for-each-ref") == refs
    assert (worktree / "half.txt").read_text() == "done\n"
