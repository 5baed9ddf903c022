"""The causes of failed attempts."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """The cause of a failed attempt. A cause in UNCOUNTED does not count against the ticket."""

    NO_SUBMIT = "no-submit"
    AGENT = "agent"
    SILENCE = "silence"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    GATE = "gate"
    LOST = "lost"
    AUTH = "auth"
    RATE_LIMIT = "rate-limit"
    PROVIDER = "provider"
    INFRASTRUCTURE = "infrastructure"
    STOPPED = "stopped"


BACKEND = frozenset({Cause.AUTH, Cause.RATE_LIMIT, Cause.PROVIDER, Cause.INFRASTRUCTURE})
"""Causes that affect every run of a backend; the backend cools down."""

UNCOUNTED = BACKEND | {Cause.STOPPED}
