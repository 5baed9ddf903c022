"""Any program as an agent: it gets the prompt on stdin, runs in the worktree, and has SCRIPTORIUM_* variables.

All its output is logged and counts as progress. It submits by `scriptorium submit-pr`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from scriptorium.agents.harness.base import Event, EventKind, Harness, Report, Task
from scriptorium.project.config import Program


class CommandHarness(Harness):
    """A configured program."""

    stderr_is_progress = True

    def __init__(self, name: str, program: Program, root: Path) -> None:
        self.name = name
        self._program = program
        self._root = root

    def argv(self, _task: Task, _last_message: Path) -> list[str]:
        return [self.program(), *self._program.command[1:]]

    def settings(self, _task: Task) -> Mapping[str, str]:
        return self._program.env

    def program(self) -> str:
        first = self._program.command[0]
        # "./agent" is relative to the top of the repository, not to the worktree
        return str(self._root / first) if "/" in first else first

    def install_hint(self) -> str:
        return f"check 'harnesses.{self.name}.command' in 'scriptorium.json'"

    def read(self, line: bytes, report: Report) -> Iterator[Event]:
        report.worked = True
        text = line.decode(errors="replace").strip()
        if text:
            report.message = text
        yield Event(EventKind.TEXT, text)
