"""scriptorium clean: take away what is not needed any more, and tell what is."""

from __future__ import annotations

import json

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.worktrees.clean import find_leftovers, remove_leftovers


class Clean(Command):
    """Show which worktrees, branches and rescue refs are not needed any more; with --force, remove them.

    What is in master goes. What belongs to a ticket that is done or gone, and is not in master, goes
    only after a rescue ref keeps it. What belongs to an unfinished ticket stays. Prints a line for
    each: 'remove', 'rescue' or 'keep', what it is, its name, and why.
    """

    force = Flag(["-f", "--force"], help="do it, instead of only showing it")
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
