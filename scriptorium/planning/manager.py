"""The Manager writes tickets for each area."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scriptorium.agents.prompts import prompt
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import Tools
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import LAST_ID, PLANNED, Plan
from scriptorium.plan.ticket import State, TicketError, name_problem, ticket_id, ticket_path
from scriptorium.planning import drafts
from scriptorium.planning.run import PlanEdits, hold_planning_lock, release_edits, run_planner
from scriptorium.project.held import PlanningLock
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees import rescue

log = logging.getLogger(__name__)

MAX_DONE_LISTED = 200
"""The number of done tickets that a prompt lists."""


def areas_due(plan: Plan) -> list[str]:
    """Return the areas that are new or have changed since the Manager wrote their tickets. Pure."""
    return [name for name, oid in plan.areas.items() if plan.planned.get(f"areas/{name}.md") != oid]


def write_tickets(
    workspace: Workspace, endpoint: Endpoint | None = None, report: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Run the Manager once for each new or changed area, and return the names of the new tickets.

    ``endpoint`` is the MCP server of a surrounding `scriptorium run`, and ``report`` receives the name of each ticket.
    After a failed area the others still run. Raises at the end if an area failed.
    """
    if not areas_due(workspace.plan.snapshot()):
        return []
    created: list[str] = []
    failures: dict[str, ScriptoriumError] = {}
    with hold_planning_lock(workspace) as lock:
        # the plan is read again for each area, because it has the tickets of the area before
        while areas := [area for area in areas_due(workspace.plan.snapshot()) if area not in failures]:
            try:
                names = _plan_area(workspace, lock, areas[0], endpoint)
            except ScriptoriumError as error:
                if error.code is ExitCode.LOCKED and failures:
                    break  # probably a backend that cools down after the last failure, which explains more
                if error.code is ExitCode.LOCKED:
                    raise
                failures[areas[0]] = error
                continue
            created += names
            for name in names:
                report(name)
    if failures:
        raise _combined(list(failures.values()))
    return created


def _combined(failures: list[ScriptoriumError]) -> ScriptoriumError:
    """Return the failures of several areas as one, with each message once."""
    first = failures[0]
    message = "; ".join(dict.fromkeys(failure.message for failure in failures))
    return first if message == first.message else ScriptoriumError(message, first.hint, first.code)


def _plan_area(workspace: Workspace, lock: PlanningLock, area: str, endpoint: Endpoint | None) -> list[str]:
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
        def submit(given: Mapping[str, Any]) -> str:
            first = workspace.plan.next_id(base)
            return drafts.submit_tickets(base, first, worktree, area, given.get("tickets"))

        return {"submit_tickets": submit}

    edits = run_planner(
        workspace, lock, "manager", f"manager-{area}", text, may_write, area=area, tools=tools, endpoint=endpoint
    )
    try:
        created = _commit_tickets(workspace, area, edits)
    except TicketError as error:
        rescue.log_kept("tickets that the plan cannot accept", edits.kept)
        error.hint = f"the Manager's files are kept: git show {edits.kept}"
        raise
    release_edits(workspace, edits)
    log.info("manager: tickets created for area '%s': %s", area, ", ".join(created) or "none")
    return created


def known_tickets(plan: Plan) -> list[str]:
    """Return the tickets as the prompt lists them; of done tickets only the newest, because there may be thousands."""
    lines = [f"{name} ({state})" for state in State if state is not State.DONE for name in plan.tickets(state)]
    done = plan.tickets(State.DONE)
    older = len(done) - MAX_DONE_LISTED
    lines += [f"({older} older ones are in tickets/done/)"] if older > 0 else []
    return lines + [f"{name} ({State.DONE})" for name in done[-MAX_DONE_LISTED:]]


def _commit_tickets(workspace: Workspace, area: str, edits: PlanEdits) -> list[str]:
    """Commit the tickets and the record of the area they come from."""
    files = sorted(edits.allowed.items())
    batch = [drafts.Draft.read(path, data, area) for path, data in files if data is not None]
    created: list[str] = []

    def decide(plan: Plan) -> PlanChange:
        nonlocal created
        files = drafts.number(plan, workspace.plan.next_id(plan), batch)
        created = list(files)
        change = PlanChange("create", f"tickets from area {area}")
        change.writes = {ticket_path(State.OPEN, name): data for name, data in files.items()}
        change.writes[PLANNED] = plan.with_planned({f"areas/{area}.md": edits.base.blob(f"areas/{area}.md")})
        if files:
            change.writes[LAST_ID] = f"{max(int(ticket_id(name)) for name in files)}\n".encode()
        change.trailers = {"Area": area, "Tickets": ", ".join(created), **edits.outcome.trailers()}
        return change

    workspace.plan.transact(decide)
    return created
