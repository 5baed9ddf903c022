"""The workers of all crash tests. Each worker traces a clean run before its first kill."""

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
    """Print how to repeat the same sample after a failed test."""
    if terminalreporter.stats.keys() & {"failed", "error"}:
        terminalreporter.write_line(f"to repeat: {repeat('make crash-test')}")
