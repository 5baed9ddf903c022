"""Text from agents and gates, made fit for tickets and terminals."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from scriptorium.system.redact import redact

TAIL_LINES = 20
TAIL_CHARACTERS = 1500
_STEERING = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_READ = 64 * 1024  # bytes; redacted before it is cut, because half a secret is not recognized


def tail(path: Path, *environments: Mapping[str, str]) -> str:
    """Return the last lines of a file, short, printable and without secrets."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _READ))
            data = file.read()
    except OSError:
        return ""
    text = printable(redact(data.decode(errors="replace"), *environments))
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])[-TAIL_CHARACTERS:]


def printable(text: str) -> str:
    """Return a text without control characters, bidirectional overrides and lone surrogates."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n").replace("\r", "\n")
    return _STEERING.sub("?", text).encode(errors="replace").decode()


def one_line(text: str) -> str:
    """Return a text as one printable line."""
    return " ".join(printable(text).splitlines())


def fence(text: str) -> str:
    """Return a text as a Markdown code block that the text itself cannot close.

    Each line is indented by two spaces, so none is parsed as a field, a heading or a trailer.
    """
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return "\n".join(f"  {part}".rstrip() for part in (fence, *text.splitlines(), fence))
