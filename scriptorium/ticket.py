"""Tickets and queue items: Markdown files with a few fields that steer them.

A ticket of format 1 has YAML front matter::

    ---
    area: parser
    depends: [0003]
    priority: 0
    attempts: 0
    ---
    # Parse the header

One of the original has lines such as ``**Area:** parser`` instead. Both are read, and a change
touches only the line it must, because people and agents edit these files as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scriptorium.errors import ScriptoriumError
from scriptorium.system.text import line as one_line

BRANCH_PREFIX = "scriptorium/ticket-"

_ID = r"(\d{1,18})(?:-|$)"  # more digits are no number that anybody has given out
ID_IN_LIST = r"(?:^|\0)(\d{1,18})(?=-|\0|$)"

_UNFIT = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udc7f\udd00-\udfff]")
"""What no name may hold; bytes that are no text come as half characters in between."""

TITLE_MOST = 300

NAME_MOST = 200
"""Bytes of a ticket's name, which becomes that of files beside which there are longer ones."""

YAML_MOST = 65536
"""Characters of front matter; a kilobyte takes some ten milliseconds."""

NUMBER_MOST = 10**9
"""The highest priority and number of attempts that is taken for one."""

VALUES_MOST = 10_000
"""Values in front matter, each counted as often as it is referred to."""


class State(StrEnum):
    """The state of a ticket is the directory it is in."""

    OPEN = "open"
    IN_PROGRESS = "in-progress"
    DONE = "done"
    STUCK = "stuck"


KEYS = ("area", "depends", "priority", "attempts", "repair")
"""What is read of a ticket's front matter; any other key is the user's own."""

NEAR = 0.65
"""How alike a key has to be to one of these to be taken for a slip; 'prio' just is."""


def ticket_path(state: State, name: str) -> str:
    return f"tickets/{state}/{name}.md"


def ticket_id(name: str) -> str:
    """Return the id in a ticket's name, four digits at least, or '' when it has none."""
    found = re.match(_ID, name)
    return f"{int(found[1]):04d}" if found else ""


def name_problem(name: str) -> str:
    """Return why a name cannot be that of files and worktrees, '' when it can."""
    if _UNFIT.search(name):
        return "its name has control characters"
    if not name or name.startswith(".") or "/" in name:
        return "its name is none that a file should have"
    return "its name is too long" if len(os.fsencode(name)) > NAME_MOST else ""


def area_problem(name: str) -> str:
    """Return why a name cannot be that of an area, '' when it can; it stands in the front matter of tickets."""
    return name_problem(name) or ("its name is no text" if re.search(r"[\udc80-\udcff]", name) else "")


def branch_of(name: str) -> str:
    return BRANCH_PREFIX + ticket_id(name)


def is_of_ticket(branch: str) -> bool:
    """Tell whether a branch is one of ours; a person's may be called like it, with more words."""
    id = branch.removeprefix(BRANCH_PREFIX)
    return id not in ("", branch) and id == ticket_id(id)


def slug(title: str) -> str:
    """Return a short file name part for a title."""
    words = re.findall(r"[^\W_]+", title.lower())
    return "-".join(words)[:48].strip("-") or "ticket"


class TicketError(ScriptoriumError):
    """A ticket file that cannot be understood."""

    def __init__(self, name: str, why: str, hint: str = "") -> None:
        super().__init__(
            f"ticket '{one_line(name)}': {why}", hint or "edit it on the plan branch, or see 'scriptorium fsck'"
        )
        self.ticket = name
        self.why = why


@dataclass(frozen=True)
class Ticket:
    """One ticket as a snapshot has it."""

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
        parts = split_front_matter(self.text)  # where '#' begins a comment
        found = re.search(r"^#[ \t]+(\S.*)$", parts[1] if parts else self.text, re.MULTILINE)
        return one_line(found[1]).strip()[:TITLE_MOST] if found else self.name


