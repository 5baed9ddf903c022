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
from scriptorium.worktrees.tickets import TicketWorktree


def assign_next(workspace: Workspace, *, repairs_only: bool = False) -> tuple[str, Path] | None:
    """Assign the next ready ticket and return it with its worktree; None if no ticket is ready.

    ``repairs_only`` restricts the choice to tickets marked ``repair: true``, for a red master. Raises if the disk is
    nearly full, or if the worktree cannot be created.
    """
    chosen = ""
    disk.require_free_space(workspace)
    workspace.master_commit()  # without master there is no worktree: fail before the ticket moves

    def decide(plan: Plan) -> PlanChange | None:
        nonlocal chosen
        tickets = ready_tickets(plan)
        if repairs_only:
            tickets = [ticket for ticket in tickets if ticket.repair]
        if not tickets:
            return None
        # a file that the user added without a number gets the next one
        chosen = tickets[0].name if tickets[0].id else f"{workspace.plan.next_id(plan):04d}-{slug(tickets[0].name)}"
        return transitions.assign(tickets[0], chosen)

    if workspace.plan.transact(decide) is None:
        return None
    if workspace.is_ticket_held(chosen):  # another process works on it already; its agent may be in a rebase
        return chosen, workspace.paths.ticket_worktree(chosen)
    with workspace.hold_ticket(chosen) as lock:
        return chosen, TicketWorktree(workspace, lock).ensure()
