"""Assigning the next ready ticket: a branch and a worktree of its own."""

from __future__ import annotations

from pathlib import Path

from scriptorium.plan import transitions
from scriptorium.plan.change import PlanChange
from scriptorium.plan.readiness import ready_tickets
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import slug
from scriptorium.project import disk
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks
from scriptorium.worktrees import tickets as worktrees


def assign_next(workspace: Workspace, *, repairs_only: bool = False) -> tuple[str, Path] | None:
    """Assign the next ticket and return it with its worktree; None when none is ready.

    ``repairs_only`` leaves all but tickets marked ``repair: true``, for when master is red.
    """
    chosen = ""
    disk.require_free_space(workspace)
    workspace.master_commit()  # what the worktree cannot be made without must be there before the ticket moves

    def decide(plan: Plan) -> PlanChange | None:
        nonlocal chosen
        tickets = ready_tickets(plan)
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
