"""Output files of agents and gates: their names, and their tails made fit for a ticket."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from scriptorium.redact import redact

TAIL_LINES = 20
TAIL_CHARACTERS = 1500
_READ = 64 * 1024  # bytes; redacted as a whole, so that no secret is cut in two and then missed


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
    """Return a text without what would steer a terminal, and without half characters."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    text = "".join("?" if (c < " " and c not in "\n\t") or "\x7f" <= c <= "\x9f" else c for c in text)
    return text.encode(errors="replace").decode()


def fenced(text: str) -> str:
    """Return a text as a Markdown code block that it cannot close by itself."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{text}\n{fence}"


def next_log(directory: Path, stem: str, suffix: str) -> Path:
    """Make the first free ``<stem>-NN<suffix>`` of a directory, which no other process is given then, and return it."""
    number = 1
    while True:
        path = directory / f"{stem}-{number:02d}{suffix}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path
