"""scriptorium fsck: check the plan branch, all its history included."""

from __future__ import annotations

import json

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode
from scriptorium.plan.finding import Finding, Level
from scriptorium.plan.fsck import check_areas, check_branches, check_keys, check_queue, check_tickets
from scriptorium.plan.history import check_history, read_history
from scriptorium.plan.ticket import BRANCH_PREFIX
from scriptorium.project.workspace import Workspace


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


def fsck(workspace: Workspace) -> list[Finding]:
    """Return what does not hold: in the plan now, in its branches, and then in its history."""
    plan = workspace.plan.snapshot()
    unmerged = workspace.repository.branches_not_in(workspace.master_commit(), BRANCH_PREFIX)
    return [
        *check_tickets(plan),
        *check_keys(plan),
        *check_areas(plan),
        *check_queue(plan),
        *check_branches(plan, unmerged, workspace.master),
        *check_history(read_history(workspace.repository, plan.commit)),
    ]


def _printable(text: str) -> str:
    """Return a text as one field of one line."""
    return "".join(character if character.isprintable() else "?" for character in text)


main = Fsck.launch
