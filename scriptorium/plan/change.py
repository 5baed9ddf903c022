"""A change of the plan, to be written as one commit."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

_STEERING = re.compile(r"[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")


@dataclass
class PlanChange:
    """One commit to be: what moves, what is written and removed, and how it is told.

    ``verb`` and ``subject`` make the message ``scriptorium: <verb> <subject>``; trailers with an
    empty value are left out.
    """

    verb: str
    subject: str = ""
    moves: dict[str, str] = field(default_factory=dict)
    writes: dict[str, bytes] = field(default_factory=dict)
    removes: list[str] = field(default_factory=list)
    trailers: dict[str, object] = field(default_factory=dict)

    def message(self) -> bytes:
        # Two writers with the same parent, content and second would make the same commit,
        # and both would be told that they won: the last trailer tells them apart.
        trailers = {**self.trailers, "Transaction": secrets.token_hex(8)}
        told = {key: _sanitize(value) for key, value in trailers.items() if value is not None}
        lines = [f"{key}: {value}" for key, value in told.items() if value]
        text = "\n".join([f"scriptorium: {self.verb} {_sanitize(self.subject)}".rstrip(), "", *lines, ""])
        return text.encode(errors="surrogateescape")


def _sanitize(value: object) -> str:
    """Return a value as a part of a line, whatever an agent said; names keep the bytes that are no text."""
    return _STEERING.sub("?", " ".join(str(value).split()))