def split_front_matter(text: str) -> tuple[str, str] | None:
    """Split a text into YAML and rest, None when it has no front matter; ValueError when that never ends."""
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != "---":
        return None
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return "".join(lines[1:number]), "".join(lines[number:])
    raise ValueError("its front matter has no closing '---' line")


def load_yaml(text: str) -> dict[str, Any]:
    """Read front matter; ValueError with the line when it is not a mapping in YAML."""
    from ruamel.yaml import YAML  # late: status and the hooks do without
    from ruamel.yaml.error import MarkedYAMLError

    if len(text) > YAML_MOST:
        raise ValueError("its front matter is too long")
    try:
        reader = YAML(typ="safe", pure=True)
        reader.composer.warn_double_anchors = False  # on stderr, and of no consequence here
        data = reader.load(text)
    except MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 2}" if error.problem_mark else ""
        raise ValueError(f"its front matter is not YAML{line}: {error.problem}") from error
    except RecursionError as error:
        raise ValueError("its front matter is nested too deeply") from error
    except Exception as error:  # the library lets through whatever comes of a document
        raise ValueError(f"its front matter is not YAML: {' '.join(str(error).split())}") from error
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise ValueError("its front matter is not a list of 'key: value' lines")
    _check_size(data)
    return dict(data)


def _check_size(data: Any) -> None:
    """Raise when a document is larger than it looks, as one that refers to its own parts over and over."""
    left, seen = [data], 0
    while left:
        value, seen = left.pop(), seen + 1
        if seen > VALUES_MOST:
            raise ValueError("its front matter refers to itself too often")
        if isinstance(value, Mapping):
            left += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            left += value


def bold_fields(text: str) -> dict[str, Any]:
    """Return the fields of a ticket in the original's form; of several the first, as that is what is set."""
    pattern = r"^\*\*(Area|Depends|Priority|Attempts|Repair):\*\*[ \t]*(.*?)[ \t\r]*$"
    return {key.lower(): value for key, value in reversed(re.findall(pattern, text, re.MULTILINE))}


def parse_depends(value: Any) -> tuple[str, ...]:
    """Read ``depends`` in any of its spellings: a list, ``0003, 0004``, ``none``, ``-`` or nothing."""
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
    """Return a value of one word or number as text, '' for none; ValueError for a list or a mapping."""
    if isinstance(value, Mapping | list | tuple | set):
        raise ValueError("its front matter has a list or a mapping where a word should be")
    return "" if value is None else str(value)


def _number(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key, 0)
    try:
        if isinstance(value, bool | float) or abs(number := int(_scalar(value) or 0)) > NUMBER_MOST:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"'{key}' is not a whole number: '{str(value)[:80]}'") from None
    return number


def parse_ticket(name: str, state: State, data: bytes) -> Ticket:
    """Read a ticket file; raises TicketError with what is wrong with it."""
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
        if _UNFIT.search(area) or len(area) > TITLE_MOST:
            raise ValueError("its area is no line of text")
        repair = _scalar(fields.get("repair", "")).lower() in ("true", "yes")
        depends = parse_depends(fields.get("depends"))
        return Ticket(
            name, state, text, area, depends, _number(fields, "priority"), _number(fields, "attempts"), repair
        )
    except ValueError as error:
        raise TicketError(name, one_line(str(error))) from error


def mistaken_keys(text: str) -> dict[str, str]:
    """Return the keys of a ticket's front matter that are nearly one that is read, and so are not, with that one."""
    from difflib import get_close_matches  # late: only fsck asks

    parts = split_front_matter(text)
    keys = [str(key) for key in load_yaml(parts[0])] if parts else []
    near = {key: get_close_matches(key.lower(), KEYS, 1, NEAR) for key in keys if key not in KEYS}
    return {key: found[0] for key, found in near.items() if found}


