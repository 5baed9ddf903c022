"""``make bench``: measures, prints the table and writes it to docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from scriptorium.git.environment import scrub_environment
from tests.bench import cases
from tests.support import CHECKOUT, sealed

PAGE = """\
# Benchmarks

`make bench` writes this page. Times are medians, measured alternately with the times of the bare commands that the work
requires. The ratios are meaningful on any machine, the times are not.

The time of a ticket runs from the start of its agent to the start of the next agent, so start-up and planning do not
count. The agent writes a file, commits it and submits, and `make test` is `true`. The baseline is three fast-imports,
worktree add and remove, merge, fast-forward, branch -D, the agent's add and commit, and make. The git processes are
those in `GIT_TRACE2_EVENT`.

git {git}, Python {python}; {runs}.

| figure | measured | baseline | ratio | limit |
|---|---|---|---|---|
{rows}
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="scriptorium-bench-") as scratch:
        environment = sealed(os.environ, Path(scratch, "home"), Path(scratch, "root"))
        os.environ.clear()
        os.environ.update(environment)
        scrub_environment()  # so that plumbum sees it as well
        sections = [cases.transitions, cases.starts, cases.tickets, cases.idle]
        wanted = [section for section in sections if section.__name__ in sys.argv[1:]] or sections
        rows = []
        for section in wanted:
            for row in section(Path(scratch)):
                rows.append(f"| {row.what} | {row.measured} | {row.bare} | {row.ratio} | {row.wanted} |")
                print(rows[-1], flush=True)
    if wanted == sections:
        tickets = f"{cases.BATCHES} x {cases.TICKETS} tickets"
        runs = f"{cases.TRANSITIONS} transitions of each kind, {cases.STARTS} starts, {tickets}"
        git = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
        page = PAGE.format(runs=runs, git=git, python=platform.python_version(), rows="\n".join(rows))
        (CHECKOUT / "docs").mkdir(exist_ok=True)
        (CHECKOUT / "docs" / "benchmarks.md").write_text(page)


if __name__ == "__main__":
    main()
