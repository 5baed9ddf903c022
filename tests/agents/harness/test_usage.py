"""Usage and cost of a run."""

from __future__ import annotations

import pytest

from scriptorium.agents.harness.usage import NOTHING, Usage
from scriptorium.project.config import Price

PRICE = Price(input=2.0, cached=0.2, output=10.0)


def test_earlier_usage_of_a_session_is_subtracted() -> None:
    assert Usage(500, 100, 50, 20, 0.75) - Usage(200, 100, 30, 0, 0.25) == Usage(300, 0, 20, 20, 0.5)
    assert Usage(100) - Usage(200) == NOTHING


def test_the_cost_is_the_backends_own_or_else_by_the_price_table() -> None:
    used = Usage(tokens_in=1_000_000, tokens_cached=400_000, tokens_out=100_000, tokens_reasoning=90_000)
    assert used.priced(PRICE).cost_usd == pytest.approx(1.2 + 0.08 + 1.0)
    assert used.priced(None) is used
    told = Usage(tokens_in=5, cost_usd=0.5)
    assert told.priced(PRICE) is told


def test_usage_is_read_from_json_and_invalid_figures_are_zero() -> None:
    assert Usage.parse({"tokens_in": 3, "cost_usd": 0.5}) == Usage(tokens_in=3, cost_usd=0.5)
    wrong: dict[str, object] = {"tokens_in": -1, "tokens_out": True, "cost_usd": float("inf")}
    for nonsense in (None, "x", wrong):
        assert Usage.parse(nonsense) == NOTHING


def test_only_known_figures_are_in_the_trailers() -> None:
    told = {key: value for key, value in Usage(7, 0, 3, 0, 0.25).trailers().items() if value}
    assert told == {"Tokens-In": 7, "Tokens-Out": 3, "Cost-USD": "0.250000"}


def test_impossible_figures_are_zero() -> None:
    for value in (10**400, 1e300, float("inf"), float("nan"), -1, True, "5", None):
        usage = Usage.parse({"tokens_in": value, "cost_usd": value})
        assert set(usage.priced(Price(1, 1, 1)).trailers().values()) == {""}, value
