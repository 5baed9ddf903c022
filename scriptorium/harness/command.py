"""Any program as an agent: prompt on stdin, worktree as directory, the rest in the environment.

Whatever it prints is kept and counts as progress. It hands in by `scriptorium submit-pr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scriptorium.config import Program
from scriptorium.harness import Harness, Report, Task


class Command(Harness):
    """A program named in the configuration."""

    def __init__(self, name: str, program: Program) -> None:
        self.name = name
        self._program = program

    def argv(self, task: Task, _last_message: Path) -> list[str]:
        first, *rest = self._program.command
        # "./agent" is meant from the top of the repository, not from the worktree
        if "/" in first and not first.startswith("/"):
            first = str(Path(task.env["SCRIPTORIUM_REPO"]) / first)
        return [first, *rest]

    def settings(self) -> Mapping[str, str]:
        return self._program.env

    def program(self) -> str:
        return self._program.command[0]

    def remedy(self) -> str:
        return f"check 'harnesses.{self.name}.command' in 'scriptorium.json'"

    def read(self, line: bytes, report: Report) -> bool:
        text = line.decode(errors="replace").strip()
        if text:
            report.message = text
        return True
