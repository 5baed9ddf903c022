"""scriptorium assign: the oldest ready ticket gets a branch and a worktree."""

from __future__ import annotations

from pathlib import Path

from scriptorium.cli import Command
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.gate.health import known_health
from scriptorium.gate.results import Colour
from scriptorium.plan import transitions
from scriptorium.plan.change import Change
from scriptorium.plan.readiness import open_problems, ready
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import slug
from scriptorium.project import disk
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.system import locks
from scriptorium.worktrees import tickets as worktrees


class Assign(Command):
    """Move the oldest ready ticket from open to in-progress, with a branch and a worktree of its own.

    Ready is a ticket whose dependencies are done. A higher 'priority' goes first, then the lower
    number. Prints the ticket and its worktree, or nothing when no ticket is ready. While master is
    known to be red only tickets marked 'repair: true' have a turn, and the exit code is 3 without one.
    """

    def main(self) -> int:
        workspace = Workspace.open()
        red = known_health(workspace).colour is Colour.RED
        result = assign(workspace, repairs_only=red)
        if result is None and red and ready(workspace.plan.snapshot()):
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


def assign(workspace: Workspace, *, repairs_only: bool = False) -> tuple[str, Path] | None:
    """Assign the next ticket and return it with its worktree; None when none is ready.

    ``repairs_only`` leaves all but tickets marked ``repair: true``, for when master is red.
    """
    chosen = ""
    disk.require(workspace)
    workspace.master_commit()  # what the worktree cannot be made without must be there before the ticket moves

    def decide(plan: Plan) -> Change | None:
        nonlocal chosen
        tickets = ready(plan)
        if repairs_only:
            tickets = [ticket for ticket in tickets if ticket.repair]
        if not tickets:
            return None
        # a file that somebody dropped there without a number gets the next one
        chosen = tickets[0].name if tickets[0].id else f"{plan.next_id():04d}-{slug(tickets[0].name)}"
        return transitions.assign(tickets[0], chosen)

    if workspace.plan.transact(decide) is None:
        return None
    lock = workspace.paths.ensure(workspace.paths.ticket_lock(chosen).parent) / f"{chosen}.lock"
    if locks.is_held(lock):  # a neighbour has taken it up at once, and its agent may be in the midst of a rebase
        return chosen, workspace.paths.ticket_worktree(chosen)
    with locks.hold(lock, chosen):
        return chosen, worktrees.ensure(workspace, chosen)


main = Assign.launch
