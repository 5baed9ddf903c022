"""The workers of all crash tests: each has traced a clean run before the first kill, which takes a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chance import repeat
from tests.crash.campaign import Campaign, campaign


@pytest.fixture(scope="session")
def workers() -> Iterator[Campaign]:
    with campaign() as workers:
        yield workers


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to try the same sample again, when a test has failed."""
    if terminalreporter.stats.keys() & {"failed", "error"}:
        terminalreporter.write_line(f"to repeat: {repeat('make crash-test')}")
