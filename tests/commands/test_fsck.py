"""scriptorium fsck: one line for each problem of the plan and of its history, and silence otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scriptorium.coding.assign import assign_next
from scriptorium.coding.attempt import run_attempt
from scriptorium.merge_queue.queue import process_next
from scriptorium.plan.finding import Finding, Level
from scriptorium.plan.history import PlanCommit, check_history, parse_history
from scriptorium.reports.fsck import fsck
from tests.support import PLAN, Project, sealed

TICKET = "---\narea: core\n---\n# Thing\n"
ITEM = "# Merge Queue Item\n\n**Ticket:** tickets/in-progress/{0}.md\n"


@pytest.fixture
def plan(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def found(project: Project) -> list[Finding]:
    return fsck(project.workspace)


def move(project: Project, ticket: str, old: str, new: str, message: str) -> str:
    return project.commit_plan({f"tickets/{old}/{ticket}.md": None, f"tickets/{new}/{ticket}.md": TICKET}, message)


# -- a sound plan --------------------------------------------------------------------------------------


def test_a_new_plan_is_clean_and_silent(plan: Project) -> None:
    assert plan.run("fsck") == (0, "", "")


def test_tickets_that_landed_failed_and_got_stuck_leave_nothing_to_report(plan: Project) -> None:
    plan.configure(max_attempts=2)
    plan.agent('cat >/dev/null; case $SCRIPTORIUM_TICKET in 0001*) echo new >new; scriptorium submit-pr "done";; esac')
    plan.ticket("0001")
    plan.ticket("some words, no number")
    workspace = plan.workspace
    while assigned := assign_next(workspace):
        run_attempt(workspace, assigned[0])
        process_next(workspace)

    verbs = sorted(subject.split()[1] for subject in plan.plan_log()[3:])
    assert verbs == ["assign", "assign", "assign", "complete", "enqueue", "park", "reopen"]
    assert found(plan) == []


def test_a_person_may_create_edit_rename_and_move_tickets(plan: Project) -> None:
    plan.ticket("0001")
    plan.commit_plan({"tickets/open/0001-thing.md": TICKET + "more\n"})
    plan.commit_plan({"tickets/open/0001-thing.md": None, "tickets/stuck/0001-other-name.md": TICKET})
    plan.commit_plan({"notes/ideas.txt": "unknown files are left alone\n"})

    assert found(plan) == []


def test_a_merge_by_a_person_counts_as_what_it_brought(plan: Project) -> None:
    fork = plan.git("rev-parse", PLAN)
    plan.ticket("0001")
    tree = plan.git("rev-parse", f"{PLAN}^{{tree}}")
    side = plan.git("commit-tree", tree, "-p", fork, "-m", "The same on the side")
    plan.git("update-ref", f"refs/heads/{PLAN}", plan.git("commit-tree", tree, "-p", fork, "-p", side, "-m", "Merge"))
    assert found(plan) == []

    commit = plan.commit_plan({"tickets/open/0001-thing.md": None})
    assert found(plan) == [("warning", "0001-thing", f"vanished in commit {commit[:12]}")]


def test_a_shallow_clone_is_judged_by_what_it_has(plan: Project, tmp_path: Path) -> None:
    plan.ticket("0001")
    plan.ticket("0002")
    plan.run("assign")
    plan.git("clone", "--quiet", "--depth=1", "--no-single-branch", plan.root.as_uri(), str(tmp_path / "clone"))
    plan.git("branch", "--quiet", PLAN, f"origin/{PLAN}", cwd=tmp_path / "clone")

    assert plan.run("fsck", cwd=tmp_path / "clone") == (0, "", "")


def test_the_number_of_git_processes_does_not_grow_with_history(plan: Project, tmp_path: Path) -> None:
    def processes(trace: str) -> int:
        plan.run("fsck", env={"GIT_TRACE2_EVENT": str(tmp_path / trace)})
        return (tmp_path / trace).read_text().count('"event":"start"')

    few = processes("few")
    for number in range(10):
        plan.ticket(f"{number + 1:04d}", state="done")

    assert few > 0
    assert processes("many") == few


# -- problems of the present state -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("open/0001-a", "---\narea: [core\n---\n", "its front matter is not YAML"),
        ("open/0001-a", "---\narea: &a core\n---\n", "its front matter has an unsupported YAML anchor in line 2"),
        ("in-progress/0001-a", "---\narea: core\n", "its front matter has no closing '---' line"),
        ("stuck/0001-a", "---\n- area\n---\n", "its front matter is not a list of 'key: value' lines"),
        ("open/0001-a", "# Thing\n", "it names no area"),
        ("open/0001-a", "---\narea: core\ndepends: [7]\n---\n", "it depends on '0007', which does not exist"),
        ("open/0001-a", "---\narea: core\ndepends: [1]\n---\n", "it depends on itself: 0001 -> 0001"),
        ("in-progress/a", TICKET, "is 'in-progress' but has no number"),
        ("done/a", TICKET, "is 'done' but has no number"),
    ],
)
def test_a_ticket_that_cannot_be_used_is_an_error(plan: Project, name: str, text: str, message: str) -> None:
    plan.commit_plan({f"tickets/{name}.md": text})

    [(level, subject, what)] = found(plan)
    assert (level, subject) == ("error", name.partition("/")[2])
    assert what.startswith(message)


def test_a_cycle_of_dependencies_is_reported_for_each_ticket(plan: Project) -> None:
    plan.ticket("0001", depends=["0002"])
    plan.ticket("0002", depends=["0001"])

    assert found(plan) == [
        ("error", "0001-thing", "it depends on itself: 0001 -> 0002 -> 0001"),
        ("error", "0002-thing", "it depends on itself: 0002 -> 0001 -> 0002"),
    ]


def test_a_ticket_in_two_states_is_an_error_that_names_the_commit(plan: Project) -> None:
    plan.ticket("0001", state="in-progress")
    commit = plan.commit_plan({"tickets/done/0001-thing.md": TICKET})

    assert found(plan) == [
        ("error", "0001-thing", "its id is in more than one place: 'in-progress/0001-thing' and 'done/0001-thing'"),
        (
            "warning",
            "0001-thing",
            f"appeared in more than one place, 'done/0001-thing' and 'in-progress/0001-thing', in commit {commit[:12]}",
        ),
    ]


def test_two_tickets_with_one_id_are_an_error_until_one_is_renamed(plan: Project) -> None:
    plan.ticket("0001-a")
    plan.ticket("0001-b")
    assert [(level, subject) for level, subject, _ in found(plan)] == [
        ("error", "0001-a"),
        ("error", "0001-b"),
        ("warning", "0001-b"),
    ]

    plan.commit_plan({"tickets/open/0001-b.md": None, "tickets/open/0002-b.md": TICKET})
    assert [(level, subject) for level, subject, _ in found(plan)] == [("warning", "0001-b")]


@pytest.mark.parametrize("state", ["open", "done", "stuck"])
def test_a_queue_item_of_a_ticket_that_is_not_in_progress_is_an_error(plan: Project, state: str) -> None:
    plan.ticket("0001", state=state)
    path = "queue/merge/pending/0001-0001-thing.md"
    plan.commit_plan({path: ITEM.format("0001-thing")})

    assert found(plan) == [("error", path, f"queues ticket '0001-thing', which is '{state}'")]


def test_a_queue_item_of_no_ticket_at_all_is_an_error(plan: Project) -> None:
    path = "queue/merge/pending/0001-0009-gone.md"
    plan.commit_plan({path: ITEM.format("0009-gone")})

    assert found(plan) == [("error", path, "queues ticket '0009-gone', which does not exist")]


def test_a_foreign_file_and_a_doubled_item_in_the_queue_are_warnings(plan: Project) -> None:
    plan.ticket("0001", state="in-progress")
    pending = "queue/merge/pending"
    plan.commit_plan({f"{pending}/{name}.md": ITEM.format("0001-thing") for name in ("0001-0001", "0002-0001")})
    plan.commit_plan({f"{pending}/readme.md": "items wait here\n"})

    assert found(plan) == [
        ("warning", f"{pending}/0002-0001.md", "queues ticket '0001-thing' again"),
        ("warning", f"{pending}/readme.md", "is not a queue item"),
    ]


@pytest.mark.parametrize(
    ("active", "expected"),
    [
        ("", []),
        ("queue/merge/pending/0001-0001-thing.md\n", []),
        (ITEM.format("0001-thing"), []),
        ("queue/merge/pending/0007-0007-gone.md\n", [("warning", "names no queue item")]),
        ("what is this", [("warning", "names no queue item")]),
        (ITEM.format("0002-thing"), [("warning", "names ticket '0002-thing', which is not queued"),
                                     ("error", "queues ticket '0002-thing', which is 'open'")]),
    ],
)  # fmt: skip
def test_active_is_empty_or_the_item_in_hand(plan: Project, active: str, expected: list[tuple[str, str]]) -> None:
    plan.ticket("0001", state="in-progress")
    plan.ticket("0002")
    plan.commit_plan({"queue/merge/pending/0001-0001-thing.md": ITEM.format("0001-thing")})
    plan.commit_plan({"queue/merge/active.md": active})

    assert [(level, what) for level, subject, what in found(plan) if subject == "queue/merge/active.md"] == expected


def test_a_done_ticket_whose_branch_is_not_in_master_is_an_error(plan: Project) -> None:
    plan.ticket("0001", state="done")
    plan.ticket("0002", state="done")
    plan.ticket("0003", state="stuck")
    for branch in ("scriptorium/ticket-0001", "scriptorium/ticket-0003"):
        plan.git("checkout", "--quiet", "-b", branch, "master")
        plan.commit({"work": branch})
    plan.git("branch", "scriptorium/ticket-0002", "master")
    plan.git("checkout", "--quiet", "master")

    assert found(plan) == [
        ("error", "scriptorium/ticket-0001", "its ticket is 'done' but the branch is not in 'master'")
    ]


# -- problems in history ---------------------------------------------------------------------------------


def test_a_mistake_of_a_person_that_is_repaired_stays_as_a_warning(plan: Project) -> None:
    plan.ticket("0001")
    commit = plan.commit_plan({"tickets/stuck/0001-thing.md": TICKET})
    plan.commit_plan({"tickets/open/0001-thing.md": None})

    [(level, subject, message)] = found(plan)
    assert (level, subject) == ("warning", "0001-thing")
    assert message.endswith(f"in commit {commit[:12]}")


def test_a_ticket_that_a_person_removed_is_a_warning_until_it_is_back(plan: Project) -> None:
    plan.ticket("0001")
    commit = plan.commit_plan({"tickets/open/0001-thing.md": None})
    assert found(plan) == [("warning", "0001-thing", f"vanished in commit {commit[:12]}")]

    plan.ticket("0001", state="done")
    assert found(plan) == []


def test_an_id_that_is_given_out_again_is_reported(plan: Project) -> None:
    plan.ticket("0001-first")
    plan.commit_plan({"tickets/open/0001-first.md": None})
    plan.ticket("0001-second")

    [(level, subject, message)] = found(plan)
    assert (level, subject) == ("warning", "0001-second")
    assert message.startswith("reused the id of '0001-first', which had vanished,")


def test_a_transition_that_moves_two_tickets_is_an_error(plan: Project) -> None:
    plan.ticket("0001")
    plan.ticket("0002")
    files: dict[str, str | None] = {f"tickets/open/{name}.md": None for name in ("0001-thing", "0002-thing")}
    files |= {f"tickets/in-progress/{name}.md": TICKET for name in ("0001-thing", "0002-thing")}
    subject = "scriptorium: assign ticket 0001-thing"
    commit = plan.commit_plan(files, f"{subject}\n\nTicket: 0001-thing\nMove: open -> in-progress")

    [(level, where, message)] = found(plan)
    assert (level, where) == ("error", commit[:12])
    assert message.startswith(f"'{subject}' should move one ticket but touches 'in-progress/0001-thing', ")


@pytest.mark.parametrize("message", ["scriptorium: update areas from spec", "scriptorium: drop queue item of x"])
def test_a_commit_of_scriptorium_with_an_unstated_move_is_an_error(plan: Project, message: str) -> None:
    plan.ticket("0001")
    commit = move(plan, "0001-thing", "open", "done", message)

    assert found(plan) == [("error", commit[:12], f"'{message}' moves a ticket but is not a transition")]


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("assign ticket 0001-thing\n\nMove: open -> stuck", "moves 'open/0001-thing' to 'done/0001-thing' but says"),
        ("assign ticket 0001-thing", "moves 'open/0001-thing' to 'done/0001-thing' but says 'Move: '"),
        ("complete ticket 0002-x\n\nMove: open -> done", "moves 'open/0001-thing' to 'done/0001-thing', which is not"),
        ("enqueue ticket 0001-thing\n\nTicket: 0001-thing", "moves 'done/0001-thing', 'open/0001-thing' but should"),
        ("retry ticket 0001-thing\n\nTicket: 0001-thing\nMove: open -> stuck", "moves 'open/0001-thing' to"),
    ],
)
def test_a_transition_that_does_not_do_what_it_says_is_an_error(plan: Project, message: str, what: str) -> None:
    plan.ticket("0001")
    commit = move(plan, "0001-thing", "open", "done", f"scriptorium: {message}")

    [(level, subject, text)] = found(plan)
    assert (level, subject) == ("error", commit[:12])
    assert text.startswith(f"'scriptorium: {message.splitlines()[0]}' {what}")


@pytest.mark.parametrize(
    ("verb", "what"),
    [("enqueue", "adds no queue item for it"), ("reopen", "should move one ticket but touches none")],
)
def test_a_transition_that_does_nothing_is_an_error(plan: Project, verb: str, what: str) -> None:
    plan.ticket("0001", state="in-progress")
    commit = plan.commit_plan({"spec.md": "text\n"}, "nothing to do with tickets")
    commit = plan.commit_plan({"tickets/in-progress/0001-thing.md": TICKET}, f"scriptorium: {verb} ticket 0001-thing")

    assert found(plan) == [("error", commit[:12], f"'scriptorium: {verb} ticket 0001-thing' {what}")]


def test_a_queued_ticket_that_left_progress_is_an_error(plan: Project) -> None:
    plan.ticket("0001", state="in-progress")
    path = "queue/merge/pending/0001-0001-thing.md"
    plan.commit_plan({path: ITEM.format("0001-thing")})
    message = "scriptorium: reopen ticket 0001-thing\n\nMove: in-progress -> open"
    commit = move(plan, "0001-thing", "in-progress", "open", message)
    plan.commit_plan({path: None})

    assert found(plan) == [("error", "0001-thing", f"left 'in-progress' but not the queue in commit {commit[:12]}")]


# -- output ----------------------------------------------------------------------------------------------


def test_json_is_one_object(plan: Project) -> None:
    assert json.loads(plan.run("fsck", "--json").out) == {"findings": []}

    plan.ticket("0001", depends=["0002"])
    result = plan.run("fsck", "--json")
    message = "it depends on '0002', which does not exist"
    assert json.loads(result.out) == {"findings": [{"level": "error", "subject": "0001-thing", "message": message}]}
    assert result.code == 1


def test_a_finding_is_a_line_and_an_error_is_exit_code_1(plan: Project) -> None:
    plan.ticket("0001", depends=["0002"])
    assert plan.run("fsck") == (1, "error\t0001-thing\tit depends on '0002', which does not exist\n", "")

    plan.ticket("0002")
    plan.commit_plan({"queue/merge/active.md": "words"})
    assert plan.run("fsck") == (0, "warning\tqueue/merge/active.md\tnames no queue item\n", "")


def test_any_name_is_one_field_of_one_line(plan: Project) -> None:
    names = ["1-tab\there", "2-new\nline", "3-bell\a", "4-latin-\udce9", '5-quote" and \\', "6-größe 大"]
    plan.commit_plan({f"tickets/open/{name}.md": "# no area\n" for name in names})

    lines = plan.run("fsck").out.splitlines()
    assert [line.split("\t")[1] for line in lines] == [
        "1-tab?here",
        "2-new?line",
        "3-bell?",
        "4-latin-?",
        '5-quote" and \\',
        "6-größe 大",
    ]
    assert all(len(line.split("\t")) == 3 for line in lines)


def test_a_newer_format_is_refused_not_judged(plan: Project) -> None:
    plan.commit_plan({"format": "2\n"})

    result = plan.run("fsck")
    assert (result.code, result.out) == (78, "")
    assert "has format '2'" in result.err
    assert "hint: install a newer scriptorium" in result.err


def test_without_a_plan_branch_there_is_nothing_to_check(project: Project) -> None:
    result = project.run("fsck")
    assert (result.code, result.out) == (78, "")
    assert "hint: run 'scriptorium --init'" in result.err


# -- the pure functions ----------------------------------------------------------------------------------


def test_history_is_read_commit_by_commit() -> None:
    text = (
        "aa\nscriptorium: assign ticket 1-x\nTicket: 1-x\nMove: open -> in-progress\n\0"
        "\n:100644 000000 1 0 D\0tickets/open/1-x.md\0:000000 100644 0 1 A\0tickets/in-progress/1-x.md\0"
        "bb\n\n\0\n:100644 100644 1 2 M\0:odd\nname\0"
    )
    assert list(parse_history(text)) == [
        PlanCommit(
            "aa",
            "scriptorium: assign ticket 1-x",
            {"Ticket": "1-x", "Move": "open -> in-progress"},
            ("tickets/in-progress/1-x.md",),
            ("tickets/open/1-x.md",),
        ),
        PlanCommit("bb", ""),
    ]


def test_a_commit_of_the_original_is_not_judged_as_a_transition() -> None:
    events = [
        PlanCommit("aa", "scriptorium: initialize plan branch", added=("tickets/open/.gitkeep",)),
        PlanCommit(
            "bb", "scriptorium: create tickets from areas", added=("tickets/open/0001-a.md", "tickets/open/2-b.md")
        ),
        PlanCommit(
            "cc", "scriptorium: complete ticket 0001", {}, ("tickets/done/0001-a.md",), ("tickets/open/0001-a.md",)
        ),
        PlanCommit("dd", "scriptorium: assign ticket 2-b", {}, ("tickets/done/2-b.md",)),
    ]
    assert [finding.level for finding in check_history(events)] == [Level.WARNING]


def test_the_tests_environment_keeps_nothing_of_the_users(tmp_path: Path) -> None:
    environment = sealed(
        {"GIT_DIR": "x", "SCRIPTORIUM_TICKET": "x", "MAKEFLAGS": "-j", "OTHER": "stays"}, tmp_path / "h", tmp_path / "r"
    )
    assert environment.keys() & {"GIT_DIR", "SCRIPTORIUM_TICKET", "MAKEFLAGS"} == set()
    assert environment["OTHER"] == "stays"


def test_a_misspelled_key_is_a_warning_and_an_unknown_key_is_not(plan: Project) -> None:
    text = "---\narea: core\ndepend: [0002]\nprio: 3\nRepair: true\nowner: me\ndue: 2026-12-01\n---\n# Thing\n"
    plan.commit_plan({"tickets/open/0001-thing.md": text})
    assert found(plan) == [
        ("warning", "0001-thing", "'depend' is not read: did you mean 'depends'?"),
        ("warning", "0001-thing", "'prio' is not read: did you mean 'priority'?"),
        ("warning", "0001-thing", "'Repair' is not read: did you mean 'repair'?"),
    ]
