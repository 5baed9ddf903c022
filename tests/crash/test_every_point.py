"""Killed at any point and restarted, the flow ends in the same state as undisturbed.

A point is before, during or after an action of a scriptorium process. A step is a call within git that changes a
file; git is killed before it. A seed chooses some of the points and kinds of steps. With CRASH=all in the
environment every point and every step of git is tried, which takes about an hour.
"""

from __future__ import annotations

import re

import pytest

from tests import figures
from tests.chance import chance, share
from tests.crash.campaign import (
    ALL,
    Campaign,
    Outcome,
    campaign,
    kill,
    kill_and_break,
    kill_twice,
    kinds,
    moments,
    sample,
)

MOMENTS, STEPS, LANDINGS = 34, 12, 6
"""The sizes of a sample: own points, steps of git, and both during a landing without a checkout."""

PAIRS, PAIRS_DRAWN = 60 if ALL else 4, 3

REPAIRS = {
    r"worktree remove .*/tickets/\S+ before 1$": "scriptorium.worktrees.sweep:sweep_worktrees",
    r"write /root/project-HEX/bin/.DRAFT after 1$": "scriptorium.project.paths:Paths.remove_stale_drafts",
    r"os.remove .*SOCKET before 3$": "scriptorium.agents.tools.server:remove_stale_sockets",
    r"/agent of fork 4 exec 1$": "scriptorium.coding.attempt:idle_tickets",
    r"update-index -q --refresh .* rename /project/.git/index$": "scriptorium.git.stale_locks:wait_until_gone",
    r"worktree add .*0001-first .* write .*/index.lock$": "scriptorium.worktrees.repair:remove_half_made",
    r" read-tree -m -u .* step .* write FILE$": "scriptorium.git.user_checkout:UserCheckout.undo",
}
"""The function that repairs a kill at a point, by an expression that finds the point."""

BROKEN = re.compile(r"Traceback|this is a bug|not within")
"""Errors of a product, or of a comparison, that fails without any kill."""


@pytest.fixture(scope="module")
def broken(workers: Campaign) -> dict[str, Outcome]:
    """The end of the flow without each of the repair functions, tried in parallel."""
    texts = {point: point for point in workers.points}
    texts |= {point: f"{point} {step}" for point, step in workers.steps.items()}
    points = [next(point for point, text in texts.items() if re.search(pattern, text)) for pattern in REPAIRS]
    cases = [f"{point} | {repair}" for point, repair in zip(points, REPAIRS.values(), strict=True)]
    return dict(zip(REPAIRS.values(), workers.run(kill_and_break, cases), strict=True))


@pytest.mark.parametrize("repair", REPAIRS.values())
def test_the_campaign_finds_a_product_that_repairs_nothing_after_a_kill(
    broken: dict[str, Outcome], repair: str
) -> None:
    outcome = broken[repair]
    assert outcome.reached
    assert outcome.wrong
    assert not [what for what in outcome.wrong if BROKEN.search(what)]


def test_killed_at_any_point_and_started_again_it_ends_as_undisturbed(workers: Campaign) -> None:
    points, steps = workers.points, workers.steps
    ours, gits = moments(points, steps), list(steps) if ALL else kinds(steps)
    chances = chance()
    our_sample, gits_sample = sample(ours, MOMENTS, chances), sample(gits, STEPS, chances)

    outcomes = list(workers.run(kill, [*our_sample, *gits_sample]))

    wrong = [outcome for outcome in outcomes if outcome.wrong]
    missed = [outcome.point for outcome in outcomes if not outcome.reached]
    figures.publish(
        "crash",
        [
            ("points of our own processes", len(points)),
            ("steps within git", len(steps)),
            ("kinds of them", len(kinds(steps))),
            ("points of scriptorium tried", share(our_sample, ours)),
            ("steps, or kinds, that were tried", share(gits_sample, gits)),
            ("kills", len(outcomes) - len(missed)),
            ("points that no try reached", len(missed)),
            ("ended otherwise than undisturbed", len(wrong)),
        ],
        whole=ALL,
    )
    assert not wrong, "\n".join(map(str, wrong))
    assert len(missed) * 30 <= len(outcomes), "\n".join(missed)


def test_killed_while_landing_without_a_master_checkout_it_ends_the_same() -> None:
    """Without a checkout both refs move in one transaction, and no files move."""
    with campaign(checked_out=False) as workers:
        points, steps = workers.points, workers.steps
        every = [*moments(points, steps), *kinds(steps)]
        landing = [point for point in every if "update-ref" in point]
        assert len(landing) > 10
        chosen = sample(landing, LANDINGS, chance())

        outcomes = list(workers.run(kill, chosen))

    missed = [outcome.point for outcome in outcomes if not outcome.reached]
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    counts = [("moments that were tried", share(chosen, landing)), ("kills", len(outcomes) - len(missed))]
    figures.publish("landing", [*counts, ("ended otherwise than undisturbed", len(wrong))], whole=ALL)
    assert not wrong, "\n".join(map(str, wrong))
    assert len(missed) <= 1, "\n".join(missed)


def test_killed_again_while_it_recovers_it_ends_as_undisturbed(workers: Campaign) -> None:
    chances = chance()
    points = [*moments(workers.points, workers.steps), *kinds(workers.steps)]
    outcomes: list[Outcome] = []
    twice = 0
    # a recovery may end before its kill; a small sample with several such pairs is drawn again
    for _ in range(PAIRS_DRAWN):
        # only the first points of a recovery differ from run to run
        pairs = [f"{chances.choice(points)} | {1 + int(chances.random() ** 2 * 250)}" for _ in range(PAIRS)]
        outcomes += workers.run(kill_twice, pairs)
        twice = sum(outcome.reached for outcome in outcomes)
        if twice * 2 >= len(outcomes):
            break

    wrong = [outcome for outcome in outcomes if outcome.wrong]
    counts = [
        ("pairs", len(outcomes)),
        ("of them killed twice", twice),
        ("ended otherwise than undisturbed", len(wrong)),
    ]
    figures.publish("pairs", counts, whole=ALL)
    assert not wrong, "\n".join(map(str, wrong))
    assert twice * 2 >= len(outcomes)
