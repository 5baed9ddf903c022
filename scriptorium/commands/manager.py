"""scriptorium manager: areas become tickets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from scriptorium import drafts, planning, rescue
from scriptorium.cli import Command
from scriptorium.endpoint import Endpoint
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan import LAST_ID, PLANNED, Change, Plan
from scriptorium.prompts import prompt
from scriptorium.records import emit
from scriptorium.submission import Tools
from scriptorium.ticket import State, TicketError, name_problem, ticket_id, ticket_path
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)


DONE_MOST = 200
"""How many done tickets a prompt lists."""


class Manager(Command):
    """Let the Manager write tickets for each area that has changed since the last time.

    The command assigns the ids and resolves dependencies. Prints each created ticket, one per line, and
    nothing when all areas are planned.
    """

    def main(self) -> None:
        manager(Workspace.open(), tell=emit)


def due(plan: Plan) -> list[str]:
    """Return the areas whose tickets were not made from them as they are now. Pure."""
    return [name for name, oid in plan.areas.items() if plan.planned.get(f"areas/{name}.md") != oid]


def manager(
    workspace: Workspace, endpoint: Endpoint | None = None, tell: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Ticket every area that needs it, one agent run each, and return the new tickets.

    ``endpoint`` is the MCP server of a surrounding `scriptorium run`; ``tell`` is told each ticket. An area that
    fails keeps no other from its run: raises at the end.
    """
    if not due(workspace.plan.snapshot()):
        return []
    created: list[str] = []
    failures: dict[str, ScriptoriumError] = {}
    with planning.single_flight(workspace):
        # read anew each time: each area's tickets are in the plan before the next one's are written
        while areas := [area for area in due(workspace.plan.snapshot()) if area not in failures]:
            try:
                names = _plan_area(workspace, areas[0], endpoint)
            except ScriptoriumError as error:
                if error.code is ExitCode.LOCKED and failures:
                    break  # as a backend that rests since the last failure, which tells more
                if error.code is ExitCode.LOCKED:
                    raise
                failures[areas[0]] = error
                continue
            created += names
            for name in names:
                tell(name)
    if failures:
        raise _all_in_one(list(failures.values()))
    return created


def _all_in_one(failures: list[ScriptoriumError]) -> ScriptoriumError:
    """Return the failures of several areas as one; what all of them met, such as a full disk, is told once."""
    first = failures[0]
    message = "; ".join(dict.fromkeys(failure.message for failure in failures))
    return first if message == first.message else ScriptoriumError(message, first.hint, first.code)


def _plan_area(workspace: Workspace, area: str, endpoint: Endpoint | None) -> list[str]:
    plan = workspace.plan.snapshot()
    text = prompt(
        "manager",
        repo=workspace.repository.root,
        area=area,
        gate=workspace.config.gate,
        text=plan.read(f"areas/{area}.md").decode(errors="replace"),
        tickets="\n".join(known_tickets(plan)) or "none",
    )

    def may_write(path: str) -> bool:
        name = path.removeprefix("tickets/open/").removesuffix(".md")
        return path == ticket_path(State.OPEN, name) and not name_problem(name) and not plan.blob(path)

    def tools(base: Plan, worktree: Path) -> Tools:
        return {"submit_tickets": lambda given: drafts.hand_in(base, worktree, area, given.get("tickets"))}

    edits = planning.run(
        workspace, "manager", f"manager-{area}", text, may_write, area=area, tools=tools, endpoint=endpoint
    )
    try:
        created = _record(workspace, area, edits)
    except TicketError as error:
        rescue.tell("tickets that cannot be taken as they are", edits.kept)
        error.hint = f"what the Manager wrote is kept: git show {edits.kept}"
        raise
    planning.release(workspace, edits)
    log.info("manager: tickets created for area '%s': %s", area, ", ".join(created) or "none")
    return created


def known_tickets(plan: Plan) -> list[str]:
    """Return the tickets as the prompt lists them: of the done ones the newest, as they may be thousands."""
    lines = [f"{name} ({state})" for state in State if state is not State.DONE for name in plan.tickets(state)]
    done = plan.tickets(State.DONE)
    older = len(done) - DONE_MOST
    lines += [f"({older} older ones are in tickets/done/)"] if older > 0 else []
    return lines + [f"{name} ({State.DONE})" for name in done[-DONE_MOST:]]


def _record(workspace: Workspace, area: str, edits: planning.Edits) -> list[str]:
    """Write the tickets, and what they were made from, as one commit."""
    files = sorted(edits.allowed.items())
    batch = [drafts.Draft.read(path, data, area) for path, data in files if data is not None]
    created: list[str] = []

    def decide(plan: Plan) -> Change:
        nonlocal created
        files = drafts.number(plan, batch)
        created = list(files)
        change = Change("create", f"tickets from area {area}")
        change.writes = {ticket_path(State.OPEN, name): data for name, data in files.items()}
        change.writes[PLANNED] = plan.with_planned({f"areas/{area}.md": edits.base.blob(f"areas/{area}.md")})
        if files:
            change.writes[LAST_ID] = f"{max(int(ticket_id(name)) for name in files)}\n".encode()
        change.trailers = {"Area": area, "Tickets": ", ".join(created), **edits.outcome.trailers()}
        return change

    workspace.plan.transact(decide)
    return created


main = Manager.launch
