"""The plan as a database: one snapshot, one commit, and the loser of a race decides again."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git.repository import Repository
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import BRANCH, REF, Plan
from scriptorium.plan.store import PlanStore
from scriptorium.plan.ticket import State
from tests.plan.store_cases import written
from tests.support import PLAN, Project

WRITERS, ROUNDS = 8, 25

WRITER = """
import sys
from pathlib import Path
from scriptorium.git.repository import Repository
from scriptorium.plan.change import PlanChange as Change
from scriptorium.plan.store import PlanStore

store = PlanStore(Repository.discover(Path.cwd()))
me, rounds = sys.argv[1], int(sys.argv[2])
name = f"tickets/{{}}/{me}.md".format
for turn in range(rounds):
    old, new = ("open", "in-progress") if turn % 2 == 0 else ("in-progress", "open")
    def decide(plan):
        count = int(plan.read("count") or b"0")
        return Change("turn", f"{me} {turn}", moves={name(old): name(new)}, writes={"count": b"%d" % (count + 1)})
    assert store.transact(decide)
"""


def crash_files(project: Project) -> list[Path]:
    return list(project.root.rglob("fast_import_crash*"))


# -- reading --------------------------------------------------------------------------------------------


def test_a_new_plan_has_its_directories_and_nothing_in_them(project: Project, store: PlanStore) -> None:
    plan = store.snapshot()
    assert [plan.tickets(state) for state in State] == [[], [], [], []]
    assert (plan.areas, plan.queue(), plan.has_spec, store.next_id(plan)) == ({}, [], False, 1)
    assert project.plan_log() == ["scriptorium: initialize plan branch"]
    assert project.git("rev-list", "--max-parents=0", PLAN) == plan.commit


def test_a_snapshot_is_unaffected_by_later_commits(project: Project, store: PlanStore) -> None:
    project.ticket("0001-first")
    plan = store.snapshot()
    project.commit_plan({"tickets/open/0001-first.md": None, "tickets/open/0002-second.md": "text"})

    assert plan.tickets(State.OPEN) == ["0001-first"]
    assert plan.ticket("0001-first", State.OPEN).area == "core"
    assert store.snapshot().tickets(State.OPEN) == ["0002-second"]


def test_what_is_not_there_is_empty(store: PlanStore) -> None:
    plan = store.snapshot()
    assert (plan.read("nothing"), plan.blob("tickets"), plan.names("no/such/place"), plan.find("0001")) == (
        b"", "", [], None,
    )  # fmt: skip


def test_a_ticket_is_found_by_name_and_by_number(project: Project, store: PlanStore) -> None:
    project.ticket("0012-thing", state="stuck")
    plan = store.snapshot()
    for wanted in ("0012-thing", "0012", "12"):
        assert plan.find(wanted) == ("0012-thing", State.STUCK)
    assert plan.find("thing") is None


def test_the_placeholder_is_no_spec_and_words_are(project: Project, store: PlanStore) -> None:
    project.commit_plan({"spec.md": "# Spec\n\nRun `scriptorium plan` to build your spec with the Architect."})
    assert not store.snapshot().has_spec
    project.commit_plan({"spec.md": "# Spec\n\nA calculator.\n"})
    assert store.snapshot().has_spec


def test_files_that_are_no_tickets_are_left_alone(project: Project, store: PlanStore) -> None:
    project.commit_plan({"tickets/open/notes.txt": "x", "tickets/open/more/0001-x.md": "x", "tickets/README.md": "x"})
    plan = store.snapshot()
    assert plan.tickets(State.OPEN) == []
    assert store.next_id(plan) == 1


def test_without_a_plan_branch_every_command_says_how_to_make_one(project: Project) -> None:
    expected = f"scriptorium: there is no branch '{BRANCH}'\nhint: run 'scriptorium --init' in this repository\n"
    assert project.run("status") == (78, "", expected)


def test_a_newer_format_is_refused(project: Project, store: PlanStore) -> None:
    project.commit_plan({"format": "2\n"})
    with pytest.raises(ScriptoriumError, match="has format '2', but this version reads format 1") as caught:
        store.snapshot()
    assert caught.value.code is ExitCode.CONFIG
    assert project.run("assign").code == 78


def test_a_second_init_changes_nothing(project: Project, store: PlanStore) -> None:
    before = store.snapshot()
    with pytest.raises(ScriptoriumError, match="already exists"):
        store.create()
    assert store.snapshot() == before
    assert project.git("for-each-ref", "refs/scriptorium") == ""


# -- writing --------------------------------------------------------------------------------------------


def test_a_change_is_one_commit_with_all_of_it(project: Project, store: PlanStore) -> None:
    project.ticket("0001-thing")
    before = store.snapshot()
    change = PlanChange("assign", "ticket 0001-thing", trailers={"Ticket": "0001-thing", "Empty": "", "Long": "a\n b"})
    change.moves = {"tickets/open/0001-thing.md": "tickets/in-progress/0001-thing.md"}
    change.writes = {"areas/core.md": b"# Core\n"}
    change.removes = ["decisions/.gitkeep"]
    plan = written(store, change)

    assert project.git("rev-list", "--parents", "-1", PLAN) == f"{plan.commit} {before.commit}"
    assert project.git("diff-tree", "-r", "-M", "--name-status", before.commit, plan.commit).splitlines() == [
        "A\tareas/core.md",
        "D\tdecisions/.gitkeep",
        "R100\ttickets/open/0001-thing.md\ttickets/in-progress/0001-thing.md",
    ]
    message = project.git("log", "-1", "--format=%an|%s|%(trailers:only,unfold)", PLAN)
    assert message.startswith("scriptorium|scriptorium: assign ticket 0001-thing|Ticket: 0001-thing\nLong: a b\n")
    assert "Empty" not in message


def test_a_moved_ticket_can_be_rewritten_in_the_same_commit(project: Project, store: PlanStore) -> None:
    project.ticket("0001-thing")
    old, new = "tickets/open/0001-thing.md", "tickets/done/0001-thing.md"
    plan = written(store, PlanChange("x", moves={old: new}, writes={new: b"new text"}))
    assert (plan.read(old), plan.read(new)) == (b"", b"new text")


@pytest.mark.parametrize(
    "name",
    ["0001-größe 大", '0001-quote" and \\', "0001-line\nbreak", "0001-tab\t", "0001-\udce9", "0001-  two  spaces "],
)
def test_any_name_can_be_moved(project: Project, store: PlanStore, name: str) -> None:
    project.ticket(name)
    change = PlanChange("assign", f"ticket {name}", moves={f"tickets/open/{name}.md": f"tickets/stuck/{name}.md"})
    plan = written(store, change)
    assert (plan.tickets(State.OPEN), plan.tickets(State.STUCK)) == ([], [name])


def test_a_move_of_what_is_missing_changes_nothing(project: Project, store: PlanStore) -> None:
    before = store.snapshot()
    with pytest.raises(ScriptoriumError, match=r"'tickets/open/gone.md' is not on the plan branch"):
        store.commit(before, PlanChange("x", moves={"tickets/open/gone.md": "tickets/done/gone.md"}))
    assert store.snapshot() == before
    assert crash_files(project) == []


def test_a_move_onto_another_ticket_changes_nothing(project: Project, store: PlanStore) -> None:
    project.ticket("0001-thing")
    project.ticket("0001-thing", state="done")
    before = store.snapshot()
    with pytest.raises(ScriptoriumError, match=r"'tickets/done/0001-thing.md' is already on the plan branch"):
        store.commit(before, PlanChange("x", moves={"tickets/open/0001-thing.md": "tickets/done/0001-thing.md"}))
    assert store.snapshot() == before


def test_a_prepared_change_is_known_to_no_ref(project: Project, store: PlanStore) -> None:
    refs = project.git("for-each-ref")
    update = store.prepare(store.snapshot(), PlanChange("x", writes={"file": b"text"}))
    assert project.git("for-each-ref") == refs
    assert project.git("show", f"{update.new}:file") == "text"
    assert (update.ref, update.old) == (REF, store.snapshot().commit)


# -- racing ---------------------------------------------------------------------------------------------


def test_a_change_decided_on_an_old_snapshot_is_not_written(project: Project, store: PlanStore) -> None:
    old = store.snapshot()
    theirs = project.commit_plan({"spec.md": "theirs\n"})
    assert store.commit(old, PlanChange("x", writes={"spec.md": b"mine\n"})) is None
    assert store.snapshot().commit == theirs
    assert crash_files(project) == []


def test_who_loses_the_race_decides_again_on_what_is_there_now(project: Project, store: PlanStore) -> None:
    seen = []

    def decide(plan: Plan) -> PlanChange:
        seen.append(plan.spec)
        if len(seen) == 1:
            project.commit_plan({"spec.md": "theirs\n"})
        return PlanChange("x", writes={"spec.md": plan.spec + b"mine\n"})

    plan = store.transact(decide)
    assert plan is not None
    assert plan.spec == b"theirs\nmine\n"
    assert len(seen) == 2


def test_nothing_to_do_writes_nothing(store: PlanStore) -> None:
    before = store.snapshot()
    assert store.transact(lambda _: None) is None
    assert store.snapshot() == before


def test_two_stores_never_both_win_with_the_same_change(project: Project, store: PlanStore) -> None:
    other = PlanStore(Repository.discover(project.root))
    change = PlanChange("x", writes={"file": b"text"})
    mine, theirs = store.snapshot(), other.snapshot()
    assert mine == theirs
    assert store.commit(mine, change) is not None
    assert other.commit(theirs, change) is None


def test_identical_changes_of_one_second_are_different_commits(store: PlanStore) -> None:
    plan, change = store.snapshot(), PlanChange("x", writes={"file": b"text"})
    assert store.prepare(plan, change).new != store.prepare(plan, change).new


def test_eight_writers_at_once_lose_no_transition(project: Project, store: PlanStore) -> None:
    project.commit_plan({f"tickets/open/{me}.md": f"ticket {me}\n" for me in range(WRITERS)})
    start = project.git("rev-parse", PLAN)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(me), str(ROUNDS)], cwd=project.root)
        for me in range(WRITERS)
    ]  # fmt: skip
    assert [writer.wait() for writer in writers] == [0] * WRITERS

    subjects = project.git("log", "--reverse", "--format=%s", f"{start}..{PLAN}").splitlines()
    assert len(subjects) == WRITERS * ROUNDS
    assert project.git("rev-list", "--merges", "--count", PLAN) == "0"
    for me in range(WRITERS):
        own = [subject for subject in subjects if subject.startswith(f"scriptorium: turn {me} ")]
        assert own == [f"scriptorium: turn {me} {turn}" for turn in range(ROUNDS)]
    files = project.plan_files()
    assert files["count"] == str(WRITERS * ROUNDS)
    assert sorted(path for path in files if path.startswith("tickets/in-progress/") and "git" not in path) == [
        f"tickets/in-progress/{me}.md" for me in range(WRITERS)
    ]
    assert crash_files(project) == []


def test_a_writer_lets_the_one_before_it_finish(project: Project, store: PlanStore) -> None:
    other, order = PlanStore(store.repository), list[str]()

    def write() -> None:
        assert other.transact(lambda _: PlanChange("second"))
        order.append("second")

    with store.turn():
        thread = threading.Thread(target=write)
        thread.start()
        plan = store.snapshot()
        assert store.commit(plan, PlanChange("first"))  # no other writer waits
        order.append("first")
    thread.join()

    assert order == ["first", "second"]
    assert project.plan_log()[-2:] == ["scriptorium: first", "scriptorium: second"]


def test_a_writer_that_is_stopped_in_its_turn_holds_nobody_up_for_good(
    project: Project, store: PlanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptorium.plan.store.MAX_TURN_WAIT", 0.05)
    with PlanStore(store.repository).turn():
        assert store.transact(lambda _: PlanChange("all the same"))

    assert project.plan_log()[-1] == "scriptorium: all the same"
