"""One flow for each point, by a few workers that each have a repository of their own."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import random
import re
import shutil
import subprocess
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium.system.files import DRAFT
from tests.crash import compare
from tests.crash.compare import Ending
from tests.crash.flow import Flow
from tests.crash.points import steps_file

WORKERS = (os.cpu_count() or 2) + 1
"""They wait for each other's processes a tenth of the time."""


TRIES = 3
"""How often a flow is begun to come to a point: its threads may take turns otherwise for once."""

ALL = os.environ.get("CRASH") == "all"
"""Whether all is tried everywhere, which takes hours, and not a sample that a seed chooses."""


@dataclass(frozen=True)
class Outcome:
    """How one flow came out; ``wrong`` says where its end is not that of an undisturbed one."""

    point: str
    reached: bool
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.point}:", *self.wrong])


class Bench:
    """A flow, and how it ends undisturbed."""

    def __init__(self, base: Path, library: Path, *, checked_out: bool = True) -> None:
        self.flow = Flow(base, library, checked_out=checked_out)
        trace, steps = base.with_name(f"{base.name}.trace"), base.with_name(f"{base.name}.steps")
        steps.mkdir()
        before = compare.look(self.flow)
        self.flow.reset()  # as before each kill: copied files are no longer those that the index knows
        ended = self.flow.traced(trace, steps)
        assert ended.status == 0, ended.out
        self.points = trace.read_text().splitlines()
        files = {point: Path(steps_file(str(steps), point)) for point in self.points}
        self.steps = {
            f"{point} step {number}": step
            for point, file in files.items()
            if file.exists()
            for number, step in enumerate(normal(file.read_text(), base).splitlines(), 1)
        }
        """What each git does, by the point at which it dies before it does so."""
        self.clean: Ending = compare.look(self.flow)
        undue = compare.undue(before, self.clean)
        assert not undue, undue
        self.calls = self.flow.calls

    def killed_at(self, point: str) -> bool:
        """Begin a flow and kill it at a point; tell whether it came there."""
        for _ in range(TRIES):
            self.flow.reset()
            if self.flow.broken_off(point).status == -9 and self._was_at(point):
                return True
            compare.running(self.flow)  # or an agent that was not killed with it writes into the next try
        return False

    def _was_at(self, point: str) -> bool:
        """Tell whether a git that was killed by its number of steps was at the one that is meant."""
        file = Path(steps_file(str(self.flow.base), point.partition(" step ")[0]))
        return point not in self.steps or normal(file.read_text(), self.flow.base).endswith(f"{self.steps[point]}\n")

    def let_time_pass(self) -> None:
        """Make what a kill left look as old as if a while had passed since."""
        home, git_directory = self.flow.project.paths.home, self.flow.project.root / ".git"
        half_made = git_directory.glob("worktrees/*/locked")
        for file in [*home.rglob(f"*{DRAFT}"), *git_directory.rglob("*.lock"), *half_made]:
            with suppress(FileNotFoundError):  # processes of the flow may be ending
                os.utime(file, (0, 0))

    def judge(self, more_calls: int = 1, without: str = "") -> list[str]:
        """Return what is wrong when the flow as it stands is taken up again, and agents called so much more often.

        ``without`` is a function of the product that is taken out of it.
        """
        self.let_time_pass()
        ended = self.flow.without(without) if without else self.flow.run()
        wrong = [] if ended.status == 0 else [f"exit code {ended.status}: {ended.out[-2000:]}"]
        wrong += compare.look(self.flow).differences(self.clean)
        return wrong + [f"called again: {call}" for call in compare.again(self.flow, self.calls, more_calls)]


Attempt = Callable[[Bench, str], Outcome]


def kill(bench: Bench, point: str) -> Outcome:
    """Kill a flow at a point and take it up again."""
    if not bench.killed_at(point):
        return Outcome(point, False)
    return Outcome(f"{point} {bench.steps.get(point, '')}", True, tuple(bench.judge()))


def kill_twice(bench: Bench, pair: str) -> Outcome:
    """Kill a flow at a point, and the one that takes it up after so many points, ``<point> | <number>``."""
    point, _, number = pair.rpartition(" | ")
    bench.flow.reset()
    first = bench.flow.broken_off(point)
    bench.let_time_pass()
    second = bench.flow.broken_off(f"number {number}")
    return Outcome(pair, (first.status, second.status) == (-9, -9), tuple(bench.judge(2)))


def kill_and_break(bench: Bench, case: str) -> Outcome:
    """Kill a flow at a point, and take it up without what mends that, ``<point> | <function>``."""
    point, _, function = case.rpartition(" | ")
    pkgutil.resolve_name(function)  # or nothing would be taken out
    return Outcome(case, bench.killed_at(point), tuple(bench.judge(without=function)))


