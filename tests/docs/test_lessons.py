"""The tests that the page of lessons names exist, and no lesson is missing."""

from __future__ import annotations

import re

from tests.support import CHECKOUT

PAGE = (CHECKOUT / "docs" / "lessons.md").read_text()
FAULTS = 46
BAD_CASES = 25


def test_every_fault_and_every_bad_case_has_its_row() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, FAULTS + 1))
    cases = PAGE.partition("## Bad cases")[2].strip().splitlines()[2:]
    assert len(cases) == BAD_CASES
    assert all(row.count(" | ") == 1 and "`" in row.partition(" | ")[2] for row in cases)


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE))
    assert len(named) > FAULTS
    missing = [
        f"{file}::{test}"
        for file, test in named
        if f"def {test}(" not in (CHECKOUT / "tests" / file).read_text(encoding="utf-8")
    ]
    assert missing == []
