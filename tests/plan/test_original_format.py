"""A plan branch of the original: it is read, work on it continues, and unknown files stay."""

from __future__ import annotations

import pytest

from scriptorium.coding.assign import assign_next
from scriptorium.merge_queue.queue import process_next
from scriptorium.plan.finding import Level
from scriptorium.plan.ticket import State
from scriptorium.reports.fsck import fsck
from tests.support import Project

SPEC = "# Spec\n\nA greeter that says hello.\n"
PLACEHOLDER = "# Spec\n\nRun `scriptorium plan` to build your spec with the Architect."
RUN = "\n## Agent Run\n- Model: gpt-5.1-codex-mini\n- Exit Code: 0\n- Last Message: did it\\nall\n"
SUCCESS = "\n## Merge Queue Success\n- Summary: it works\n\n## Metrics\n- wall_time_seconds: 146\n- outcome: done\n"
FAILURE = "\n## Merge Queue Failure\n- Summary: it works\n\n### Gate output\n```text\nmake: *** [test] Error 2\n```\n"
PENDING = "queue/merge/pending"
UNKNOWN = {"tickets/.area-hashes": "greeter:1f2e\n", "health/cache.json": '{"abc": true}\n', "decisions/0001.md": "x\n"}


def ticket(number: int, depends: str = "", extra: str = "") -> str:
    lines = [f"# Ticket {number}", "", "**Area:** greeter"] + ([f"**Depends:** {depends}"] if depends else [])
    return "\n".join([*lines, "", "## Goal", "", "Say hello.", ""]) + extra


def worktree(name: str) -> str:
    return f"\n**Worktree:** /tmp/scriptorium/key/worktrees/tickets/{name}\n"


def queue_item(name: str) -> str:
    number = name.partition("-")[0]
    return (
        f"# Merge Queue Item\n\n**Ticket:** tickets/in-progress/{name}.md\n**Ticket ID:** {number}\n"
        f"**Branch:** scriptorium/ticket-{number}\n**Worktree:** /tmp/scriptorium/key/worktrees/tickets/{name}\n"
        "**Summary:** it works\n"
    )


def move(project: Project, name: str, old: str, new: str, text: str, subject: str) -> None:
    project.commit_plan({f"tickets/{old}/{name}.md": None, f"tickets/{new}/{name}.md": text}, f"scriptorium: {subject}")


@pytest.fixture
def original(project: Project) -> Project:
    """A project of the original: two tickets are done, one is queued and active, three are open."""
    keeps = ["areas", "decisions", "tickets/open", "tickets/in-progress", "tickets/done"]
    project.commit_plan(
        {**{f"{directory}/.gitkeep": "" for directory in keeps}, "spec.md": PLACEHOLDER},
        "scriptorium: initialize plan branch",
    )
    project.commit_plan({"spec.md": SPEC}, "scriptorium: update spec from architect")
    project.commit_plan({"areas/greeter.md": "# Greeter\n"}, "scriptorium: update areas from spec")
    project.commit_plan(
        {
            "tickets/open/0001-thing-1.md": ticket(1),
            "tickets/open/0002-thing-2.md": ticket(2, "none"),
            "tickets/open/0003-thing-3.md": ticket(3, "0001, 0002"),
            "tickets/open/0004-thing-4.md": ticket(4, "-"),
            "tickets/open/0114-0106-two-numbers.md": ticket(114, "0003"),
            "tickets/.area-hashes": UNKNOWN["tickets/.area-hashes"],
        },
        "scriptorium: create tickets from areas",
    )
    finish(project, "0001-thing-1", 1)
    project.commit_plan({"journal.md": "assign"}, "scriptorium: begin transition assign 0002-thing-2")
    finish(project, "0002-thing-2", 2)
    project.commit_plan({"journal.md": None}, "scriptorium: complete transition assign 0002-thing-2")
    submit(project, "0003-thing-3", 3)
    project.commit_plan(UNKNOWN, "Notes of a person")
    project.git("branch", "scriptorium/ticket-0001")
    return project


def submit(project: Project, name: str, number: int) -> None:
    """Assign, reopen, assign, run and queue a ticket with commits as the original writes them."""
    assigned = ticket(number, "", worktree(name))
    move(project, name, "open", "in-progress", assigned, f"assign ticket {name}")
    move(project, name, "in-progress", "open", assigned + FAILURE, f"reopen ticket {name[:4]}")
    move(project, name, "open", "in-progress", assigned + FAILURE, f"assign ticket {name}")
    project.commit_plan(
        {f"tickets/in-progress/{name}.md": assigned + FAILURE + RUN}, f"scriptorium: record agent run {name}"
    )
    item = f"{PENDING}/0001-{name[:4]}.md"
    project.commit_plan(
        {f"{PENDING}/.gitkeep": "", item: queue_item(name), "queue/merge/active.md": ""},
        f"scriptorium: enqueue merge request {name[:4]}",
    )
    project.commit_plan({"queue/merge/active.md": f"{item}\n"}, "scriptorium: process merge queue")


