"""scriptorium status: ticket counts and who is at work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from scriptorium import locks, sandbox
from scriptorium.config import AT_WORK
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git import scrub_environment
from scriptorium.notices import WAITING
from scriptorium.output import line
from scriptorium.plan import Plan
from scriptorium.ticket import State, branch_of, ticket_path
from scriptorium.workspace import Workspace

if TYPE_CHECKING:
    from scriptorium.cli import Command

LABELS = {State.OPEN: "Open", State.IN_PROGRESS: "In Progress", State.DONE: "Done", State.STUCK: "Stuck"}


def main(argv: list[str]) -> int:
    """Run as `scriptorium status`; the two usual ways to call it do without the import of plumbum."""
    if argv not in ([], ["--json"]):
        return _command().launch(argv)
    scrub_environment()
    show(as_json=bool(argv))
    return ExitCode.OK


def _command() -> type[Command]:
    """Return the command with its help, as all others have it."""
    from scriptorium.cli import Command, Flag

    class Status(Command):
        """Show the ticket counts, the active agents, the merge queue and the known state of master.

        Only reads and runs no gate: master is 'unknown' until 'scriptorium health' or a run has tested it.
        """

        as_json = Flag("--json", help="print one JSON object")

        def main(self) -> None:
            show(as_json=bool(self.as_json))

    Status.__module__ = __name__
    return Status


def show(*, as_json: bool) -> None:
    """Print the status, as lines or as one JSON object."""
    workspace = Workspace.open()
    facts = gather(workspace, workspace.plan.snapshot())
    print(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


def gather(workspace: Workspace, plan: Plan) -> dict[str, object]:
    """Return all that status knows; everything is derived from the plan, the locks and the gate's memory."""
    paths = workspace.paths
    active = [name for name in plan.tickets(State.IN_PROGRESS) if locks.is_held(paths.ticket_lock(name))]
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
        "running": locks.is_held(paths.lock("run")),
        "plan": plan.commit,
    }


def _master(workspace: Workspace) -> dict[str, str]:
    from scriptorium.gate import recall

    try:
        commit = workspace.master_commit()
        health = recall(workspace, workspace.repository.tree_of(commit))
    except ScriptoriumError as error:  # a configuration that is wrong must not hide the rest
        return {"branch": "", "commit": "", "health": f"unknown: {error.message}"}
    return {"branch": workspace.master, "commit": commit, "health": str(health)}


def _sandboxes(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Return what held the last agent of each backend in use; one that has had none is left out."""
    try:
        backends = sorted({workspace.config.backend(role) for role in AT_WORK})
        found = {backend: sandbox.remembered(workspace, backend) for backend in backends}
    except ScriptoriumError:
        return {}
    return {backend: {"name": one.name, "reason": one.reason} for backend, one in found.items() if one}


def _lines(facts: dict[str, object]) -> list[str]:
    counts, active, queue, master = facts["counts"], facts["active"], facts["queue"], facts["master"]
    stuck, sandboxes = facts["stuck"], facts["sandbox"]
    assert isinstance(sandboxes, dict)
    assert isinstance(stuck, list)
    assert isinstance(counts, dict)
    assert isinstance(active, list)
    assert isinstance(queue, list)
    assert isinstance(master, dict)
    lines = [f"{label}: {counts[str(state)]}" for state, label in LABELS.items()]
    if not active:
        lines.append("Active Agent: none")
    for one in active:
        path = ticket_path(State.IN_PROGRESS, one["ticket"])
        lines.append(f"Active Agent Ticket: {one['ticket'].partition('-')[0]} ({path})")
        lines.append(f"Active Agent Branch: {one['branch']}")
        lines.append(f"Active Agent Worktree: {one['worktree']}")
    if stuck:
        lines.append(f"Stuck Tickets: {', '.join(stuck)}")
    if queue:
        lines.append(f"Merge Queue: {', '.join(queue)}")
    lines.append(f"Master: {master['health']} {master['commit'][:12]}".rstrip())
    lines += [f"Sandbox: {backend}: {sandbox.Sandbox(**one)}" for backend, one in sandboxes.items()]
    if not facts["spec"]:
        lines.append(WAITING)
    return [line(text) for text in lines]  # a name that is no ticket's may hold anything
