"""scriptorium architect: spec.md becomes areas."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from scriptorium import planning, rescue
from scriptorium.cli import Command
from scriptorium.endpoint import Endpoint
from scriptorium.errors import ScriptoriumError
from scriptorium.notices import WAITING
from scriptorium.plan import PLANNED, Change, Plan
from scriptorium.prompts import prompt
from scriptorium.records import emit
from scriptorium.submission import Tools
from scriptorium.ticket import State, Ticket, TicketError, area_problem
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)


class Architect(Command):
    """Let the Architect divide spec.md into areas if the spec has changed since the last time.

    Prints the name of each changed area, one per line, and nothing when the areas are current.
    """

    def main(self) -> None:
        workspace = Workspace.open()
        if not workspace.plan.snapshot().has_spec:
            log.info(WAITING)
        for area in architect(workspace):
            emit(area)


def due(plan: Plan) -> bool:
    """Tell whether the spec has changed since the areas were made from it. Pure."""
    return plan.has_spec and plan.planned.get("spec.md") != plan.blob("spec.md")


def architect(workspace: Workspace, endpoint: Endpoint | None = None) -> list[str]:
    """Bring the areas up to date with the spec and return those that changed; no agent runs when they are.

    ``endpoint`` is the MCP server of a surrounding `scriptorium run`.
    """
    if not due(workspace.plan.snapshot()):
        return []
    changed: list[str] = []
    with planning.single_flight(workspace):
        # asked anew each time: whoever changed the spec meanwhile found the lock held, and left
        while due(plan := workspace.plan.snapshot()):
            if not plan.blob("format") and not plan.blob(PLANNED) and plan.areas:
                _adopt(workspace)
                continue
            text = prompt("architect", repo=workspace.repository.root, spec=plan.spec.decode(errors="replace"))
            edits = planning.run(workspace, "architect", "architect", text, _may_write, tools=_tools, endpoint=endpoint)
            changed += _record(workspace, edits)
    return list(dict.fromkeys(changed))


def _may_write(path: str) -> bool:
    found = re.fullmatch(r"areas/([^/.][^/]*)\.md", path, re.DOTALL)
    return found is not None and not area_problem(found[1])


def _tools(_base: Plan, worktree: Path) -> Tools:
    return {"submit_areas": lambda given: hand_in(worktree, given.get("areas"), given.get("remove", []))}


def hand_in(worktree: Path, areas: Any, remove: Any) -> str:
    """Write areas, each ``{name, text}``, into a checkout of the plan, all or none, and return the reply."""
    if not isinstance(areas, list) or not all(map(_is_area, areas)):
        raise ScriptoriumError("these are no areas", "a list of {name, text}, both of them texts")
    if not isinstance(remove, list) or not all(isinstance(name, str) for name in remove):
        raise ScriptoriumError("these are no names of areas to remove", "a list of texts")
    files = [(area["name"], f"{area['text'].strip()}\n") for area in areas]
    gone = list(remove)
    _check([name for name, _ in files], gone, _names(worktree))
    for name, text in files:
        planning.put(worktree, _path(name), text.encode(errors="replace"))
    for name in gone:
        planning.remove(worktree, _path(name))
    return f"The areas are {', '.join(_names(worktree)) or 'none'}."


def _is_area(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("name", "text"))


def _check(new: list[str], gone: list[str], known: list[str]) -> None:
    """Raise, for the Architect to read, when areas of these names cannot be taken. Pure."""
    wrong = [f"'{name}' is no name for an area" for name in new if not _may_write(_path(name))]
    wrong += [f"there is no area '{name}' to remove, only {', '.join(known)}" for name in gone if name not in known]
    wrong += [f"area '{name}' is there twice" for name in new if (new + gone).count(name) > 1]
    if wrong:
        raise ScriptoriumError(wrong[0], "none of them is taken: mend it, and hand them all in again")


def _path(area: str) -> str:
    return f"areas/{area}.md"


def _names(worktree: Path) -> list[str]:
    return sorted(file.stem for file in (worktree / "areas").glob("*.md"))


def _record(workspace: Workspace, edits: planning.Edits) -> list[str]:
    """Write the areas, and what they were made from, as one commit."""
    changed: list[str] = []

    def decide(plan: Plan) -> Change:
        nonlocal changed
        # an area that a person has edited meanwhile stays theirs
        own = {path: data for path, data in edits.allowed.items() if plan.blob(path) == edits.base.blob(path)}
        changed = [path.removeprefix("areas/").removesuffix(".md") for path in own]
        change = Change("update", "areas from spec")
        change.writes = {path: data for path, data in own.items() if data is not None}
        change.removes = [path for path, data in own.items() if data is None]
        change.writes[PLANNED] = plan.with_planned({"spec.md": edits.base.blob("spec.md")})
        change.trailers = {"Areas": ", ".join(changed), **edits.outcome.trailers()}
        return change

    workspace.plan.transact(decide)
    theirs = [path for path in edits.allowed if path.removeprefix("areas/").removesuffix(".md") not in changed]
    if theirs:
        why = f"{', '.join(theirs)} was edited meanwhile and stays as it is; what the Architect wrote"
        rescue.tell(why, edits.kept)
    else:
        planning.release(workspace, edits)
    log.info("architect: areas updated: %s", ", ".join(changed) or "none")
    return changed


def _adopt(workspace: Workspace) -> None:
    """Take over a plan of the original, which keeps no such record: what has areas and tickets is planned."""

    def decide(plan: Plan) -> Change | None:
        if plan.blob(PLANNED):
            return None
        ticketed = {ticket.area for ticket in _readable(plan)}
        current = {f"areas/{name}.md": oid for name, oid in plan.areas.items() if name in ticketed}
        change = Change("adopt", "the plan as it stands")
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


main = Architect.launch
