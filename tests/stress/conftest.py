"""Print how to repeat the sample of a stress test."""

from __future__ import annotations

import pytest

from tests.chance import repeat


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how to repeat the same sample after a failed test."""
    if terminalreporter.stats.keys() & {"failed", "error"}:
        terminalreporter.write_line(f"to repeat: {repeat('make stress-test')}")
