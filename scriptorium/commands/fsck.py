"""scriptorium fsck: check the plan branch and its history."""

from __future__ import annotations

import json

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode
from scriptorium.plan.finding import Level
from scriptorium.project.workspace import Workspace
from scriptorium.reports.fsck import fsck


class Fsck(Command):
    """Check the present state of the plan branch and its whole history.

    Prints one line per finding: 'error' or 'warning', the ticket, file, branch or commit, and the
    problem. Exits with 1 when there is an error; it repairs nothing.
    """

    as_json = Flag("--json", help="print one JSON object")

    def main(self) -> int:
        findings = fsck(Workspace.open())
        if self.as_json:
            print(json.dumps({"findings": [finding._asdict() for finding in findings]}, indent=2))
        else:
            for finding in findings:
                print("\t".join(_printable(field) for field in finding))
        return ExitCode.FAILED if any(found.level is Level.ERROR for found in findings) else ExitCode.OK


def _printable(text: str) -> str:
    """Return a text without the characters that would break its field or line."""
    return "".join(character if character.isprintable() else "?" for character in text)


main = Fsck.launch
