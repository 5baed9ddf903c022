"""Why an attempt at a ticket failed, and what a failure of an agent program says about that. Pure."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why an attempt failed; those in UNCOUNTED say nothing about the ticket."""

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
"""What keeps every run of a backend from working, so that the whole backend rests."""

UNCOUNTED = BACKEND | {Cause.STOPPED}
