"""Writes the results of the integration tests: a row for each behaviour, a column for each agent program.

The tests carry the marker `behaviour`; the fate of the ticket is read from the plan branch after each test. With
`--agents-table=write` the table in docs/agents.md is rewritten; with `--agents-table=check` a run fails if the table
would change. A sample of the tests fails if it contradicts the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from scriptorium.plan.cause import UNCOUNTED
from tests.integration.sample import PART, Sample
from tests.support import CHECKOUT, PLAN, Project

PAGE = CHECKOUT / "docs" / "agents.md"
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
PACKAGES = CHECKOUT / "tests" / "integration" / "package.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--agents-table", choices=["write", "check"], help="make docs/agents.md anew, or compare")


def pytest_configure(config: pytest.Config) -> None:
    if PART > 1:
        config.pluginmanager.register(Sample())
    wanted = config.getoption("--agents-table")
    if wanted == "write" and PART > 1:
        raise pytest.UsageError("a sample does not show the whole table\nhint: make agents-table without SAMPLE")
    if wanted and not hasattr(config, "workerinput"):  # reports meet in the process that distributes the tests
        config.pluginmanager.register(Table(write=wanted == "write"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record the behaviour, the program and the outcome of a test while its project exists."""
    marker = item.get_closest_marker("behaviour")
    used: list[Any] = [value for value in item.funcargs.values() if hasattr(value, "answering")]  # a Backend
    if marker and used and call.when == "call" and call.excinfo is None:
        place = item.session.items.index(item)
        item.user_properties.append(("shown", [place, marker.args[0], used[0].name, outcome(used[0].project)]))
    return (yield)


def outcome(project: Project) -> str:
    """Return the fate of the last ticket that an agent worked on, from the history of the plan."""
    form = "--format=%s%n%(trailers:key=Cause,valueonly)"
    pattern = "--grep=^scriptorium: \\(reopen\\|park\\|complete\\|enqueue\\) ticket"
    subject, *cause = project.git("log", "-1", pattern, form, PLAN).split("\n") or [""]
    match subject.split(" ")[1:2]:
        case ["complete"]:
            return "landed"
        case ["enqueue"]:
            return "queued"
        case ["reopen" | "park"]:
            return f"{cause[0]}, {'no attempt used' if cause[0] in UNCOUNTED else 'an attempt used'}"
    return "yes"


class Table:
    """Collects the results of the tests of a session."""

    def __init__(self, *, write: bool) -> None:
        self.write = write
        self.shown: list[tuple[int, str, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            shown: list[Any] = [value for name, value in report.user_properties if name == "shown"]
            self.shown += [(place, behaviour, backend, what) for place, behaviour, backend, what in shown]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        page = PAGE.read_text()
        right = TABLE.sub(lambda _: render(self.shown), page)
        if PART > 1:
            if missing := missing_from(self.shown, page):
                print(f"\n{PAGE.relative_to(CHECKOUT)} does not say, and a test has shown:", *missing, sep="\n")
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif self.write:
            PAGE.write_text(right)
        elif right != page:
            print(f"\n{PAGE.relative_to(CHECKOUT)} says something else; make it anew by 'make agents-table':\n{right}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def render(shown: Iterable[tuple[int, str, str, str]]) -> str:
    """Return the table as Markdown."""
    rows: dict[str, dict[str, list[str]]] = {}
    backends: dict[str, None] = {}
    for _, behaviour, backend, what in sorted(shown):
        backends[backend] = None
        cell = rows.setdefault(behaviour, {}).setdefault(backend, [])
        cell += [what] if what not in cell else []
    lines = [["behaviour", *(f"{backend}{version(backend)}" for backend in backends)], ["---"] * (len(backends) + 1)]
    lines += [[name, *("; ".join(row.get(backend, ["-"])) for backend in backends)] for name, row in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def missing_from(shown: Iterable[tuple[int, str, str, str]], page: str) -> list[str]:
    """Return the results that the table of a page does not contain."""
    found = TABLE.search(page)
    head, _, *rows = [line.strip("| ").split(" | ") for line in found[0].splitlines()] if found else [[], []]
    cells = [(row[0], *pair) for row in rows for pair in zip(head[1:], row[1:], strict=True)]
    said = {(behaviour, program): cell.split("; ") for behaviour, program, cell in cells}
    return [
        f"{behaviour}: {what}, with {backend}{version(backend)}"
        for _, behaviour, backend, what in sorted(shown)
        if what not in said.get((behaviour, f"{backend}{version(backend)}"), [])
    ]


def version(backend: str) -> str:
    """Return the version of a program that comes from npm, with a space before it."""
    names = {"codex": "@openai/codex", "claude-code": "@anthropic-ai/claude-code", "opencode": "opencode-ai"}
    versions = json.loads(PACKAGES.read_text())["dependencies"]
    return f" {versions[names[backend]]}" if backend in names else ""
