"""The samples of the stress tests: how one is repeated."""

from __future__ import annotations

import pytest

from tests.chance import repeat


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to try the same sample again, when a test has failed."""
    if terminalreporter.stats.keys() & {"failed", "error"}:
        terminalreporter.write_line(f"to repeat: {repeat('make stress-test')}")
