"""Killed at any point and started again, the flow ends where it ends undisturbed."""

from __future__ import annotations

from tests import figures
from tests.crash.campaign import campaign, kill, moments


def test_killed_at_any_point_and_started_again_it_ends_as_undisturbed() -> None:
    with campaign() as workers:
        points = workers.points
        outcomes = list(workers.run(kill, moments(points)))

    wrong = [outcome for outcome in outcomes if outcome.wrong]
    missed = [outcome.point for outcome in outcomes if not outcome.reached]
    counts = [("points", len(points)), ("kills", len(outcomes) - len(missed)), ("not reached", len(missed))]
    figures.publish("crash", [*counts, ("ended otherwise than undisturbed", len(wrong))])
    assert not wrong, "\n".join(map(str, wrong))
    assert len(missed) * 100 <= len(outcomes), "\n".join(missed)
