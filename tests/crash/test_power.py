"""After a loss of power no ref names a missing object, and the flow ends as undisturbed.

At a point everything is killed, and files that were written since the start but not synced are removed. With
CRASH=all in the environment every point is tried, instead of a sample that a seed chooses.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import figures
from tests.chance import chance, share
from tests.crash import compare, power
from tests.crash.campaign import ALL, TRIES, Bench, Campaign, Outcome, moments, sample

MOMENTS = 5
"""The size of a sample."""

OF_CACHES = ("moves_of_master:", "called again:", "state_directory:", "git_directory: more [], ")
"""The differences if a reflog is gone, and worktrees without a git directory are recreated or renamed."""


@contextmanager
def syncs_recorded(bench: Bench) -> Iterator[Path]:
    """Make all processes that start record the files that they sync."""
    file = bench.flow.base / "synced"
    file.touch()
    library = power.library(bench.flow.base)
    os.environ.update(LD_PRELOAD=str(library), CRASH_SYNCED=str(file))
    try:
        yield file
    finally:
        del os.environ["LD_PRELOAD"], os.environ["CRASH_SYNCED"]


def lose_power(bench: Bench, choice: str) -> Outcome:
    """Cut the power of a flow at a point, and restart it."""
    what, _, point = choice.partition(" ")
    tries = (_lost_at(bench, point, state=what == "state") for _ in range(TRIES))
    lost = next((lost for lost in tries if lost is not None), None)
    if lost is None:
        return Outcome(choice, False)
    wrong = unsound(bench.flow.project.root)
    if not wrong:
        with_the_state = ("lost:",) if what == "state" else ()  # work that was neither committed nor submitted
        wrong = [one for one in bench.judge() if not one.startswith(OF_CACHES + with_the_state)]
    return Outcome(choice, True, (*wrong, f"lost: {lost}") if wrong else ())


def _lost_at(bench: Bench, point: str, *, state: bool) -> list[str] | None:
    """Start a flow, cut its power at a point, and return the lost files; None if it did not reach the point."""
    flow = bench.flow
    flow.reset()
    before = {power.stamp(file) for file in power.files(flow.project.root)}
    with syncs_recorded(bench) as file:
        ended = flow.broken_off(point)
    compare.running(flow)  # files that an agent still writes would be neither lost nor kept
    return power.lose(flow, before, file.read_text(), state=state) if ended.status == -9 else None


def unsound(root: Path) -> list[str]:
    """Return the errors of the refs of a repository and of all objects that they reach."""
    found = []
    for argv in (["for-each-ref"], ["rev-list", "--objects", "--all", "--quiet"], ["fsck", "--connectivity-only"]):
        done = subprocess.run(["git", *argv], cwd=root, capture_output=True, text=True, check=False)
        said = [line for line in (done.stderr).splitlines() if line]
        found += [f"git {argv[0]}: {line}" for line in said[:3]] if done.returncode or argv[0] != "fsck" else []
    return found


def test_after_power_loss_no_ref_dangles_and_the_flow_ends_the_same(workers: Campaign) -> None:
    chances = chance()
    points = moments(workers.points, workers.steps)
    chosen = sample(points, MOMENTS, chances)
    choices = [f"{('state', 'caches')[number % 2]} {point}" for number, point in enumerate(chosen)]
    outcomes = list(workers.run(lose_power, choices))

    wrong = [outcome for outcome in outcomes if outcome.wrong]
    lost = sum(outcome.reached for outcome in outcomes)
    counts = [("moments that were tried", share(chosen, points)), ("losses of power", lost), ("unsound", len(wrong))]
    figures.publish("power loss", counts, whole=ALL)
    assert not wrong, "\n".join(map(str, wrong))
    assert len(outcomes) - lost <= max(1, len(outcomes) // 20)
