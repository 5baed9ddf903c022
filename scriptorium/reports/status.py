"""The status of a project: read from the plan, the locks and the recorded verdicts, without starting a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scriptorium.agents import sandbox
from scriptorium.agents.harness.choice import backend_name
from scriptorium.agents.sandbox import Sandbox
from scriptorium.errors import ScriptoriumError
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, branch_of
from scriptorium.project.config import ACTIVE_ROLES
from scriptorium.project.workspace import Workspace

SCHEMA = 1
"""The version of the JSON form; it changes when a key is removed or changes its meaning."""


@dataclass(frozen=True)
class ActiveTicket:
    """A ticket that an agent works on now."""

    ticket: str
    branch: str
    worktree: str


@dataclass(frozen=True)
class MasterStatus:
    """The commit at the tip of master, and the gate's verdict on it as far as one is recorded."""

    branch: str
    commit: str
    health: str


@dataclass(frozen=True)
class ProjectStatus:
    """The status of a project. The fields, in this order, are the keys of the JSON form."""

    schema: int
    counts: Mapping[str, int]
    """Tickets by state."""
    active: list[ActiveTicket]
    open: list[str]
    in_progress: list[str]
    stuck: list[str]
    queue: list[str]
    """The tickets in the merge queue, in order."""
    master: MasterStatus
    sandbox: Mapping[str, Sandbox]
    """The sandbox of the last agent, by backend; without the backends that have run none."""
    spec: bool
    """Whether spec.md is written."""
    running: bool
    """Whether `scriptorium run` is running."""
    plan: str
    """The commit of the plan branch."""


def gather(workspace: Workspace, plan: Plan) -> ProjectStatus:
    """Return the status of a project."""
    in_progress = plan.tickets(State.IN_PROGRESS)
    active = [name for name in in_progress if workspace.is_ticket_held(name)]
    return ProjectStatus(
        schema=SCHEMA,
        counts={str(state): len(plan.tickets(state)) for state in State},
        active=[ActiveTicket(name, branch_of(name), str(workspace.paths.ticket_worktree(name))) for name in active],
        open=plan.tickets(State.OPEN),
        in_progress=in_progress,
        stuck=plan.tickets(State.STUCK),
        queue=[item.ticket for item in plan.queue()],
        master=_master(workspace),
        sandbox=_sandboxes(workspace),
        spec=plan.has_spec,
        running=workspace.is_held("run"),
        plan=plan.commit,
    )


def _master(workspace: Workspace) -> MasterStatus:
    from scriptorium.gate.results import recall_verdict

    try:
        commit = workspace.master_commit()
        health = recall_verdict(workspace, workspace.repository.tree_of(commit))
    except ScriptoriumError as error:  # an invalid configuration must not hide the rest
        return MasterStatus("", "", f"unknown: {error.message}")
    return MasterStatus(workspace.master, commit, str(health))


def _sandboxes(workspace: Workspace) -> dict[str, Sandbox]:
    """Return the sandbox of the last agent of each backend in use; without the backends that have run none."""
    try:
        backends = sorted({backend_name(workspace.config, role) for role in ACTIVE_ROLES})
        found = {backend: sandbox.recorded_sandbox(workspace, backend) for backend in backends}
    except ScriptoriumError:
        return {}
    return {backend: one for backend, one in found.items() if one}
