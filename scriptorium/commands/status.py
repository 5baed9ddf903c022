"""scriptorium status: ticket counts and who is at work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from scriptorium.agents import sandbox
from scriptorium.errors import ExitCode
from scriptorium.git.environment import scrub_environment
from scriptorium.plan.snapshot import WAITING
from scriptorium.plan.ticket import State, ticket_path
from scriptorium.project.workspace import Workspace
from scriptorium.reports.status import gather
from scriptorium.system.text import one_line

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
    return [one_line(text) for text in lines]  # a name that is no ticket's may hold anything
