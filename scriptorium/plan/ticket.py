"""Tickets: Markdown files with a few fields.

A ticket of format 1 has YAML front matter::

    ---
    area: parser
    depends: [0003]
    priority: 0
    attempts: 0
    ---
    # Parse the header

A ticket of the original has lines such as ``**Area:** parser`` instead. Scriptorium reads both. A change touches one
line only, because users and agents edit these files as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scriptorium.errors import ScriptoriumError
from scriptorium.plan.front_matter import bold_fields, load_yaml, split_front_matter
from scriptorium.system.text import one_line as one_line

BRANCH_PREFIX = "scriptorium/ticket-"

_ID = r"(\d{1,18})(?:-|$)"  # no id has more digits
ID_IN_LIST = r"(?:^|\0)(\d{1,18})(?=-|\0|$)"

_FORBIDDEN = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udc7f\udd00-\udfff]")
"""Characters that no name may contain. Surrogates between the ranges stand for bytes that are not UTF-8."""

MAX_TITLE = 300

MAX_NAME_BYTES = 200
"""The longest name of a ticket in bytes; names of other files extend it."""


MAX_NUMBER = 10**9
"""The highest priority and number of attempts."""


class State(StrEnum):
    """The state of a ticket: the directory of its file."""

    OPEN = "open"
    IN_PROGRESS = "in-progress"
    DONE = "done"
    STUCK = "stuck"


def ticket_path(state: State, name: str) -> str:
    return f"tickets/{state}/{name}.md"


def ticket_id(name: str) -> str:
    """Return the id in a ticket's name, four digits at least, or '' if there is none."""
    found = re.match(_ID, name)
    return f"{int(found[1]):04d}" if found else ""


def name_problem(name: str) -> str:
    """Return why files and worktrees cannot have a name, or ''."""
    if _FORBIDDEN.search(name):
        return "its name has control characters"
    if not name or name.startswith(".") or "/" in name:
        return "its name is not a valid file name"
    return "its name is too long" if len(os.fsencode(name)) > MAX_NAME_BYTES else ""


def area_problem(name: str) -> str:
    """Return why an area cannot have a name, or ''. The front matter of tickets contains the name."""
    return name_problem(name) or ("its name is not UTF-8" if re.search(r"[\udc80-\udcff]", name) else "")


def branch_of(name: str) -> str:
    return BRANCH_PREFIX + ticket_id(name)


def is_ticket_branch(branch: str) -> bool:
    """Return whether a branch belongs to a ticket; the prefix and other words make a branch of the user."""
    id = branch.removeprefix(BRANCH_PREFIX)
    return id not in ("", branch) and id == ticket_id(id)


def slug(title: str) -> str:
    """Return a short file name part for a title."""
    words = re.findall(r"[^\W_]+", title.lower())
    return "-".join(words)[:48].strip("-") or "ticket"


class TicketError(ScriptoriumError):
    """A ticket that cannot be parsed or used; ``why`` is the reason without the ticket's name."""

    def __init__(self, name: str, why: str, hint: str = "") -> None:
        super().__init__(
            f"ticket '{one_line(name)}': {why}", hint or "edit it on the plan branch, or see 'scriptorium fsck'"
        )
        self.ticket = name
        self.why = why


@dataclass(frozen=True)
class Ticket:
    """One ticket of a snapshot."""

    name: str
    state: State
    text: str
    area: str
    depends: tuple[str, ...]
    priority: int
    attempts: int
    repair: bool

    @property
    def id(self) -> str:
        return ticket_id(self.name)

    @property
    def branch(self) -> str:
        return branch_of(self.name)

    @property
    def path(self) -> str:
        return ticket_path(self.state, self.name)

    @property
    def title(self) -> str:
        parts = split_front_matter(self.text)  # '#' begins a comment in front matter
        found = re.search(r"^#[ \t]+(\S.*)$", parts[1] if parts else self.text, re.MULTILINE)
        return one_line(found[1]).strip()[:MAX_TITLE] if found else self.name


def parse_depends(value: Any) -> tuple[str, ...]:
    """Return the ids in a ``depends`` field: a list, ``0003, 0004``, ``none``, ``-`` or nothing."""
    items = value if isinstance(value, list) else re.split(r"[,\s]+", _scalar(value)) if value is not None else []
    found = []
    for item in map(_scalar, items):
        word = item.strip().strip("#\"'")
        if word.lower() in ("", "-", "none", "null", "n/a"):
            continue
        word = word.removesuffix(".md").rpartition("/")[2]
        if not ticket_id(word):
            raise ValueError(f"'depends' names '{word[:80]}', which is not a ticket id")
        found.append(ticket_id(word))
    return tuple(dict.fromkeys(found))


def _scalar(value: Any) -> str:
    """Return a word or number as text, '' for None. Raises ValueError for a list or a mapping."""
    if isinstance(value, Mapping | list | tuple | set):
        raise ValueError("its front matter has a list or a mapping where a word should be")
    return "" if value is None else str(value)


def _number(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key, 0)
    try:
        if isinstance(value, bool | float) or abs(number := int(_scalar(value) or 0)) > MAX_NUMBER:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"'{key}' is not a whole number: '{str(value)[:80]}'") from None
    return number


def parse_ticket(name: str, state: State, data: bytes) -> Ticket:
    """Return the ticket in a file. Raises TicketError if the file cannot be parsed."""
    text = data.decode(errors="surrogateescape")
    try:
        parts = split_front_matter(text)
        fields = load_yaml(parts[0]) if parts else bold_fields(text)
        area = _scalar(fields.get("area") or "").strip()
        if not area:
            raise ValueError("it names no area")
        problem = name_problem(name)
        if problem:
            raise ValueError(problem)
        if _FORBIDDEN.search(area) or len(area) > MAX_TITLE:
            raise ValueError("its area is not a line of text")
        repair = _scalar(fields.get("repair", "")).lower() in ("true", "yes")
        depends = parse_depends(fields.get("depends"))
        return Ticket(
            name, state, text, area, depends, _number(fields, "priority"), _number(fields, "attempts"), repair
        )
    except ValueError as error:
        raise TicketError(name, one_line(str(error))) from error


def last_failure(text: str) -> str:
    """Return the cause of the last failed attempt in a ticket's notes, or ''."""
    found = re.findall(r"^## Attempt \d+ failed: (\S+)$", text, re.MULTILINE)
    return found[-1] if found else ""
