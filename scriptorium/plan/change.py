"""A change of the plan, which the store writes as one commit."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

_CONTROL_CHARACTERS = re.compile(r"[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")


@dataclass
class PlanChange:
    """The files to move, write and remove, and the parts of the commit message.

    ``verb`` and ``subject`` make the message ``scriptorium: <verb> <subject>``. A trailer with an empty value is
    omitted.
    """

    verb: str
    subject: str = ""
    moves: dict[str, str] = field(default_factory=dict)
    writes: dict[str, bytes] = field(default_factory=dict)
    removes: list[str] = field(default_factory=list)
    trailers: dict[str, object] = field(default_factory=dict)

    def message(self) -> bytes:
        # Without the last trailer, two writers with the same parent, content and second would make the same commit,
        # and both would win the compare-and-swap.
        trailers = {**self.trailers, "Transaction": secrets.token_hex(8)}
        clean = {key: _sanitize(value) for key, value in trailers.items() if value is not None}
        lines = [f"{key}: {value}" for key, value in clean.items() if value]
        text = "\n".join([f"scriptorium: {self.verb} {_sanitize(self.subject)}".rstrip(), "", *lines, ""])
        return text.encode(errors="surrogateescape")


def _sanitize(value: object) -> str:
    """Return a value as part of one line, without control characters. Bytes that are not UTF-8 stay as they are."""
    return _CONTROL_CHARACTERS.sub("?", " ".join(str(value).split()))
