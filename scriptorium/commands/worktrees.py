"""scriptorium worktrees: the worktrees of tickets in progress."""

from __future__ import annotations

import json
import re
from pathlib import Path

from scriptorium.cli import Command, Flag
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, branch_of, ticket_path
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.system.text import one_line


class Worktrees(Command):
    """List the worktrees of tickets in progress, as a table of worktree, ticket and branch."""

    as_json = Flag("--json", help="print one JSON array")

    def main(self) -> None:
        workspace = Workspace.open()
        rows = active(workspace, workspace.plan.snapshot())
        if self.as_json:
            print(json.dumps([{"worktree": w, "ticket": t, "branch": b} for w, t, b in rows], indent=2))
        elif not rows:
            print("scriptorium: no active ticket worktrees")
        else:
            emit("WORKTREE", "TICKET", "BRANCH")
            for row in rows:
                emit(*row)


def active(workspace: Workspace, plan: Plan) -> list[tuple[str, str, str]]:
    """Return (worktree, ticket, branch) for each ticket in progress that has a worktree.

    A ticket of the original names its worktree itself; ours are where their name says.
    """
    rows = []
    for name in plan.tickets(State.IN_PROGRESS):
        text = plan.read(ticket_path(State.IN_PROGRESS, name)).decode(errors="surrogateescape")
        named = re.search(r"^\*\*Worktree:\*\*[ \t]*(\S.*?)[ \t\r]*$", text, re.MULTILINE)
        path = workspace.paths.ticket_worktree(name)
        if named and not path.exists():
            path = Path(one_line(named[1]).replace("\t", " "))
        if named or path.exists():
            rows.append((str(path), name, branch_of(name)))
    return rows


main = Worktrees.launch
