"""scriptorium status: show ticket counts and active agents."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from scriptorium.errors import ExitCode
from scriptorium.git.environment import scrub_environment
from scriptorium.plan.snapshot import WAITING
from scriptorium.plan.ticket import State, ticket_path
from scriptorium.project.workspace import Workspace
from scriptorium.reports.status import ProjectStatus, gather
from scriptorium.system.text import one_line

if TYPE_CHECKING:
    from scriptorium.cli import Command

LABELS = {State.OPEN: "Open", State.IN_PROGRESS: "In Progress", State.DONE: "Done", State.STUCK: "Stuck"}


def main(argv: list[str]) -> int:
    """Run `scriptorium status`. The two usual command lines skip the slow import of plumbum."""
    if argv not in ([], ["--json"]):
        return _command().launch(argv)
    scrub_environment()
    show(as_json=bool(argv))
    return ExitCode.OK


def _command() -> type[Command]:
    """Return the command, for all other command lines, such as --help."""
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
    status = gather(workspace, workspace.plan.snapshot())
    print(json.dumps(asdict(status), indent=2) if as_json else "\n".join(_lines(status)))


def _lines(status: ProjectStatus) -> list[str]:
    lines = [f"{label}: {status.counts[str(state)]}" for state, label in LABELS.items()]
    if not status.active:
        lines.append("Active Agent: none")
    for active in status.active:
        path = ticket_path(State.IN_PROGRESS, active.ticket)
        lines.append(f"Active Agent Ticket: {active.ticket.partition('-')[0]} ({path})")
        lines.append(f"Active Agent Branch: {active.branch}")
        lines.append(f"Active Agent Worktree: {active.worktree}")
    if status.stuck:
        lines.append(f"Stuck Tickets: {', '.join(status.stuck)}")
    if status.queue:
        lines.append(f"Merge Queue: {', '.join(status.queue)}")
    lines.append(f"Master: {status.master.health} {status.master.commit[:12]}".rstrip())
    lines += [f"Sandbox: {backend}: {sandbox}" for backend, sandbox in status.sandbox.items()]
    if not status.spec:
        lines.append(WAITING)
    return [one_line(text) for text in lines]  # a file name on the plan branch may hold any character