def finish(project: Project, name: str, number: int) -> None:
    submit(project, name, number)
    text = ticket(number, "", worktree(name)) + FAILURE + RUN + SUCCESS
    files: dict[str, str | None] = {
        f"tickets/in-progress/{name}.md": None,
        f"tickets/done/{name}.md": text,
        f"{PENDING}/0001-{name[:4]}.md": None,
        "queue/merge/active.md": "",
    }
    project.commit_plan(files, f"scriptorium: complete ticket {name[:4]}")
    project.commit_plan({"queue/merge/active.md": ""}, "scriptorium: cleanup merge queue")


def test_fsck_has_nothing_to_say(original: Project) -> None:
    assert original.run("fsck") == (0, "", "")


def test_what_went_wrong_in_its_history_is_a_warning(original: Project) -> None:
    both = {"tickets/done/0004-thing-4.md": ticket(4)}
    original.commit_plan(both, "scriptorium: complete ticket 0004")
    original.commit_plan({"tickets/open/0004-thing-4.md": None}, "scriptorium: repair a half move")
    original.commit_plan({"tickets/done/0004-thing-4.md": None}, "scriptorium: forget")

    assert {finding.level for finding in fsck(original.workspace)} == {Level.WARNING}
    assert original.run("fsck").code == 0


def test_its_plan_is_read(original: Project) -> None:
    plan = original.workspace.plan.snapshot()
    assert plan.tickets(State.OPEN) == ["0004-thing-4", "0114-0106-two-numbers"]
    assert plan.tickets(State.IN_PROGRESS) == ["0003-thing-3"]
    assert plan.tickets(State.DONE) == ["0001-thing-1", "0002-thing-2"]
    assert plan.tickets(State.STUCK) == []
    assert (plan.has_spec, list(plan.areas), original.workspace.plan.next_id(plan)) == (True, ["greeter"], 115)
    assert [(item.ticket, item.summary) for item in plan.queue()] == [("0003-thing-3", "it works")]
    assert plan.active == plan.queue()[0]
    assert plan.ticket("0114-0106-two-numbers", State.OPEN).depends == ("0003",)


def test_its_placeholder_is_no_spec(original: Project) -> None:
    original.commit_plan({"spec.md": PLACEHOLDER})
    assert not original.workspace.plan.snapshot().has_spec


def test_status_and_worktrees_know_its_tickets(original: Project) -> None:
    status = original.run("status")
    assert status.code == 0
    assert status.out.splitlines()[:3] == ["Open: 2", "In Progress: 1", "Done: 2"]
    assert original.run("worktrees").code == 0


def test_its_ticket_in_hand_lands_and_the_next_ones_follow(original: Project) -> None:
    original.git("branch", "scriptorium/ticket-0003")
    original.git("checkout", "--quiet", "scriptorium/ticket-0003")
    original.commit({"hello": "hello\n"})
    original.git("checkout", "--quiet", "master")
    workspace = original.workspace

    merged = process_next(workspace)
    assert merged is not None
    assert (merged.ticket, merged.outcome) == ("0003-thing-3", "landed")
    assert (original.root / "hello").exists()
    first, second = assign_next(workspace), assign_next(workspace)
    assert first is not None
    assert second is not None
    assert (first[0], second[0]) == ("0004-thing-4", "0114-0106-two-numbers")

    files = original.plan_files()
    assert files["queue/merge/active.md"] == ""
    assert [path for path in files if path.startswith(PENDING)] == [f"{PENDING}/.gitkeep"]
    assert fsck(workspace) == []


def test_a_failed_attempt_is_counted_in_its_own_spelling(original: Project) -> None:
    original.gate("false")
    workspace = original.workspace
    original.git("branch", "scriptorium/ticket-0003")
    before = original.plan_files()["tickets/in-progress/0003-thing-3.md"]
    original.commit_plan({"tickets/in-progress/0003-thing-3.md": before + "\n**Repair:** true\n"})

    merged = process_next(workspace)

    assert merged is not None
    assert merged.outcome == "reopened"
    after = original.plan_files()["tickets/open/0003-thing-3.md"]
    assert after.startswith("# Ticket 3\n\n**Area:** greeter\n**Attempts:** 1\n\n## Goal\n")
    assert "## Attempt 1 failed: gate" in after


def test_unknown_files_stay_as_they_are(original: Project) -> None:
    assert assign_next(original.workspace) is not None
    files = original.plan_files()
    assert {path: files[path] for path in UNKNOWN} == UNKNOWN
