"""The tests that the page of reliability names for each promise exist; a test publishes each table."""

from __future__ import annotations

import re

from tests import figures
from tests.support import CHECKOUT

PAGE = figures.PAGE.read_text()
PROMISES = 7


def test_every_promise_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d) \| .+ \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, PROMISES + 1))
    named = [re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests) for _, tests in rows]
    assert all(named)
    missing = [
        f"{file}::{test}"
        for file, test in {one for row in named for one in row}
        if f"def {test}(" not in (CHECKOUT / "tests" / file).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_way_of_trying_has_a_test_that_publishes_its_figures() -> None:
    sections = re.findall(r"<!-- figures: ([\w ]+) -->\n", PAGE)
    assert sections
    source = "".join(path.read_text() for path in (CHECKOUT / "tests").rglob("*.py"))
    calls = set(re.findall(r'figures\.publish\(\s*"([\w ]+)"', source))
    assert set(sections) == calls


def test_every_table_has_figures_of_a_run_that_came_to_its_end() -> None:
    tables = re.findall(r"<!-- figures: ([\w ]+) -->\n(.*?)<!-- end of figures -->", PAGE, re.DOTALL)
    assert [name for name, table in tables if len(table.splitlines()) < 3] == []
    assert not re.search(r"^\| (ended otherwise.*|unsound) \| (?!0 )", PAGE, re.MULTILINE)


def test_a_table_is_made_anew_and_all_else_stays() -> None:
    page = (
        "a\n<!-- figures: x -->\n| old | 1 |\n<!-- end of figures -->\nb\n<!-- figures: y -->\n<!-- end of figures -->"
    )
    made = figures.replace(page, "x", [("points", "3")])
    assert "| points | 3 |" in figures.replace(page, "y", [("points", "3")])
    assert made == page.replace("| old | 1 |\n", "| what | figure |\n| --- | --- |\n| points | 3 |\n")
