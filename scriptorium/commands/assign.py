"""scriptorium assign: give the oldest ready ticket a branch and a worktree."""

from __future__ import annotations

from scriptorium.cli import Command
from scriptorium.coding.assign import assign_next
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.gate.health import known_health
from scriptorium.gate.results import Colour
from scriptorium.plan.readiness import open_problems, ready_tickets
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit


class Assign(Command):
    """Move the oldest ready ticket from open to in-progress, with its own branch and worktree.

    A ticket is ready when its dependencies are done. A higher 'priority' goes first, then the lower
    number. Prints the ticket and its worktree, or nothing when no ticket is ready. While master is
    known to be red, only tickets marked 'repair: true' are assigned; the exit code is 3 without one.
    """

    def main(self) -> int:
        workspace = Workspace.open()
        red = known_health(workspace).colour is Colour.RED
        result = assign_next(workspace, repairs_only=red)
        if result is None and red and ready_tickets(workspace.plan.snapshot()):
            raise ScriptoriumError(
                "master is red, so no ticket is assigned",
                "repair it on master, or by a ticket marked 'repair: true'",
                ExitCode.REFUSED,
            )
        if result:
            emit(result[0], str(result[1]))
            return ExitCode.OK
        problems = open_problems(workspace.plan.snapshot())
        if problems:
            raise problems[0]
        return ExitCode.OK


main = Assign.launch
