"""Classifies the errors of agent programs by cause."""

from __future__ import annotations

import re

from scriptorium.plan.cause import Cause

MAX_MESSAGE = 2000
"""Characters of an error that are searched; the reason stands at the beginning."""

_STATUS = re.compile(r"(?:status|HTTP|API Error)\b\D{0,12}\b([45]\d\d)\b", re.IGNORECASE)

# Messages of the programs. They count if the status is unknown or undecided; the first match wins.
_WORDS = (
    (Cause.AGENT, r"context.(?:window|length)|prompt is too long|too many (?:input )?tokens|maximum context"),
    (Cause.RATE_LIMIT, r"rate.?limit|usage limit|quota|too many requests|credit balance|billing"),
    (Cause.INFRASTRUCTURE, r"model\b.{0,80}\b(?:not supported|not found|does not exist|not exist)|mcp\b.{0,80}\bfail"),
    (
        Cause.AUTH,
        r"not (?:logged|signed) in|(?:please|to) (?:run )?/?log ?in|log ?in again|unauthori[sz]ed|authenticat"
        r"|api.key|missing environment variable|forbidden",
    ),
    (
        Cause.PROVIDER,
        r"overloaded|high demand|stream (?:disconnected|error|closed)|error sending request|unable to connect"
        r"|connection (?:error|refused|reset|closed)|econnrefused|econnreset|server.error|timed? ?out|network",
    ),
)


def classify(status: int, message: str) -> Cause | None:
    """Return the cause of a failure by its HTTP status and its message; None if neither shows it.

    ``status`` is 0 if unknown; then the message is searched for it.
    """
    message = message[:MAX_MESSAGE]
    found = _STATUS.search(message)
    status = status or (int(found[1]) if found else 0)
    match status:
        case 401 | 403:
            return Cause.AUTH
        case 402 | 429:
            return Cause.RATE_LIMIT
        case 404:
            return Cause.INFRASTRUCTURE  # an unknown model
        case 408:
            return Cause.PROVIDER
        case _ if status >= 500:
            return Cause.PROVIDER
    words = next((cause for cause, form in _WORDS if re.search(form, message, re.IGNORECASE)), None)
    return words or (Cause.AGENT if status else None)


def retry_after(message: str) -> float:
    """Return the delay in seconds that an error message asks for; 0 if there is none."""
    message = message[:MAX_MESSAGE]
    found = re.search(r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?) ?(ms|s|m|h)?", message, re.IGNORECASE)
    if not found:
        return 0
    unit = {"ms": 0.001, "m": 60, "h": 3600}.get((found[2] or "s").lower(), 1)
    return float(found[1]) * unit
