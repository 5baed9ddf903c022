"""Retries of a step that fails, spaced further and further apart."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scriptorium.errors import ExitCode, ScriptoriumError

RETRY_DELAY = (1.0, 600.0)
"""Seconds of the shortest and the longest pause after a step that failed."""


@dataclass
class Backoff:
    """Spaces the tries of a step that fails, and starts anew when its input changes."""

    failures: int = 0
    until: float = 0.0
    subject: str = ""

    def holds(self, subject: str) -> bool:
        if subject != self.subject:
            self.failures, self.until, self.subject = 0, 0.0, subject
        return time.monotonic() < self.until

    def failed(self, error: ScriptoriumError | OSError | None = None) -> None:
        if isinstance(error, ScriptoriumError) and error.code is ExitCode.LOCKED:
            self.until = time.monotonic() + RETRY_DELAY[0]  # somebody else is at it, which is no failure
            return
        self.failures += 1
        self.until = time.monotonic() + min(RETRY_DELAY[0] * 2 ** (self.failures - 1), RETRY_DELAY[1])

    def rest(self, seconds: float, failures: int) -> None:
        self.failures, self.until = failures, time.monotonic() + seconds

    def worked(self) -> None:
        self.failures, self.until = 0, 0.0
