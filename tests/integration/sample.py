"""With SAMPLE=<number> in the environment, one of this many variations of each integration test runs.

A variation is an agent program, a fault, or both. A seed chooses. Each test runs with every commit, and each
variation with one of the next commits.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import Any

import pytest

from tests import chance

PART = int(os.environ.get("SAMPLE") or "1")


def variations(ids: Iterable[str], part: int, chances: random.Random) -> set[str]:
    """Choose one of this many ids of each test, at least one."""
    tests: dict[str, list[str]] = {}
    for id in ids:
        tests.setdefault(id.partition("[")[0], []).append(id)
    return {one for known in tests.values() for one in chances.sample(known, -(-len(known) // part))}


class Sample:
    """Deselects the variations that are not chosen, and reports how many run."""

    def __init__(self) -> None:
        self.number = chance.seed()
        os.environ["SEED"] = str(self.number)  # all workers choose the same variations
        self.share = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        ids = [item.nodeid for item in items]
        chosen = variations(ids, PART, random.Random(self.number))
        self.share = chance.share(chosen, ids)
        items[:] = [item for item in items if item.nodeid in chosen]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["share"] = self.share

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.share = getattr(node, "workeroutput", {}).get("share", self.share)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"SEED={self.number}: {self.share} tests and variations of them")
        if terminalreporter.stats.keys() & {"failed", "error"}:
            terminalreporter.write_line(f"to repeat: {chance.repeat('make integration-test-offline')}")
