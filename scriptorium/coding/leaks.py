"""Finding credentials in the commits of a ticket; no redaction reaches them after they have landed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from scriptorium.system.redact import Secrets


@dataclass(frozen=True)
class Leak:
    """A credential that a commit adds: file, first line, kind and text."""

    path: str
    line: int
    what: str
    text: str

    def __str__(self) -> str:
        where = f"'{self.path}', line {self.line}," if self.path else "the message of a commit"
        return f"{where} holds {self.what}"


def find_leaks(patches: bytes, secrets: Secrets) -> Iterator[Leak]:
    """Yield the credentials in the added lines of `Repository.patches`."""
    text = patches.decode(errors="surrogateescape")
    if any(True for _ in secrets.find(text)):  # usually there is none, and no line is looked at
        for path, numbers, lines in _added(text):
            joined = "\n".join(lines)
            for start, what, found in secrets.find(joined):
                yield Leak(path, numbers[joined.count("\n", 0, start)], what, found)


def _added(text: str) -> Iterator[tuple[str, list[int], list[str]]]:
    """Yield path, line numbers and lines that each hunk adds; the path of a commit message is ''.

    A merge has a column for each parent; only a line that is new in all of them counts (git-diff, combined).
    """
    path, columns, number, left = "", 1, 0, 0
    numbers: list[int] = []
    lines: list[str] = []
    for line in text.split("\n"):
        if left and not line.startswith("\\"):
            marks = line[:columns]
            if "-" in marks:
                continue
            if marks == "+" * columns:
                numbers.append(number)
                lines.append(line[columns:])
            number, left = number + 1, left - 1
            continue
        hunk = re.match(r"(@@+) .*\+(\d+)(?:,(\d+))? @@", line)
        if lines and (hunk or line.startswith(("diff ", "commit "))):
            yield path, numbers, lines
            numbers, lines = [], []
        if hunk:
            columns, number, left = len(hunk[1]) - 1, int(hunk[2]), int(hunk[3] or 1)
        elif line.startswith("commit "):
            path = ""
        elif line.startswith("+++ "):
            path = line[4:].strip('\t"').removeprefix("b/")  # a tab follows a name with spaces
        elif line.startswith(" ") and not path:
            numbers.append(0)
            lines.append(line[1:])
    if lines:
        yield path, numbers, lines