_bench: Bench


def _begin(directory: str, checked_out: bool) -> None:
    global _bench
    base = Path(directory, str(os.getpid()))
    _bench = Bench(base, Path(directory, "steps.so"), checked_out=checked_out)


def _attempt(attempt: Attempt, point: str) -> Outcome:
    try:
        return attempt(_bench, point)
    except (OSError, AssertionError):  # of the comparison: git itself may fail
        return Outcome(point, True, (traceback.format_exc(),))


def _points() -> list[str]:
    return _bench.points


def _steps() -> dict[str, str]:
    return _bench.steps


@dataclass
class Campaign:
    """The workers; all of them know the same points."""

    pool: ProcessPoolExecutor

    @property
    def points(self) -> list[str]:
        return self.pool.submit(_points).result()

    @property
    def steps(self) -> dict[str, str]:
        return self.pool.submit(_steps).result()

    def run(self, attempt: Attempt, points: Iterable[str]) -> Iterator[Outcome]:
        """Make an attempt at each point; ``attempt`` is a function of a module, as it goes to other processes."""
        pending = [self.pool.submit(_attempt, attempt, point) for point in points]
        for future in pending:
            outcome = future.result()
            if outcome.wrong:
                print(f"\n{outcome}", flush=True)  # at once, as the rest takes minutes
            yield outcome


@contextmanager
def campaign(*, checked_out: bool = True, workers: int = WORKERS) -> Iterator[Campaign]:
    """Start the workers, in memory where there is some."""
    shared = Path("/dev/shm")
    directory = tempfile.mkdtemp(prefix="crash-", dir=shared if os.access(shared, os.W_OK) else None)
    source = Path(__file__).with_name("inside") / "steps.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", f"{directory}/steps.so", source, "-ldl"], check=True)
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _begin, (directory, checked_out)) as pool:
            yield Campaign(pool)
            pool.shutdown(cancel_futures=True)
    finally:
        shutil.rmtree(directory)


def sample(known: Sequence[str], size: int, chances: random.Random) -> list[str]:
    """Return so many of what is known, or all of it with CRASH=all."""
    return list(known) if ALL else chances.sample(known, min(size, len(known)))


def moments(points: list[str], steps: Iterable[str]) -> list[str]:
    """Leave out the points that are the same moment as the next one of their process.

    What is before one thing is after the last, and a git without steps has changed nothing.
    """
    changing = {step.rsplit(" step ", 1)[0] for step in steps}
    found = []
    for point, following in zip(points, [*points[1:], "end end end"], strict=True):
        when, then = (text.rsplit(" ", 2)[1] for text in (point, following))
        asks = "git " in point and point not in changing and then == "after"
        same = (when == "after" and then == "before") or (when == "before" and asks)
        if not same or point.split(" ", 1)[0] != following.split(" ", 1)[0]:
            found.append(point)
    return found


def kinds(steps: dict[str, str]) -> list[str]:
    """Choose of the steps one of each kind: what a git does to a place, whichever ticket it is for.

    Before its first step a git has changed nothing, which is the point before it. All objects are one place, and
    so are all files of a worktree, of which the second is chosen as well. A lock is one whether or not it has been
    written to, and so is a reflog.
    """
    found: dict[tuple[str, str, int], str] = {}
    nth: Counter[str] = Counter()
    for point, step in steps.items():
        before, number = point.rsplit(" step ", 1)
        if number == "1":
            nth.clear()
            continue
        nth[step] += 1
        if re.search(r"^write .*(\.lock$|/logs/)", step):
            continue
        words = re.sub(r" (-m|--message) .*", r" \1", before.split(" ", 1)[1].rsplit(" before ", 1)[0]).split()
        told = " ".join(word for word in words if word == words[-1] or re.fullmatch(r"[a-z-]+", word))
        command = re.sub(r"000\d-\w+", "NAME", told)
        kind = ("", step, 1) if "OBJECT" in step else (command, step, min(nth[step], 2 if "FILE" in step else 1))
        found.setdefault(kind, point)
    return list(found.values())


def normal(steps: str, base: Path) -> str:
    """Return the steps of a git with places for paths."""
    steps = re.sub(r"\S*/objects/\S*", "OBJECT", steps.replace(str(base), ""))
    steps = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{4}", "TIME", steps)  # of a rescue ref
    steps = re.sub(r"000\d-\w+|\w+-000\d|worktrees/(plan|health)", "NAME", steps)
    return re.sub(r"(?m) (?!\S*\.git/|OBJECT).*$", " FILE", steps)
