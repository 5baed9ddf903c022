"""The plan as a database: one snapshot, one commit, and the loser of a race decides again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git.repository import Repository
from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import BRANCH, REF, Plan
from scriptorium.plan.store import PlanStore
from scriptorium.plan.ticket import State, last_failure, parse_ticket
from scriptorium.reports.fsck import fsck
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


@pytest.fixture
def store(project: Project) -> PlanStore:
    project.init()
    return PlanStore(Repository.discover(project.root))


def written(store: PlanStore, change: PlanChange) -> Plan:
    plan = store.commit(store.snapshot(), change)
    assert plan is not None
    return plan


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


# -- a checkout of the plan -----------------------------------------------------------------------------


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


def test_a_checkout_of_the_plan_follows(project: Project, store: PlanStore, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    written(store, PlanChange("x", writes={"areas/core.md": b"# Core\n"}, removes=["decisions/.gitkeep"]))

    assert (checkout / "areas" / "core.md").read_text() == "# Core\n"
    assert not (checkout / "decisions").exists()
    assert project.git("status", "--porcelain", cwd=checkout) == ""


def test_an_overtaken_writer_does_not_move_a_plan_checkout_back(
    project: Project, store: PlanStore, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    base = store.snapshot().commit
    first = written(store, PlanChange("x", writes={"areas/one.md": b"1\n"})).commit
    written(store, PlanChange("x", writes={"areas/two.md": b"2\n"}))
    store.checkouts.follow(base, first)  # the first writer follows late
    assert project.git("status", "--porcelain", cwd=checkout) == ""
    assert (checkout / "areas" / "two.md").exists()


@pytest.mark.parametrize("then", ["assign", "run"])
def test_a_checkout_of_the_plan_follows_a_command_that_was_killed(project: Project, tmp_path: Path, then: str) -> None:
    """Otherwise the next commit in that checkout would undo the work of the command."""
    project.init()
    project.agent("true")
    project.ticket("0001")
    plan = tmp_path / "plan"
    project.git("worktree", "add", "--quiet", str(plan), PLAN)
    code = (
        "import os, signal, sys; from scriptorium import main; from scriptorium.plan.checkouts import PlanCheckouts\n"
    )
    code += "sys.argv = ['scriptorium', 'assign']\n"
    code += "PlanCheckouts.follow = lambda *_: os.kill(os.getpid(), signal.SIGKILL); main.main()"
    assert subprocess.run([sys.executable, "-c", code], cwd=project.root, check=False).returncode == -signal.SIGKILL
    assert project.git("status", "--porcelain", cwd=plan) != ""

    if then == "assign":
        project.ticket("0002")  # a commit in another worktree moves no files here
        assert project.run("assign").code == 0
    else:
        assert project.run("run", "--once").code == 0

    assert not (plan / "tickets" / "open" / "0001-thing.md").exists()
    (plan / "notes").write_text("1\n")
    project.git("add", "notes", cwd=plan)
    project.git("commit", "--quiet", "--message", "Note", cwd=plan)
    assert "tickets/in-progress/0001-thing.md" in project.plan_files()


@pytest.mark.parametrize("locked", [True, False])
def test_a_half_written_checkout_of_the_plan_follows_without_its_lock(
    project: Project, tmp_path: Path, locked: bool
) -> None:
    project.init()
    project.ticket("0001")
    plan, lock = tmp_path / "plan", project.root / ".git" / "worktrees" / "plan" / "index.lock"
    project.git("worktree", "add", "--quiet", str(plan), PLAN)
    code = (
        "import os, signal, sys\nfrom scriptorium import main\nfrom scriptorium.git.user_checkout import UserCheckout\n"
    )
    code += "sys.argv = ['scriptorium', 'assign']\n"
    code += "UserCheckout._read_tree = lambda *_: os.kill(os.getpid(), signal.SIGKILL); main.main()"
    assert subprocess.run([sys.executable, "-c", code], cwd=project.root, check=False).returncode == -signal.SIGKILL
    (plan / "tickets" / "in-progress" / "0001-thing.md").touch()
    if locked:
        lock.touch()
        os.utime(lock, (0, 0))
    project.ticket("0002")

    assigned = project.run("assign")

    assert assigned.code == 0
    assert "behind" not in assigned.err
    assert project.git("status", "--porcelain", cwd=plan) == ""
    assert not lock.exists()


def test_a_lock_in_a_checkout_of_the_plan_stays_and_is_named(
    project: Project, store: PlanStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project.git("worktree", "add", "--quiet", str(tmp_path / "plan"), PLAN)
    lock = project.root / ".git" / "worktrees" / "plan" / "index.lock"
    for number in range(2):
        lock.touch()
        os.utime(lock, (0, 0))
        written(store, PlanChange("x", writes={f"areas/{number}.md": b"1\n"}))
        assert f"Unable to create '{lock}': File exists" in caplog.text

    lock.unlink()
    written(store, PlanChange("x", writes={"areas/last.md": b"1\n"}))
    assert project.git("status", "--porcelain", cwd=tmp_path / "plan") == ""


@pytest.mark.parametrize("how", [["checkout", "--quiet", "HEAD~1", "--", "spec.md"], ["revert", "--no-commit", "HEAD"]])
def test_what_a_person_takes_back_in_a_checkout_of_the_plan_stays_so(
    project: Project, store: PlanStore, tmp_path: Path, how: list[str]
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    written(store, PlanChange("x", writes={"spec.md": b"old\n"}))
    (checkout / "spec.md").write_text("new\n")
    project.git("commit", "--quiet", "--all", "--message", "New", cwd=checkout)
    project.git(*how, cwd=checkout)

    for name in ("one", "two"):
        written(store, PlanChange("x", writes={f"areas/{name}.md": b"1\n"}))

    assert (checkout / "areas" / "two.md").exists()
    assert (checkout / "spec.md").read_text() == "old\n"
    assert project.git("status", "--porcelain", cwd=checkout) == "M  spec.md"


def test_a_checkout_of_the_plan_follows_what_a_person_commits_elsewhere(
    project: Project, store: PlanStore, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    written(store, PlanChange("x", writes={"areas/one.md": b"1\n"}))
    project.commit_plan({"areas/two.md": "1\n"})

    written(store, PlanChange("x", writes={"areas/three.md": b"1\n"}))

    assert project.git("status", "--porcelain", cwd=checkout) == ""


def test_edits_in_a_checkout_of_the_plan_are_kept(
    project: Project, store: PlanStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    (checkout / "spec.md").write_text("being written\n")

    written(store, PlanChange("x", writes={"areas/core.md": b"# Core\n"}))
    assert (checkout / "areas" / "core.md").exists()
    assert (checkout / "spec.md").read_text() == "being written\n"

    written(store, PlanChange("x", writes={"spec.md": b"by somebody else\n"}))
    assert (checkout / "spec.md").read_text() == "being written\n"
    assert "are behind 'scriptorium/plan', as edits are in the way" in caplog.text


# -- the queue and the transitions ------------------------------------------------------------------------


def enqueue(store: PlanStore, name: str) -> None:
    def decide(plan: Plan) -> PlanChange:
        return transitions.enqueue(plan, plan.ticket(name, State.IN_PROGRESS), "/worktree", "summary", "head")

    assert store.transact(decide)


def test_the_queue_keeps_the_order_of_submits(project: Project, store: PlanStore) -> None:
    names = [project.ticket(f"000{number}", state="in-progress") for number in (3, 1, 2)]
    for name in names:
        enqueue(store, name)
    assert [item.ticket for item in store.snapshot().queue()] == names


@pytest.mark.parametrize("by_path", [True, False])
def test_the_item_in_hand_goes_first_and_leaves_with_its_ticket(
    project: Project, store: PlanStore, by_path: bool
) -> None:
    first, second = (project.ticket(f"000{number}", state="in-progress") for number in (1, 2))
    for name in (first, second):
        enqueue(store, name)
    path = f"queue/merge/pending/0002-{second}.md"
    project.commit_plan({"queue/merge/active.md": f"{path}\n" if by_path else project.plan_files()[path]})
    assert [item.ticket for item in store.snapshot().queue()] == [second, first]

    store.transact(lambda plan: transitions.complete(plan, plan.ticket(second, State.IN_PROGRESS), "commit", {}))
    assert project.plan_files()["queue/merge/active.md"] == ""
    assert [item.ticket for item in store.snapshot().queue()] == [first]


def test_a_failed_attempt_is_counted_and_leaves_the_queue(project: Project, store: PlanStore) -> None:
    name = project.ticket("0001", state="in-progress")
    enqueue(store, name)
    store.transact(
        lambda plan: transitions.reopen(
            plan, plan.ticket(name, State.IN_PROGRESS), Cause.GATE, "The gate failed", "last ``` words", 2, {}
        )
    )
    ticket = store.snapshot().ticket(name, State.OPEN)
    assert ticket.attempts == 1
    assert ticket.text.endswith("## Attempt 1 failed: gate\n\nThe gate failed\n\n  ````\n  last ``` words\n  ````\n")
    assert store.snapshot().queue() == []
    assert fsck(project.workspace) == []


def test_a_ticket_whose_attempts_cannot_be_counted_is_parked(project: Project, store: PlanStore) -> None:
    project.commit_plan({"tickets/in-progress/0001-odd.md": "---\n{area: core}\n---\n# Odd\n"})
    store.transact(
        lambda plan: transitions.reopen(
            plan, plan.ticket("0001-odd", State.IN_PROGRESS), Cause.AGENT, "It failed", "", 5, {}
        )
    )
    assert store.snapshot().tickets(State.STUCK) == ["0001-odd"]
    assert project.plan_log()[-1] == "scriptorium: park ticket 0001-odd"


def test_an_agent_forges_no_trailers_fields_or_headings() -> None:
    said = (
        "no\n\nMove: open -> done\n**Repair:** true\n**Attempts:** 0\n## Attempt 9 failed: conflict\n\0\x1b[31m\ud800"
    )
    ticket = parse_ticket("0001-a", State.IN_PROGRESS, b"# T\n\n**Area:** core\n")
    plan = cast(Plan, SimpleNamespace(dequeue=lambda *_: None))
    change = transitions.reopen(plan, ticket, Cause.GATE, said, said, 5, {"Agent": said})

    message = change.message().decode()
    keys = [line.partition(":")[0] for line in message.splitlines()[2:]]
    assert keys == ["Ticket", "Move", "Attempt", "Cause", "Reason", "Agent", "Transaction"]
    assert not {"\0", "\x1b"} & {*message}
    after = parse_ticket("0001-a", State.OPEN, change.writes["tickets/open/0001-a.md"])
    assert (after.repair, after.attempts, last_failure(after.text)) == (False, 1, Cause.GATE)


@pytest.mark.parametrize("text", ["queue/merge/pending/" + "a/" * 5000, "queue/merge/pending/../../spec.md", "\0"])
def test_an_item_in_hand_that_names_no_item_is_none(project: Project, text: str) -> None:
    project.init()
    project.commit_plan({"queue/merge/active.md": text, "last-id": "9" * 5000})
    store = project.workspace.plan
    plan = store.snapshot()
    assert (plan.active, plan.queue(), store.next_id(plan)) == (None, [], 1)
