"""Drafts: the tickets that the Manager submits, as files or with its tool, before they have ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scriptorium.errors import ScriptoriumError
from scriptorium.plan.front_matter import bold_fields, load_yaml, set_field, split_front_matter
from scriptorium.plan.readiness import find_cycle
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, TicketError, parse_ticket, slug, ticket_id
from scriptorium.system.files import write_inside

OPEN = "tickets/open/"


@dataclass(frozen=True)
class Draft:
    """A ticket of the Manager, under the name that the Manager chose."""

    path: str
    text: str
    depends: tuple[str, ...]

    @classmethod
    def read(cls, path: str, data: bytes, area: str) -> Draft:
        text = data.decode(errors="surrogateescape")
        try:
            parts = split_front_matter(text)
            fields: Mapping[str, Any] = load_yaml(parts[0]) if parts else bold_fields(text)
            if parts is None and not fields.get("area"):
                text = f"---\narea: {area}\n---\n{text}"
            elif parts is not None and not fields.get("area"):
                text = set_field(text, "area", area)
        except ValueError as error:
            raise TicketError(_stem(path), str(error)) from error
        return cls(path, text, _words(fields.get("depends")))

    @property
    def stem(self) -> str:
        return _stem(self.path)

    @property
    def label(self) -> str:
        """The name without the number that the agent may have chosen."""
        return re.sub(r"^\d+-", "", self.stem)


def _stem(path: str) -> str:
    return path.removeprefix(OPEN).removesuffix(".md").replace("/", "-")


def _words(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else re.split(r"[,\s]+", str(value or ""))
    words = [str(item).strip().removesuffix(".md").rpartition("/")[2] for item in items]
    return tuple(word for word in words if word.lower() not in ("", "-", "none", "null"))


def number(plan: Plan, first: int, drafts: list[Draft]) -> dict[str, bytes]:
    """Assign ids from ``first`` on to drafts, resolve their dependencies, and return the files by ticket name. Pure.

    A dependency names another draft of the batch, by its file name or the number there, or else an existing ticket.
    Raises TicketError for an unknown dependency and for a cycle.
    """
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
        cycle = find_cycle(ids[draft.stem], depends)
        if cycle:
            raise TicketError(draft.stem, f"it depends on itself: {' -> '.join(cycle)}")
    return files


def submit_tickets(plan: Plan, first: int, worktree: Path, area: str, tickets: Any) -> str:
    """Write all tickets as files into a checkout of the plan and return the reply to the Manager.

    A ticket is ``{name, title, body, depends, priority}``. Its file name starts with its future id, so that the ids in
    the reply stay valid when more tickets follow. Raises, with a message for the Manager, if the plan could not
    accept the tickets; no file is written then.
    """
    if not isinstance(tickets, list) or not all(map(_is_ticket, tickets)):
        raise ScriptoriumError(
            "'tickets' is not a list of tickets",
            "submit a list of {name, title, body, depends, priority} objects: strings, a list, a whole number",
        )
    try:
        known = {slug(draft.label): draft for draft in _written(plan, worktree, area)}
        batch = _batch(first, known, area, tickets)
        every = sorted({**known, **batch}.values(), key=lambda draft: draft.path)
        names = number(plan, first, every)
    except TicketError as error:
        raise ScriptoriumError(
            error.message, "no ticket was accepted: correct the error and submit all tickets again"
        ) from error
    for draft in batch.values():
        write_inside(worktree, draft.path, draft.text.encode(errors="replace"))
    return f"The tickets so far are {', '.join(names)}. To change a ticket, submit it again under its name."


def _is_ticket(value: Any) -> bool:
    """Return whether a value from an agent has the form of a ticket; the socket accepts any JSON."""
    if not isinstance(value, dict):
        return False
    texts = (value.get("name"), value.get("title"), value.get("body"))
    depends, priority = value.get("depends", []), value.get("priority", 0)
    words = isinstance(depends, list) and all(isinstance(word, str | int) for word in depends)
    return all(isinstance(text, str) for text in texts) and words and type(priority) is int


def _written(plan: Plan, worktree: Path, area: str) -> list[Draft]:
    """Return the drafts that are already in a checkout of the plan."""
    # a link may lead to another directory, and reading a pipe would block
    found = (file for file in (worktree / OPEN).glob("*.md") if file.is_file() and not file.is_symlink())
    files = {f"{OPEN}{file.name}": file for file in found}
    return [Draft.read(path, file.read_bytes(), area) for path, file in files.items() if not plan.blob(path)]


def _batch(first: int, known: Mapping[str, Draft], area: str, tickets: Iterable[Mapping[str, Any]]) -> dict[str, Draft]:
    """Return tickets as drafts by name; a new name gets the next free number. Pure."""
    taken = [int(ticket_id(draft.stem) or 0) for draft in known.values()]
    free = max([first, *(number + 1 for number in taken)])
    batch: dict[str, Draft] = {}
    for ticket in tickets:
        name = slug(str(ticket["name"]))
        if name in batch:
            raise TicketError(name, "two tickets have this name")
        path = known[name].path if name in known else f"{OPEN}{free:04d}-{name}.md"
        free += name not in known
        batch[name] = Draft.read(path, _text(ticket, area).encode(errors="replace"), area)
    return batch


def _text(ticket: Mapping[str, Any], area: str) -> str:
    """Return the content of a ticket's file."""
    # JSON is YAML, so that `number` can judge any word
    depends = json.dumps([slug(word) for word in _words(list(ticket.get("depends", [])))])
    fields = f"area: {area}\ndepends: {depends}\npriority: {ticket.get('priority', 0)}"
    return f"---\n{fields}\n---\n# {' '.join(str(ticket['title']).split())}\n\n{str(ticket['body']).strip()}\n"
