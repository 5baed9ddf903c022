"""One flow for each point, run by a few workers; each worker has its own repository."""

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
"""One more than the cores: a worker waits for processes a tenth of its time."""


TRIES = 3
"""How often a flow is started to reach a point: its threads may be scheduled in another order."""

ALL = os.environ.get("CRASH") == "all"
"""Whether every point is tried, which takes hours, instead of a sample that a seed chooses."""


@dataclass(frozen=True)
class Outcome:
    """The result of one flow; ``wrong`` lists the differences from an undisturbed flow."""

    point: str
    reached: bool
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.point}:", *self.wrong])


class Bench:
    """A flow, and its undisturbed end."""

    def __init__(self, base: Path, library: Path, *, checked_out: bool = True) -> None:
        self.flow = Flow(base, library, checked_out=checked_out)
        trace, steps = base.with_name(f"{base.name}.trace"), base.with_name(f"{base.name}.steps")
        steps.mkdir()
        before = compare.look(self.flow)
        self.flow.reset()  # as before each kill: the index does not know the copied files
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
        """The steps of each git, by the point before it starts."""
        self.clean: Ending = compare.look(self.flow)
        undue = compare.undue(before, self.clean)
        assert not undue, undue
        self.calls = self.flow.calls

    def killed_at(self, point: str) -> bool:
        """Start a flow and kill it at a point; return whether it reached the point."""
        for _ in range(TRIES):
            self.flow.reset()
            if self.flow.broken_off(point).status == -9 and self._was_at(point):
                return True
            compare.running(self.flow)  # an agent that survived the kill would write into the next try
        return False

    def _was_at(self, point: str) -> bool:
        """Return whether a git that was killed at a step number was at the intended step."""
        file = Path(steps_file(str(self.flow.base), point.partition(" step ")[0]))
        return point not in self.steps or normal(file.read_text(), self.flow.base).endswith(f"{self.steps[point]}\n")

    def let_time_pass(self) -> None:
        """Make leftovers of a kill look old, as if time had passed since."""
        home, git_directory = self.flow.project.paths.home, self.flow.project.root / ".git"
        half_made = git_directory.glob("worktrees/*/locked")
        for file in [*home.rglob(f"*{DRAFT}"), *git_directory.rglob("*.lock"), *half_made]:
            with suppress(FileNotFoundError):  # processes of the flow may still be ending
                os.utime(file, (0, 0))

    def judge(self, more_calls: int = 1, without: str = "") -> list[str]:
        """Restart the flow and return the errors at its end; agents may be called so many times more.

        ``without`` names a function of the product that does nothing in this run.
        """
        self.let_time_pass()
        ended = self.flow.without(without) if without else self.flow.run()
        wrong = [] if ended.status == 0 else [f"exit code {ended.status}: {ended.out[-2000:]}"]
        wrong += compare.look(self.flow).differences(self.clean)
        return wrong + [f"called again: {call}" for call in compare.again(self.flow, self.calls, more_calls)]


Attempt = Callable[[Bench, str], Outcome]


def kill(bench: Bench, point: str) -> Outcome:
    """Kill a flow at a point and restart it."""
    if not bench.killed_at(point):
        return Outcome(point, False)
    return Outcome(f"{point} {bench.steps.get(point, '')}", True, tuple(bench.judge()))


def kill_twice(bench: Bench, pair: str) -> Outcome:
    """Kill a flow at a point, and kill the restarted flow after a number of points, ``<point> | <number>``."""
    point, _, number = pair.rpartition(" | ")
    bench.flow.reset()
    first = bench.flow.broken_off(point)
    bench.let_time_pass()
    second = bench.flow.broken_off(f"number {number}")
    return Outcome(pair, (first.status, second.status) == (-9, -9), tuple(bench.judge(2)))


def kill_and_break(bench: Bench, case: str) -> Outcome:
    """Kill a flow at a point, and restart it without the function that repairs it, ``<point> | <function>``."""
    point, _, function = case.rpartition(" | ")
    pkgutil.resolve_name(function)  # the function must exist to be removed
    return Outcome(case, bench.killed_at(point), tuple(bench.judge(without=function)))


_bench: Bench


def _begin(directory: str, checked_out: bool) -> None:
    global _bench
    base = Path(directory, str(os.getpid()))
    _bench = Bench(base, Path(directory, "steps.so"), checked_out=checked_out)


def _attempt(attempt: Attempt, point: str) -> Outcome:
    try:
        return attempt(_bench, point)
    except (OSError, AssertionError):  # errors of the comparison: git itself may fail
        return Outcome(point, True, (traceback.format_exc(),))


def _points() -> list[str]:
    return _bench.points


def _steps() -> dict[str, str]:
    return _bench.steps


@dataclass
class Campaign:
    """The workers, which all know the same points."""

    pool: ProcessPoolExecutor

    @property
    def points(self) -> list[str]:
        return self.pool.submit(_points).result()

    @property
    def steps(self) -> dict[str, str]:
        return self.pool.submit(_steps).result()

    def run(self, attempt: Attempt, points: Iterable[str]) -> Iterator[Outcome]:
        """Run an attempt at each point; ``attempt`` must be a module-level function, as other processes import it."""
        pending = [self.pool.submit(_attempt, attempt, point) for point in points]
        for future in pending:
            outcome = future.result()
            if outcome.wrong:
                print(f"\n{outcome}", flush=True)  # at once, as the other attempts take minutes
            yield outcome


@contextmanager
def campaign(*, checked_out: bool = True, workers: int = WORKERS) -> Iterator[Campaign]:
    """Start the workers, on a file system in memory if there is one."""
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
    """Return a sample of this size, or everything with CRASH=all."""
    return list(known) if ALL else chances.sample(known, min(size, len(known)))


def moments(points: list[str], steps: Iterable[str]) -> list[str]:
    """Leave out points that are the same moment as the next point of their process.

    The moment before an action is also the moment after the previous action. A git without steps changes nothing.
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
    """Choose one step of each kind: an operation of git on a place, for any ticket.

    Before its first step a git has changed nothing, so that step equals the point before it. All objects are one
    place. All files of a worktree are one place, of which the second is chosen as well. A lock is one kind whether
    or not it has content, and so is a reflog.
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
        words_of_step = " ".join(word for word in words if word == words[-1] or re.fullmatch(r"[a-z-]+", word))
        command = re.sub(r"000\d-\w+", "NAME", words_of_step)
        kind = ("", step, 1) if "OBJECT" in step else (command, step, min(nth[step], 2 if "FILE" in step else 1))
        found.setdefault(kind, point)
    return list(found.values())


def normal(steps: str, base: Path) -> str:
    """Return the steps of a git, with its paths replaced by places."""
    steps = re.sub(r"\S*/objects/\S*", "OBJECT", steps.replace(str(base), ""))
    steps = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{4}", "TIME", steps)  # the name of a rescue ref
    steps = re.sub(r"000\d-\w+|\w+-000\d|worktrees/(plan|health)", "NAME", steps)
    return re.sub(r"(?m) (?!\S*\.git/|OBJECT).*$", " FILE", steps)
