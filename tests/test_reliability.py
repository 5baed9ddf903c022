"""The page of reliability names tests for each promise, and they exist; each way of trying has its figures."""

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


def test_every_way_of_trying_has_figures_that_a_test_has_published() -> None:
    sections = re.findall(r"<!-- figures: ([\w ]+) -->\n(.*?)<!-- end of figures -->", PAGE, re.DOTALL)
    assert sections
    assert [name for name, table in sections if table.count("\n") < 3] == []
    source = "".join(path.read_text() for path in (CHECKOUT / "tests").rglob("*.py"))
    assert [name for name, _ in sections if f'figures.publish("{name}"' not in re.sub(r"\(\s+", "(", source)] == []


def test_a_table_is_made_anew_and_all_else_stays() -> None:
    page = (
        "a\n<!-- figures: x -->\n| old | 1 |\n<!-- end of figures -->\nb\n<!-- figures: y -->\n<!-- end of figures -->"
    )
    made = figures.replace(page, "x", [("points", "3")])
    assert made == page.replace("| old | 1 |\n", "| what | figure |\n| --- | --- |\n| points | 3 |\n")
