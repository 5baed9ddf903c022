"""All checks of the plan branch."""

from __future__ import annotations

from scriptorium.plan.finding import Finding
from scriptorium.plan.fsck import check_areas, check_branches, check_keys, check_queue, check_tickets
from scriptorium.plan.history import check_history, read_history
from scriptorium.plan.ticket import BRANCH_PREFIX
from scriptorium.project.workspace import Workspace


def fsck(workspace: Workspace) -> list[Finding]:
    """Return the problems of the present plan, then of its branches, then of its history."""
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
