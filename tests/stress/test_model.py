"""A model of the system: every step, agent, user and crash in random order, against a small reference.

`STRESS=<minutes>` runs for so long and prints the seed of each round; `SEED=` repeats a round.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from scriptorium.plan.finding import Level
from scriptorium.project.workspace import Workspace
from scriptorium.reports.fsck import fsck
from tests import chance, figures
from tests.stress import people
from tests.stress.extent import FULL, MINUTES
from tests.stress.reference import STATES, Commit, Reference, blob_id
from tests.stress.world import MAX_ATTEMPTS, Ended, Midst, World, texts
from tests.support import PLAN

INTERLEAVINGS, STEPS = 40 if FULL else 12, 12
ROUNDS = 5
"""How often a sample is started until it has enough of every event."""

TICKETS_MOST = 4

TALLY: Counter[str] = Counter()
"""The counts of all interleavings together."""

TEXT = "---\narea: core\ndepends: [{depends}]\npriority: {priority}\nrepair: {repair}\n---\n# Thing {number}\n\nDo it."

EVENTS = {"assign": 25, "code": 125, "merge": 105, "health": 40, "run": 210, "architect": 115, "manager": 115}
"""The number of events of a step that can be disturbed; other steps have ten at most."""

outcomes = st.sampled_from(sorted(people.OUTCOMES))
paths = st.sampled_from(["shared", "human", "red", "work-0001-1", "work-0001-2", "work-0002-2"])
COMMANDS = "merge,assign,code,health,run --once,manager,architect,status,clean --force"
argvs = st.sampled_from([tuple(command.split()) for command in COMMANDS.split(",")])


class Whole(RuleBasedStateMachine):
    """The life of one project."""

    base = Path()
    template = Path()
    failed = False
    """Whether a check has failed; hypothesis may report another error when it repeats the failure."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=self.base))
        self.world = World(self.directory / "w", self.template)
        self.model = Reference(MAX_ATTEMPTS)
        self.plan_at, self.reflog = "", 0
        self.order("submit")
        self.world.order("architect", people.ARCHITECT + people.ARCHITECTS["writes"])
        self.world.order("manager", people.MANAGER + people.MANAGERS["one"])
        self.world.person(people.at_checkout("true"))
        self._check(())
        TALLY["interleavings"] += 1

    def order(self, outcome: str) -> None:
        self.outcome = outcome
        self.world.order("coding", people.CODING + people.OUTCOMES[outcome])

    def next(self) -> int:
        self.number += 1
        return self.number

    # -- what people do ----------------------------------------------------------------------------------

    def person(self, script: str) -> None:
        self.world.person(script)
        TALLY["people"] += 1
        with self.noted():
            self._check(())

    def any_script(self, data: st.DataObject) -> str:
        """Draw an action of a user."""
        known = [(state, name) for state in STATES for name in self.model.tickets(state)]
        kinds = ["commit", "edit", "switch", "stash", "spec", "area"]
        kinds += ["new"] * (len(self.model.ids) < TICKETS_MOST) + ["move", "append", "remove", "worktree"] * bool(known)
        kind = data.draw(st.sampled_from(kinds))
        number = self.next()
        if kind in ("move", "append", "remove", "worktree"):
            state, name = data.draw(st.sampled_from(known))
            return self._on_ticket(data, kind, state, name)
        match kind:
            case "commit":
                path = data.draw(paths)
                gone = path == "red" and (self.world.project.root / "red").exists()
                return people.commits(number, path, remove=gone)
            case "edit":
                path = data.draw(st.sampled_from(["notes", "mine", "shared", "human", "work-0001-1", "work-0002-2"]))
                return people.edits(number, path, stage=data.draw(st.booleans()))
            case "switch":
                return people.switches(data.draw(st.sampled_from(["master", "other"])))
            case "stash":
                return people.stashes()
            case "spec":
                return people.writes("spec.md", f"# Spec\n\nMake number {number}.\nAnd more.")
            case "area":
                return people.writes("areas/core.md", f"Area by person-{number}")
            case _:
                return self._new_ticket(data, number)

    def _new_ticket(self, data: st.DataObject, number: int) -> str:
        # a user takes the next free number, and does not reuse a removed number
        id = f"{max(map(int, self.model.ids), default=0) + 1:04d}"
        depends = data.draw(st.sampled_from(["", *sorted(self.model.ids)]))
        facts = {"priority": data.draw(st.integers(0, 1)), "repair": str(data.draw(st.booleans())).lower()}
        text = TEXT.format(depends=depends, number=number, **facts)
        return people.writes(f"tickets/open/{id}-thing.md", text)

    def _on_ticket(self, data: st.DataObject, kind: str, state: str, name: str) -> str:
        path = f"tickets/{state}/{name}.md"
        match kind:
            case "move":
                target = data.draw(st.sampled_from([other for other in STATES if other != state]))
                return people.moves(path, f"tickets/{target}/{name}.md")
            case "append":
                return people.appends(self.number, path)
            case "remove":
                return people.removes(path)
            case _:
                what = data.draw(st.sampled_from(["leaves a file", "commits", "detaches", "removes it", "breaks it"]))
                return people.in_worktree(self.number, str(self.world.project.worktree(name)), what)

    @rule(data=st.data())
    def somebody(self, data: st.DataObject) -> None:
        self.person(self.any_script(data))

    @rule(data=st.data())
    def somebody_else(self, data: st.DataObject) -> None:
        self.person(self.any_script(data))

    # -- the steps ---------------------------------------------------------------------------------------

    def midst(self, data: st.DataObject, verb: str) -> Midst | None:
        """Draw a disturbance in the middle of a step."""
        kind = data.draw(st.sampled_from(["nothing", "kill", "kill", "stop", "person", "person", "command"]))
        if kind == "nothing":
            return None
        number = data.draw(st.integers(1, EVENTS.get(verb, 10)))
        match kind:
            case "kill":
                return Midst(number, signum=signal.SIGKILL)
            case "stop":
                return Midst(number, signum=signal.SIGTERM)
            case "person":
                return Midst(number, script=self.any_script(data))
            case _:
                return Midst(number, argv=data.draw(argvs))

    def step(self, data: st.DataObject, *argv: str) -> Ended:
        midst = self.midst(data, argv[0])
        if midst and midst.script and data.draw(st.integers(0, 3)) == 0:
            (self.world.facts / "during-gate").write_text(midst.script)
            midst = Midst(10**6, script="true")
        with self.noted():
            return self._step(argv, midst)

    def _step(self, argv: tuple[str, ...], midst: Midst | None) -> Ended:
        before = self._facts()
        ended = self.world.step(*argv, midst=midst)
        if midst and not ended.disturbed and (midst.script or midst.argv):
            self.world.person(midst.script) if midst.script else self.world.step(*midst.argv)
        TALLY["steps"] += 1
        TALLY["kills"] += ended.code == -signal.SIGKILL
        TALLY["in the midst"] += ended.reached and ended.code != -signal.SIGKILL
        alone = midst is None
        assert alone is False or ended.code in (0, 1, 3, 75), ended
        assert "this is a bug" not in ended.err, ended
        assert "Traceback" not in ended.err, ended
        verbs = {argv[0]} | ({midst.argv[0]} if midst and midst.argv else set())
        self._check(verbs, ended)
        if alone:
            self._as_expected(ended, before)
        return ended

    @precondition(lambda self: self.model.tickets("open"))
    @rule(data=st.data())
    def assign(self, data: st.DataObject) -> None:
        self.step(data, "assign")

    @precondition(lambda self: bool(set(self.model.tickets("in-progress")) - set(self.model.queue())))
    @rule(data=st.data(), outcome=outcomes)
    def code(self, data: st.DataObject, outcome: str) -> None:
        self.order(outcome)
        name = data.draw(st.sampled_from(sorted(set(self.model.tickets("in-progress")) - set(self.model.queue()))))
        self.step(data, "code", name)

    @precondition(lambda self: self.model.queue())
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        self.step(data, "merge")

    @rule(data=st.data(), outcome=outcomes)
    def run(self, data: st.DataObject, outcome: str) -> None:
        self.order(outcome)
        self.step(data, "run", "--once")

    @precondition(lambda self: self.model.due("spec.md"))
    @rule(data=st.data(), how=st.sampled_from(sorted(people.ARCHITECTS)))
    def architect(self, data: st.DataObject, how: str) -> None:
        self.world.order("architect", people.ARCHITECT + people.ARCHITECTS[how])
        self.step(data, "architect")

    @precondition(lambda self: len(self.model.ids) < TICKETS_MOST and self.model.due("areas/core.md"))
    @rule(data=st.data(), how=st.sampled_from(sorted(people.MANAGERS)))
    def manager(self, data: st.DataObject, how: str) -> None:
        self.world.order("manager", people.MANAGER + people.MANAGERS[how])
        self.step(data, "manager")

    @rule(
        data=st.data(),
        argv=st.sampled_from(
            ["health", "health", "status --json", "worktrees", "init", "hooks status", "rescue list", "clean -f"]
        ),
    )
    def other(self, data: st.DataObject, argv: str) -> None:
        self.step(data, *argv.split())

    # -- what must hold ----------------------------------------------------------------------------------

    def _facts(self) -> tuple[list[str], list[str], bool]:
        model = self.model
        red = self.world.project.git("rev-parse", "master^{tree}") in self.world.lines("red")
        return model.ready(), model.queue(), red

    def _as_expected(self, ended: Ended, before: tuple[list[str], list[str], bool]) -> None:
        """An undisturbed step changes exactly what the model says."""
        ready, queue, red = before
        match ended.argv[0]:
            case "assign":
                able = [name for name in ready if not red or "repair: true" in self.model.text(name)]
                assigned = [line.split("\t")[0] for line in ended.out.splitlines()]
                assert assigned == able[:1], ended
                assert all(self.model.place(name) == "in-progress" for name in assigned)
            case "code":
                self._coded(ended)
            case "merge" if queue and ended.code == 0:
                left = [name for name in queue if name not in self.model.queue()]
                assert len(left) == 1, ended
            case "merge" if queue:
                assert ended.code == 3 or "waits" in ended.err, ended
            case "init":
                assert ended.code == 1, ended

    def _coded(self, ended: Ended) -> None:
        name = ended.argv[1]
        # a nested repository of an earlier attempt makes the submission fail
        within = list(self.world.project.worktree(name).glob("own-*/.git"))
        if self.outcome in people.SUBMITS and not within:
            assert ended.out == f"{name}\n", ended
            assert name in self.model.queue()
        elif name not in self.model.queue():
            assert ended.code == 1, ended
            assert self.model.place(name) in ("open", "stuck"), ended

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Record a failure in a block, in which nothing may be drawn."""
        try:
            yield
        except Exception as error:
            Whole.failed = True
            print(repr(error), flush=True)
            raise

    def _check(self, verbs: object, ended: Ended | None = None) -> None:
        try:
            self._follow_plan(tuple(verbs))  # type: ignore[arg-type]
            self._follow_master()
            self._nothing_is_lost()
            self._checkout_is_theirs()
            self._fsck()
            assert not self.world.lines("unclean"), "a gate ran on more than a commit"
        except BaseException:
            print(ended, flush=True)
            raise
        TALLY["checks"] += 1

    def _follow_plan(self, verbs: tuple[str, ...]) -> None:
        git = self.world.project.git
        now = git("rev-parse", PLAN)
        if now == self.plan_at:
            return
        since = f"{self.plan_at}..{now}" if self.plan_at else now
        out = git("rev-list", "--first-parent", "--reverse", "--parents", since)
        lines = [line.split() for line in out.splitlines()]
        assert all(len(line) <= 2 for line in lines), "history is not linear"
        assert not self.plan_at or lines[0][1] == self.plan_at, "the plan branch went back"
        for oid, *_ in lines:
            commit = self._read(oid)
            if commit.message.startswith("scriptorium: initialize"):
                commit.by = "Person"
            self.model.follow(commit, verbs)
        self.plan_at = now

    def _read(self, oid: str) -> Commit:
        git = self.world.project.git
        by, message = git("show", "-s", "--format=%cn%n%B", oid).split("\n", 1)
        out = git("diff-tree", "--root", "-r", "-z", "--raw", "--no-renames", "--no-commit-id", oid)
        words = out.split("\0")
        changes: dict[str, str | None] = {}
        for facts, path in zip(words[::2], words[1::2], strict=False):
            blob, letter = facts.split()[3:5]
            changes[path] = None if letter == "D" else self._blob(blob)
        return Commit(oid, by, message, changes)

    def _blob(self, oid: str) -> str:
        argv = ["git", "cat-file", "blob", oid]
        return subprocess.run(argv, cwd=self.world.project.root, capture_output=True, check=True).stdout.decode()

    def _follow_master(self) -> None:
        """Only a user has moved master, or the tool to a descendant whose tree has passed the gate."""
        git = self.world.project.git
        moves = git("reflog", "show", "--format=%H", "refs/heads/master").splitlines()[::-1]
        mine, green = set(self.world.lines("mine")), set(self.world.lines("green"))
        green |= {git("rev-parse", f"{commit}^{{tree}}") for commit in {moves[0], *mine}}  # commits of the user
        for old, new in pairwise(moves[max(self.reflog - 1, 0) :] if self.reflog else []):
            if new in mine:
                continue
            assert git("rev-parse", f"{new}^{{tree}}") in green, f"master moved to {new}, which no gate has passed"
            git("merge-base", "--is-ancestor", old, new)
            TALLY["landings"] += 1
        self.reflog = len(moves)
        contained = set(git("rev-list", "master").split())
        for name in self.model.tickets("done"):
            if name[:4] not in self.model.by_hand:
                submitted = self._submitted(name)
                assert submitted in contained, f"'{name}' is done, and {submitted} is not in master"

    def _submitted(self, name: str) -> str:
        form = ("--fixed-strings", f"--grep=enqueue ticket {name}", "--format=%(trailers:key=Head,valueonly)")
        return self.world.project.git("log", "-1", *form, PLAN).strip()

    def _nothing_is_lost(self) -> None:
        project = self.world.project
        known = set(project.git("rev-list", "--objects", "--all", "--no-object-names").split())
        lost = [commit for commit in self.world.lines("made") if commit not in known]
        assert not lost, f"lost commits {lost}"
        missing = [text for text in self.world.lines("written") if blob_id(f"{text}\n") not in known]
        if missing:
            missing = sorted({*missing} - set(texts(self.world.directory / "root", project.root)))
        assert not missing, f"lost files {missing}"

    def _checkout_is_theirs(self) -> None:
        argv = ["/bin/sh", "-c", people.SEEN]
        now = subprocess.run(argv, cwd=self.world.project.root, capture_output=True, check=True).stdout.decode()
        assert now == (self.world.facts / "seen").read_text(), "the checkout is not as its person left it"

    def _fsck(self) -> None:
        workspace = Workspace.open(self.world.project.root)
        try:
            errors = [found for found in fsck(workspace) if found.level is Level.ERROR]
        finally:
            workspace.repository.objects.close()
        # the model makes no claim about edits of the plan by the user
        numbers = {found: set(re.findall(r"\b\d{4}\b", f"{found.subject} {found.message}")) for found in errors}
        ours = [found for found in errors if not numbers[found] & self.model.by_hand]
        assert not ours, ours

    # -- the end -----------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if not Whole.failed and hasattr(self, "world"):
                with self.noted():
                    self._finish()
        finally:
            if hasattr(self, "world"):
                self.world.close()
                shutil.rmtree(self.directory, ignore_errors=True)

    def _finish(self) -> None:
        """With agents that do their work and no disturbance, the flow reaches its end from any state."""
        world, model = self.world, self.model
        calm = "git stash push -qu || true; git switch -q master; git rm -q --ignore-unmatch red\n"
        calm += 'git diff --cached --quiet || { git commit -qm "Repair"; git rev-parse HEAD >>"$FACTS/mine"; }'
        self.person(people.at_checkout(calm))
        (world.facts / "during-gate").unlink(missing_ok=True)
        self.order("repairs the gate")
        world.order("architect", people.ARCHITECT + people.ARCHITECTS["writes"])
        world.order("manager", people.MANAGER + people.MANAGERS["one"])
        ended = world.step("run", "--until-idle")
        self._check(("run",), ended)
        stuck = model.tickets("stuck")
        waiting = {name for name in model.tickets("open") if name not in model.ready()}
        assert not model.queue(), f"the queue is not empty: {ended}"
        assert not model.tickets("in-progress"), f"tickets are in progress: {ended}"
        assert set(model.tickets("open")) <= waiting, f"ready tickets are open: {ended}"
        assert ended.code == (1 if stuck or waiting else 0) or (stuck and ended.code == 1), ended
        TALLY["tickets done"] += len(model.tickets("done"))
        TALLY["transitions"] += model.transitions
        TALLY["rescued"] += len(world.project.refs("refs/scriptorium/rescue/"))


def _profile(count: int, **more: object) -> settings:
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(
        max_examples=count, stateful_step_count=STEPS, deadline=None, database=None,
        suppress_health_check=quiet, print_blob=False, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_in_any_order_of_events_each_ticket_has_one_state_and_none_is_lost(tmp_path: Path) -> None:
    Whole.base, Whole.template = tmp_path, World.template(tmp_path / "template")
    Whole.failed = False
    TALLY.clear()
    number, rounds = chance.seed(), 0
    phases = [Phase.generate, Phase.shrink] if FULL else [Phase.generate]  # this can take an hour
    end = time.monotonic() + MINUTES * 60
    while True:
        try:
            run_state_machine_as_test(seed(number)(Whole), settings=_profile(INTERLEAVINGS, phases=phases))
        except Flaky:  # the result of a kill depends on timing, so a repeated start may continue differently
            if Whole.failed:
                raise
        rounds += 1
        if time.monotonic() >= end and (_enough() or (rounds >= ROUNDS and not FULL)):
            break
        number = chance.use(number + 1)
    assert _enough(), TALLY
    figures.publish("model", [(name, TALLY[name]) for name in sorted(TALLY)], whole=FULL)


def _enough() -> bool:
    least = {"interleavings": INTERLEAVINGS, "tickets done": INTERLEAVINGS // 2 + 1, "kills": INTERLEAVINGS // 4 + 1}
    return all(TALLY[what] >= count for what, count in least.items())
