"""The Architect divides the spec into areas."""

from __future__ import annotations

import logging

from scriptorium.agents.prompts import prompt
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import PLANNED, Plan
from scriptorium.plan.ticket import State, Ticket, TicketError
from scriptorium.planning.areas import area_tools, may_write
from scriptorium.planning.run import PlanEdits, hold_planning_lock, release_edits, run_planner
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees import rescue

log = logging.getLogger(__name__)


def areas_are_stale(plan: Plan) -> bool:
    """Return whether the spec has changed since the Architect divided it into areas. Pure."""
    return plan.has_spec and plan.planned.get("spec.md") != plan.blob("spec.md")


def update_areas(workspace: Workspace, endpoint: Endpoint | None = None) -> list[str]:
    """Run the Architect until the areas match the spec, and return the names of the changed areas.

    No agent runs if the areas are up to date. ``endpoint`` is the MCP server of a surrounding `scriptorium run`.
    """
    if not areas_are_stale(workspace.plan.snapshot()):
        return []
    changed: list[str] = []
    with hold_planning_lock(workspace) as lock:
        # the spec may change during a run, and another process would have found the lock held and given up
        while areas_are_stale(plan := workspace.plan.snapshot()):
            if not plan.blob("format") and not plan.blob(PLANNED) and plan.areas:
                _adopt_original(workspace)
                continue
            text = prompt("architect", repo=workspace.repository.root, spec=plan.spec.decode(errors="replace"))
            edits = run_planner(
                workspace, lock, "architect", "architect", text, may_write, tools=area_tools, endpoint=endpoint
            )
            changed += _commit_areas(workspace, edits)
    return list(dict.fromkeys(changed))


def _commit_areas(workspace: Workspace, edits: PlanEdits) -> list[str]:
    """Commit the areas and the record of the spec they come from."""
    changed: list[str] = []

    def decide(plan: Plan) -> PlanChange:
        nonlocal changed
        # an area that the user edited meanwhile stays as it is
        own = {path: data for path, data in edits.allowed.items() if plan.blob(path) == edits.base.blob(path)}
        changed = [path.removeprefix("areas/").removesuffix(".md") for path in own]
        change = PlanChange("update", "areas from spec")
        change.writes = {path: data for path, data in own.items() if data is not None}
        change.removes = [path for path, data in own.items() if data is None]
        change.writes[PLANNED] = plan.with_planned({"spec.md": edits.base.blob("spec.md")})
        change.trailers = {"Areas": ", ".join(changed), **edits.outcome.trailers()}
        return change

    workspace.plan.transact(decide)
    edited = [path for path in edits.allowed if path.removeprefix("areas/").removesuffix(".md") not in changed]
    if edited:
        why = f"{', '.join(edited)} was edited meanwhile and stays as it is; the Architect's version"
        rescue.log_kept(why, edits.kept)
    else:
        release_edits(workspace, edits)
    log.info("architect: areas updated: %s", ", ".join(changed) or "none")
    return changed


def _adopt_original(workspace: Workspace) -> None:
    """Adopt a plan of the original, which has no ``planned`` file: the spec and areas with tickets count as planned."""

    def decide(plan: Plan) -> PlanChange | None:
        if plan.blob(PLANNED):
            return None
        ticketed = {ticket.area for ticket in _readable(plan)}
        current = {f"areas/{name}.md": oid for name, oid in plan.areas.items() if name in ticketed}
        change = PlanChange("adopt", "the plan as it stands")
        change.writes[PLANNED] = plan.with_planned({"spec.md": plan.blob("spec.md"), **current})
        return change

    workspace.plan.transact(decide)


def _readable(plan: Plan) -> list[Ticket]:
    found = []
    for state in State:
        for name in plan.tickets(state):
            try:
                found.append(plan.ticket(name, state))
            except TicketError:
                continue
    return found
