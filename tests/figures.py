"""The figures of docs/reliability.md, which the tests write themselves.

Each section of that page has a table between `<!-- figures: NAME -->` and `<!-- end of figures -->`. A test
publishes its counts at its end; with FIGURES=write in the environment it rewrites the table.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable

from tests.support import CHECKOUT

PAGE = CHECKOUT / "docs" / "reliability.md"


def publish(section: str, figures: Iterable[tuple[str, object]], *, whole: bool = True) -> None:
    """Print the figures of a section, and write them to the page on request.

    Figures of a sample, not ``whole``, are only printed; a request to write them to the page is an error.
    """
    rows = [(name, str(value)) for name, value in figures]
    print(f"\n{section}: " + ", ".join(f"{name} {value}" for name, value in rows), flush=True)
    if os.environ.get("FIGURES") == "write":
        assert whole, f"the figures of '{section}' are of a sample\nhint: make figures"
        with PAGE.open("r+") as page:
            fcntl.flock(page, fcntl.LOCK_EX)  # tests of one run may end at the same time
            text = replace(page.read(), section, rows)
            page.seek(0)
            page.truncate()
            page.write(text)


def replace(text: str, section: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return the page with a new table in one section; the page must have the section."""
    table = "".join(f"| {name} | {value} |\n" for name, value in rows)
    pattern = rf"(<!-- figures: {re.escape(section)} -->\n).*?(<!-- end of figures -->)"
    whole = f"| what | figure |\n| --- | --- |\n{table}"
    replaced, count = re.subn(pattern, lambda found: found[1] + whole + found[2], text, flags=re.DOTALL)
    assert count == 1, f"{PAGE.name} has no place for the figures of '{section}'"
    return replaced
