"""The records that steps hand to each other: lines of tab-separated fields, the ticket first."""

from __future__ import annotations

import sys


def emit(*fields: str) -> None:
    """Print one record at once, so that the next step of a pipeline can begin."""
    print("\t".join(fields), flush=True)


def tickets(arguments: tuple[str, ...]) -> list[str]:
    """Return the tickets named as arguments, or else by the records on stdin when that is not a terminal."""
    if arguments or sys.stdin is None or sys.stdin.isatty():
        return list(arguments)
    return [line.rstrip("\n").split("\t")[0] for line in sys.stdin if line.strip()]
