"""scriptorium worktrees: the worktrees of tickets in progress."""

from __future__ import annotations

import json

from scriptorium.cli import Command, Flag
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.worktrees.active import active_worktrees


class Worktrees(Command):
    """List the worktrees of tickets in progress, as a table of worktree, ticket and branch."""

    as_json = Flag("--json", help="print one JSON array")

    def main(self) -> None:
        workspace = Workspace.open()
        rows = active_worktrees(workspace, workspace.plan.snapshot())
        if self.as_json:
            print(json.dumps([row._asdict() for row in rows], indent=2))
        elif not rows:
            print("scriptorium: no active ticket worktrees")
        else:
            emit("WORKTREE", "TICKET", "BRANCH")
            for row in rows:
                emit(*row)


main = Worktrees.launch
