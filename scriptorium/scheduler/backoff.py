"""Exponential backoff for a step that fails."""

from __future__ import annotations

import time
from dataclasses import dataclass

from scriptorium.errors import ExitCode, ScriptoriumError

RETRY_DELAY = (1.0, 600.0)
"""Seconds of the shortest and the longest delay after a failure."""


@dataclass
class Backoff:
    """The delay before the next try of one step. It doubles with each failure in a row."""

    failures: int = 0
    until: float = 0.0
    subject: str = ""

    def is_waiting(self, subject: str = "") -> bool:
        """Return whether the delay is not over. A new ``subject``, the input of the step, ends it."""
        if subject != self.subject:
            self.reset()
            self.subject = subject
        return time.monotonic() < self.until

    def failed(self, error: ScriptoriumError | OSError | None = None) -> None:
        """Begin the next delay. A lock that another process holds is no failure, and delays briefly."""
        if isinstance(error, ScriptoriumError) and error.code is ExitCode.LOCKED:
            self.until = time.monotonic() + RETRY_DELAY[0]
            return
        self.failures += 1
        self.until = time.monotonic() + min(RETRY_DELAY[0] * 2 ** (self.failures - 1), RETRY_DELAY[1])

    def wait(self, seconds: float, failures: int) -> None:
        """Begin a delay of a given length, for a number of failures that was counted elsewhere."""
        self.failures, self.until = failures, time.monotonic() + seconds

    def reset(self) -> None:
        """End the delay after a success."""
        self.failures, self.until = 0, 0.0