def set_field(text: str, key: str, value: object) -> str:
    """Return a ticket's text with one field changed or added, every other line as it was.

    ``value`` is written as YAML has it: a number, a word, or a list as ``[0003, 0004]``. Raises
    ValueError where that cannot be done to the front matter as it is written.
    """
    parts = split_front_matter(text)
    if parts is None:
        return _set_bold_field(text, key, value)
    head, rest = parts
    end = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    line = f"{key}: {value}"
    # the key's line up to a comment, and the lines of a block list below it
    pattern = re.compile(
        rf"^{re.escape(key)}[ \t]*:[^\r\n#]*?(?=[ \t]*(?:#[^\r\n]*)?\r?$)(?P<end>[^\r\n]*)"
        r"(?:\r?\n[ \t]*-[ \t][^\r\n]*)*",
        re.MULTILINE,
    )
    changed, count = pattern.subn(lambda found: line + found["end"], head, count=1)
    if not count:
        changed = f"{head}{line}{end}"
    if not _is_changed(head, changed, line):
        raise ValueError(f"'{key}' cannot be set to '{value}' in its front matter")
    return f"---{end}{changed}{rest}"


def _is_changed(old: str, new: str, line: str) -> bool:
    wanted = {**load_yaml(old), **load_yaml(line)}
    try:
        return load_yaml(new) == wanted
    except ValueError:
        return False


def _set_bold_field(text: str, key: str, value: object) -> str:
    shown = str(value).strip("[]")
    line = f"**{key.capitalize()}:** {shown}"
    pattern = re.compile(rf"^\*\*{key.capitalize()}:\*\*[^\r\n]*", re.MULTILINE)
    if pattern.search(text):
        return pattern.sub(lambda _: line, text, count=1)
    area = re.search(r"^\*\*Area:\*\*[^\n]*\n?", text, re.MULTILINE)
    at = area.end() if area else 0
    gap = "" if text[:at].endswith("\n") or not at else "\n"
    return f"{text[:at]}{gap}{line}\n{text[at:]}"


def last_failure(text: str) -> str:
    """Return the cause of the last attempt that a ticket's notes tell of, '' when there is none."""
    found = re.findall(r"^## Attempt \d+ failed: (\S+)$", text, re.MULTILINE)
    return found[-1] if found else ""


def append_section(text: str, heading: str, body: str) -> str:
    """Return a ticket's text with a section added at its end."""
    return f"{text.rstrip()}\n\n## {heading}\n\n{body.strip()}\n"


@dataclass(frozen=True)
class QueueItem:
    """A ticket that waits to be merged; ``path`` is its file, ``order`` the number it queues by."""

    path: str
    ticket: str
    summary: str
    head: str = ""
    """The commit that was handed in, empty where a person has queued the ticket by hand."""

    @property
    def order(self) -> tuple[int, str]:
        found = re.match(r"\d{1,18}", self.path.rpartition("/")[2])
        return (int(found[0]) if found else 0, self.path)


def parse_item(path: str, data: bytes) -> QueueItem | None:
    """Read a queue item of format 1 or of the original; None for an empty or foreign file."""
    text = data.decode(errors="surrogateescape")
    fields = dict(re.findall(r"^\*\*([A-Za-z ]+):\*\*[ \t]*(.*?)[ \t\r]*$", text, re.MULTILINE))
    name = fields.get("Ticket", "").rpartition("/")[2].removesuffix(".md")
    if name_problem(name):
        return None
    head = fields.get("Head", "")
    return QueueItem(path, name, fields.get("Summary", ""), head if re.fullmatch("[0-9a-f]{40,64}", head) else "")


def format_item(ticket: Ticket, worktree: str, head: str, summary: str) -> bytes:
    """Write a queue item, in the original's form so that its users find what they know."""
    lines = [
        "# Merge Queue Item",
        "",
        f"**Ticket:** {ticket_path(State.IN_PROGRESS, ticket.name)}",
        f"**Ticket ID:** {ticket.id}",
        f"**Branch:** {ticket.branch}",
        f"**Worktree:** {worktree}",
        f"**Head:** {head}",
        f"**Summary:** {' '.join(summary.split())}",
        "",
    ]
    return "\n".join(lines).encode(errors="surrogateescape")
