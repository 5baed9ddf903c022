"""Logging of lasting facts: each is logged once, and again when it changes."""

from __future__ import annotations

import logging


class LogOnce:
    """Logs facts by subject; a fact equal to the last one about its subject is not logged again."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last: dict[str, str] = {}

    def log(self, subject: str, text: str, level: int = logging.INFO, *, hint: str = "", key: str = "") -> None:
        """Log a fact unless the last one about the subject is equal.

        Facts are compared by ``key``, or by their text where there is none. A new hint alone is no change.
        """
        key = key or text
        if self._last.get(subject) != key:
            self._logger.log(level, "%s", f"{text}; hint: {hint}" if hint else text)
        self._last[subject] = key

    def forget(self, subject: str) -> bool:
        """Forget what was logged about a subject, since it no longer holds; return whether anything was."""
        return self._last.pop(subject, None) is not None
