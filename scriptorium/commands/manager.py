"""scriptorium manager: areas become tickets."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scriptorium import planning, rescue
from scriptorium.cli import Command
from scriptorium.commands.assign import find_circle
from scriptorium.plan import LAST_ID, PLANNED, Change, Plan
from scriptorium.prompts import prompt
from scriptorium.records import emit
from scriptorium.ticket import (
    State,
    TicketError,
    bold_fields,
    load_yaml,
    parse_ticket,
    set_field,
    slug,
    split_front_matter,
    ticket_id,
    ticket_path,
)
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)


DONE_MOST = 200
"""How many done tickets a prompt lists."""


class Manager(Command):
    """Let the Manager write tickets for each area that has changed since that was last done.

    Ids are given out here, and dependencies resolved. Prints a line for each ticket created, and
    nothing when all areas are planned.
    """

    def main(self) -> None:
        for name in manager(Workspace.open()):
            emit(name)


def due(plan: Plan) -> list[str]:
    """Return the areas whose tickets were not made from them as they are now. Pure."""
    return [name for name, oid in plan.areas.items() if plan.planned.get(f"areas/{name}.md") != oid]


def manager(workspace: Workspace) -> list[str]:
    """Ticket every area that needs it, one agent run each, and return the new tickets."""
    if not due(workspace.plan.snapshot()):
        return []
    created: list[str] = []
    with planning.single_flight(workspace):
        # read anew each time: each area's tickets are in the plan before the next one's are written
        while areas := due(workspace.plan.snapshot()):
            created += _plan_area(workspace, areas[0])
    return created


def _plan_area(workspace: Workspace, area: str) -> list[str]:
    plan = workspace.plan.snapshot()
    text = prompt(
        "manager",
        repo=workspace.repository.root,
        area=area,
        gate=workspace.config.gate,
        text=plan.read(f"areas/{area}.md").decode(errors="replace"),
        tickets="\n".join(_known_tickets(plan)) or "none",
    )

    def may_write(path: str) -> bool:
        return path.startswith("tickets/open/") and path.endswith(".md") and not plan.blob(path)

    edits = planning.run(workspace, "manager", f"manager-{area}", text, may_write, area=area)
    try:
        created = _record(workspace, area, edits)
    except TicketError as error:
        why = "tickets that cannot be taken as they are"
        kept = edits.kept or rescue.keep(workspace, edits.commit, f"manager-{area}", why)
        error.hint = f"what the Manager wrote is kept: git show {kept}"
        raise
    log.info("manager: tickets created for area '%s': %s", area, ", ".join(created) or "none")
    return created


def _known_tickets(plan: Plan) -> list[str]:
    """Return the tickets as the prompt lists them: of the done ones the newest, as they may be thousands."""
    lines = [f"{name} ({state})" for state in State if state is not State.DONE for name in plan.tickets(state)]
    done = plan.tickets(State.DONE)
    older = len(done) - DONE_MOST
    lines += [f"({older} older ones are in tickets/done/)"] if older > 0 else []
    return lines + [f"{name} ({State.DONE})" for name in done[-DONE_MOST:]]


def _record(workspace: Workspace, area: str, edits: planning.Edits) -> list[str]:
    """Write the tickets, and what they were made from, as one commit."""
    drafts = [_Draft.read(path, data, area) for path, data in sorted(edits.allowed.items()) if data is not None]
    created: list[str] = []

    def decide(plan: Plan) -> Change:
        nonlocal created
        files = number(plan, drafts)
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


@dataclass(frozen=True)
class _Draft:
    """A ticket as the Manager wrote it, under the name it chose."""

    stem: str
    text: str
    depends: tuple[str, ...]

    @classmethod
    def read(cls, path: str, data: bytes, area: str) -> _Draft:
        stem = path.removeprefix("tickets/open/").removesuffix(".md").replace("/", "-")
        text = data.decode(errors="surrogateescape")
        try:
            parts = split_front_matter(text)
            fields: Mapping[str, Any] = load_yaml(parts[0]) if parts else bold_fields(text)
            if parts is None and not fields.get("area"):
                text = f"---\narea: {area}\n---\n{text}"
            elif parts is not None and not fields.get("area"):
                text = set_field(text, "area", area)
        except ValueError as error:
            raise TicketError(stem, str(error)) from error
        return cls(stem, text, _words(fields.get("depends")))

    @property
    def label(self) -> str:
        """The name without the number that an agent may have given it."""
        return re.sub(r"^\d+-", "", self.stem)


def _words(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else re.split(r"[,\s]+", str(value or ""))
    words = [str(item).strip().removesuffix(".md").rpartition("/")[2] for item in items]
    return tuple(word for word in words if word.lower() not in ("", "-", "none", "null"))


def number(plan: Plan, drafts: list[_Draft]) -> dict[str, bytes]:
    """Give ids to drafts, resolve what they depend on, and return the files by ticket name. Pure.

    A dependency names another draft of the same batch, by file name or by the number it has there,
    or else a ticket that exists. Raises TicketError for one that names neither, and for circles.
    """
    first = plan.next_id()
    ids = {draft.stem: f"{first + n:04d}" for n, draft in enumerate(drafts)}
    names = {draft.stem: f"{ids[draft.stem]}-{slug(draft.label)}" for draft in drafts}
    local = {draft.label: ids[draft.stem] for draft in drafts} | ids
    local |= {ticket_id(draft.stem): ids[draft.stem] for draft in drafts if ticket_id(draft.stem)}
    known = set().union(*plan.ids.values())
    depends: dict[str, tuple[str, ...]] = {}
    files: dict[str, bytes] = {}
    for draft in drafts:
        found = []
        for word in draft.depends:
            wanted = local.get(word) or (local.get(ticket_id(word)) if word.isdigit() else None) or ticket_id(word)
            if wanted not in known and wanted not in ids.values():
                raise TicketError(draft.stem, f"it depends on '{word}', which does not exist")
            found.append(wanted)
        depends[ids[draft.stem]] = tuple(found)
        text = draft.text
        try:
            if found:
                text = set_field(text, "depends", f"[{', '.join(found)}]")
        except ValueError as error:
            raise TicketError(draft.stem, str(error)) from error
        data = text.encode(errors="surrogateescape")
        parse_ticket(names[draft.stem], State.OPEN, data)
        files[names[draft.stem]] = data
    for draft in drafts:
        circle = find_circle(ids[draft.stem], depends)
        if circle:
            raise TicketError(draft.stem, f"it depends on itself: {' -> '.join(circle)}")
    return files


main = Manager.launch
