"""scriptorium clean: show or remove unneeded worktrees, branches and rescue refs."""

from __future__ import annotations

import json

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.worktrees.clean import find_leftovers, remove_leftovers


class Clean(Command):
    """List worktrees, branches and rescue refs that are no longer needed; with --force, remove them.

    Content that is in master is removed. Content of a finished or removed ticket that is not in master
    is removed only after a rescue ref keeps it. Content of an unfinished ticket stays. Prints one line
    per item: 'remove', 'rescue' or 'keep', the kind, the name and the reason.
    """

    force = Flag(["-f", "--force"], help="remove the items instead of only listing them")
    as_json = Flag("--json", help="print one JSON array")

    def main(self) -> int:
        workspace = Workspace.open()
        found = (
            remove_leftovers(workspace) if self.force else list(find_leftovers(workspace, workspace.plan.snapshot()))
        )
        if self.as_json:
            print(json.dumps([vars(leftover) for leftover in found], indent=2))
        else:
            for leftover in found:
                emit(leftover.action, leftover.kind, leftover.name, leftover.why)
        return ExitCode.OK


main = Clean.launch
