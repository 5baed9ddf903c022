"""Failing calls are reported in a line and commit nothing; once they work again, the flow ends as undisturbed.

A call of scriptorium fails once; calls of git fail from a step on. With CRASH=all in the environment every place
is tried, instead of a sample that a seed chooses.
"""

from __future__ import annotations

import errno
import os
import re
from itertools import cycle
from pathlib import Path

from scriptorium.errors import ExitCode
from tests import figures
from tests.chance import chance, share
from tests.crash import compare
from tests.crash.campaign import ALL, TRIES, Bench, Campaign, Outcome, kinds, sample
from tests.crash.points import steps_file
from tests.support import Project

STARTS = ("EMFILE", "EAGAIN", "ENOMEM")
OPENS = ("ENOSPC", "EIO", "EROFS", "EMFILE")
WRITES = ("ENOSPC", "EIO")
CHANGES = ("ENOSPC", "EIO", "EROFS")

OF_THE_ORDER = ("attempts:", "texts:", "landings:", "called again:")
"""The differences if an agent is called once more, or if the other ticket is first."""

IN_GITS_WORDS = (
    "unable to write|unable to create|couldn't set|out of diskspace|insufficient permission|write error"
    "|file size limit exceeded"  # the signal ends it
)
"""Messages of git that do not include the error of the system."""

LINES_MOST = 80
"""The limit of log lines of a flow; an undisturbed flow logs about thirty."""


def faults(points: list[str]) -> list[str]:
    """Return each point at which a call can fail, with one of its possible errors in turn."""
    kinds = [(r" os\.", CHANGES), (r" (write|socket\.\w+) .* before ", OPENS), (r" write .* (while|after) ", WRITES),
             (r" (before|exec) ", STARTS)]  # fmt: skip
    turns = [(re.compile(pattern), cycle(errors)) for pattern, errors in kinds]
    found = []
    for point in points:
        if re.search(r" os\.(remove|rmdir) ", point):
            continue  # a full disk has room for this
        turn = next((errors for pattern, errors in turns if pattern.search(point)), None)
        if turn is not None:
            found.append(f"{next(turn)} {point}")
    return found


OURS, GITS = 6, 4
"""The sizes of a sample: faults of own calls and of calls of git."""


def in_git(steps: dict[str, str]) -> list[str]:
    """Return one step of git of each kind; all calls of git fail from that step on."""
    return [f"{error} {step}" for step, error in zip(kinds(steps), cycle(WRITES), strict=False)]


def fail(bench: Bench, fault: str) -> Outcome:
    """Make a call fail, check the report of the flow, and restart it."""
    name, _, point = fault.partition(" ")
    for _ in range(TRIES):
        bench.flow.reset()
        ended = bench.flow.broken_off(point, str(getattr(errno, name)))
        if reached(bench, point):
            wrong = [*ill_taken(ended.status, ended.out, name), *unsound(bench.flow.project)]
            return Outcome(fault, True, (*wrong, *_judge(bench, point, ended.out)))
        compare.running(bench.flow)  # until no process of it writes any more
    return Outcome(fault, False)


def reached(bench: Bench, point: str) -> bool:
    """Return whether a flow reached a point, or its git a step."""
    before, _, step = point.partition(" step ")
    file = Path(steps_file(str(bench.flow.base), before))
    if step:
        return file.exists() and file.read_text().count("\n") >= int(step)
    return (bench.flow.base / "acted").exists()


def _judge(bench: Bench, point: str, out: str) -> list[str]:
    wrong = bench.judge()
    if re.search("could not be submitted|cannot create its worktree", out) or not point.startswith("run#"):
        # an agent could not work, or failed: its ticket is tried again, in another order
        wrong = [what for what in wrong if not what.startswith(OF_THE_ORDER)]
    return [*wrong, out[-3000:]] if wrong else []


def ill_taken(status: int, out: str, name: str) -> list[str]:
    """Return the errors in the exit code and the output of a flow after a fault, an errno."""
    wrong = [] if status in set(ExitCode) - {ExitCode.BUG} else [f"exit code {status}"]
    wrong += [f"says '{word}'" for word in ("Traceback", "this is a bug", "Exception") if word in out]
    wrong += [f"{out.count(chr(10))} lines"] if out.count("\n") > LINES_MOST else []
    reported = os.strerror(getattr(errno, name)).lower() in out.lower() or re.search(IN_GITS_WORDS, out, re.I)
    wrong += [] if reported or not status else [f"does not say what was wanting, {name}"]
    return [*wrong, out[-3000:]] if wrong else []


def unsound(project: Project) -> list[str]:
    """Return the findings of `scriptorium fsck` before a flow is restarted: no unfinished change may be recorded."""
    result = project.run("fsck")
    return [f"fsck: {result.out}{result.err}"] if result.code else []


def test_any_failing_call_is_reported_and_the_flow_ends_the_same(workers: Campaign) -> None:
    chances = chance()
    ours, gits = faults(workers.points), in_git(workers.steps)
    our_sample, gits_sample = sample(ours, OURS, chances), sample(gits, GITS, chances)
    outcomes = list(workers.run(fail, [*our_sample, *gits_sample]))

    wrong = [outcome for outcome in outcomes if outcome.wrong]
    missed = [outcome.point for outcome in outcomes if not outcome.reached]
    counts = [
        ("calls of scriptorium made to fail", share(our_sample, ours)),
        ("steps of git from which on all were let fail", share(gits_sample, gits)),
    ]
    tried = [("faults", len(outcomes) - len(missed)), ("ended otherwise", len(wrong))]
    figures.publish("faults", [*counts, *tried], whole=ALL)
    assert not wrong, "\n".join(map(str, wrong))
    assert len(missed) <= max(1, len(outcomes) // 20), "\n".join(missed)
