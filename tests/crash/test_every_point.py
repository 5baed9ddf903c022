"""Killed at any point and started again, the flow ends where it ends undisturbed.

A point is before, while or after something that our processes do; a step is a call within a git that changes
a file, before which that git is killed as well. With CRASH=all in the environment each git is killed at each of
its steps, for an hour or so, and not once for each kind of step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests import figures
from tests.crash.campaign import Campaign, campaign, kill, kinds, moments


@pytest.fixture(scope="module")
def workers() -> Iterator[Campaign]:
    with campaign() as workers:
        yield workers


def test_killed_at_any_point_and_started_again_it_ends_as_undisturbed(workers: Campaign) -> None:
    points, steps = workers.points, workers.steps
    chosen = list(steps) if os.environ.get("CRASH") == "all" else kinds(steps)

    outcomes = list(workers.run(kill, [*moments(points), *chosen]))

    wrong = [outcome for outcome in outcomes if outcome.wrong]
    missed = [outcome.point for outcome in outcomes if not outcome.reached]
    figures.publish(
        "crash",
        [
            ("points of our own processes", len(points)),
            ("steps within git", len(steps)),
            ("kills, one of each moment and kind of step", len(outcomes) - len(missed)),
            ("points that a second try did not reach", len(missed)),
            ("ended otherwise than undisturbed", len(wrong)),
        ],
    )
    assert not wrong, "\n".join(map(str, wrong))
    assert len(missed) * 100 <= len(outcomes), "\n".join(missed)
