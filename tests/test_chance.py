"""Random choices: the seed, the sample, and the printed reports."""

from __future__ import annotations

import random

import pytest

from tests import chance, figures
from tests.crash import campaign
from tests.integration import sample, table


def test_a_commit_stands_for_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "0000001f" + "e" * 32)
    assert chance.seed() == 31
    first = chance.chance().random()
    monkeypatch.setenv("SEED", "31")
    assert chance.chance().random() == first
    monkeypatch.setenv("SEED", "0000001e" + "e" * 32)
    assert chance.chance().random() != first


def test_a_random_number_is_one_for_all_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "random")
    assert chance.seed() == chance.seed()


def test_the_line_that_repeats_a_sample_has_all_that_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in chance.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    chance.use(31)
    assert chance.repeat("make crash-test") == "SEED=31 make crash-test"
    monkeypatch.setenv("CRASH", "all")
    assert chance.repeat("make crash-test") == "SEED=31 CRASH=all make crash-test"


def test_a_sample_is_drawn_by_the_seed_and_all_is_taken_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [str(number) for number in range(100)]
    monkeypatch.setattr(campaign, "ALL", False)
    drawn = [campaign.sample(known, 5, random.Random(seed)) for seed in (1, 1, 2)]
    assert [len(set(one)) for one in drawn] == [5, 5, 5]
    assert drawn[0] == drawn[1] != drawn[2]
    assert campaign.sample(known[:3], 5, random.Random(1)) != []
    assert chance.share(drawn[0], known) == "5 of 100"
    monkeypatch.setattr(campaign, "ALL", True)
    assert campaign.sample(known, 5, random.Random(1)) == known


def test_figures_of_a_sample_are_not_put_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = figures.PAGE.read_text()
    monkeypatch.setenv("FIGURES", "write")
    with pytest.raises(AssertionError, match="are of a sample"):
        figures.publish("crash", [("kills", 3)], whole=False)
    assert figures.PAGE.read_text() == before


def test_of_each_integration_test_some_variations_run() -> None:
    many = [f"a::x[{fault}-{program}]" for fault in (1, 2) for program in ("codex", "claude")]
    known = [*many, "a::y[codex]", "a::y[claude]", "a::z"]
    chosen = [sample.variations(known, 3, random.Random(seed)) for seed in range(50)]
    assert {len(one) for one in chosen} == {4}
    assert all({id.partition("[")[0] for id in one} == {"a::x", "a::y", "a::z"} for one in chosen)
    assert set().union(*chosen) == set(known)
    assert sample.variations(known, 1, random.Random(1)) == set(known)


def test_a_sample_of_the_agents_table_agrees_with_the_page() -> None:
    codex = f"codex{table.version('codex')}"
    page = f"<!-- table -->\n| behaviour | {codex} |\n| --- | --- |\n| 401 | auth; landed |\n<!-- end of table -->"
    assert table.missing_from([(0, "401", "codex", "landed")], page) == []
    assert table.missing_from([(0, "401", "codex", "queued")], page) == [f"401: queued, with {codex}"]
    assert table.missing_from([(0, "403", "codex", "landed")], page) == [f"403: landed, with {codex}"]
    assert table.missing_from([(0, "401", "claude-code", "landed")], page) != []
