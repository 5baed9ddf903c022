"""The status of a project, gathered without starting anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scriptorium.agents import sandbox
from scriptorium.agents.harness.choice import backend_name
from scriptorium.errors import ScriptoriumError
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, branch_of
from scriptorium.project.config import ACTIVE_ROLES
from scriptorium.project.workspace import Workspace

if TYPE_CHECKING:
    pass


def gather(workspace: Workspace, plan: Plan) -> dict[str, object]:
    """Return all that status knows; everything is derived from the plan, the locks and the gate's memory."""
    paths = workspace.paths
    active = [name for name in plan.tickets(State.IN_PROGRESS) if workspace.is_ticket_held(name)]
    queue = [item.ticket for item in plan.queue()]
    return {
        "counts": {str(state): len(plan.tickets(state)) for state in State},
        "active": [
            {"ticket": name, "branch": branch_of(name), "worktree": str(paths.ticket_worktree(name))} for name in active
        ],
        "open": plan.tickets(State.OPEN),
        "in_progress": plan.tickets(State.IN_PROGRESS),
        "stuck": plan.tickets(State.STUCK),
        "queue": queue,
        "master": _master(workspace),
        "sandbox": _sandboxes(workspace),
        "spec": plan.has_spec,
        "running": workspace.is_held("run"),
        "plan": plan.commit,
    }


def _master(workspace: Workspace) -> dict[str, str]:
    from scriptorium.gate.results import recall_verdict

    try:
        commit = workspace.master_commit()
        health = recall_verdict(workspace, workspace.repository.tree_of(commit))
    except ScriptoriumError as error:  # a configuration that is wrong must not hide the rest
        return {"branch": "", "commit": "", "health": f"unknown: {error.message}"}
    return {"branch": workspace.master, "commit": commit, "health": str(health)}


def _sandboxes(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Return what held the last agent of each backend in use; one that has had none is left out."""
    try:
        backends = sorted({backend_name(workspace.config, role) for role in ACTIVE_ROLES})
        found = {backend: sandbox.recorded_sandbox(workspace, backend) for backend in backends}
    except ScriptoriumError:
        return {}
    return {backend: {"name": one.name, "reason": one.reason} for backend, one in found.items() if one}
