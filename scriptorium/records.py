"""The records that connect steps in a pipeline: lines of tab-separated fields, the ticket first."""

from __future__ import annotations

import sys


def emit(*fields: str) -> None:
    """Print one record unbuffered, so that the next step of a pipeline can begin."""
    print("\t".join(fields), flush=True)


def tickets(arguments: tuple[str, ...]) -> list[str]:
    """Return the tickets named as arguments, or those of the records on stdin unless stdin is a terminal."""
    if arguments or sys.stdin is None or sys.stdin.isatty():
        return list(arguments)
    return [line.rstrip("\n").split("\t")[0] for line in sys.stdin if line.strip()]
