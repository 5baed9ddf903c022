"""The plan: a small transactional database on the branch ``scriptorium/plan``, format 1.

Files hold the state, each commit is an event, and one ref names the newest state::

    spec.md                                  the placeholder until the Architect writes it
    areas/<area>.md
    tickets/{open,in-progress,done,stuck}/<NNNN>-<slug>.md
    decisions/
    queue/merge/pending/<NNNN>-<ticket>.md
    queue/merge/active.md                    empty, or the item that is being merged
    planned                                  the spec and the areas that were last planned from
    last-id                                  the highest ticket number that was ever assigned
    format                                   the number of this format; absent means 1

Empty directories hold a ``.gitkeep``, and unknown files stay as they are. A snapshot is the content of one commit, and
a change becomes one commit; `plan.store` reads snapshots and writes changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from scriptorium.errors import ScriptoriumError
from scriptorium.git.objects import Tree
from scriptorium.git.repository import Repository
from scriptorium.plan.change import PlanChange
from scriptorium.plan.queue_item import QueueItem, parse_item
from scriptorium.plan.ticket import (
    ID_IN_LIST,
    State,
    Ticket,
    area_problem,
    parse_ticket,
    ticket_id,
    ticket_path,
)

BRANCH = "scriptorium/plan"
REF = f"refs/heads/{BRANCH}"
FORMAT = 1
PLACEHOLDER = "# Spec\n\nNothing is planned yet: run `scriptorium plan` to write this file.\n"
ACTIVE = "queue/merge/active.md"
PENDING = "queue/merge/pending"
PLANNED = "planned"
LAST_ID = "last-id"
ZERO = "0" * 40
WAITING = "WAITING: no spec — run 'scriptorium plan'"


MAX_PARSED = 10_000
"""The number of parsed files that are kept in memory."""

T = TypeVar("T")


class ParsedFiles:
    """A cache of parsed tickets and queue items, which the snapshots of a store share.

    Parsing YAML takes a millisecond, and `scriptorium run` reads the same ticket many times.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def get(self, path: str, oid: str, parse: Callable[[], T]) -> T:
        """Return the parsed form of an object at a path; calls ``parse`` if it is not in the cache."""
        key = (path, oid)
        if key not in self._known:
            if len(self._known) >= MAX_PARSED:
                self._known.clear()
            self._known[key] = parse()
        found: T = self._known[key]
        return found


class Plan:
    """The state of the plan in one commit. Files are read on demand, and nothing in a plan ever changes."""

    def __init__(self, repository: Repository, commit: str, root_tree: str, parsed: ParsedFiles | None = None) -> None:
        self.repository = repository
        self.commit = commit
        self._root = root_tree
        self._parsed = parsed or ParsedFiles()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and other.commit == self.commit

    def __hash__(self) -> int:
        return hash(self.commit)

    @cached_property
    def _directories(self) -> dict[str, Tree]:
        return {"": self.repository.tree(self._root)}

    def directory(self, path: str) -> Tree:
        """Return the entries of a directory by name, empty if it does not exist."""
        if path not in self._directories:
            parent, _, name = path.rpartition("/")
            entry = self.directory(parent).get(name)
            is_tree = entry is not None and entry.mode == "40000"
            self._directories[path] = self.repository.tree(entry.oid) if entry and is_tree else Tree()
        return self._directories[path]

    def blob(self, path: str) -> str:
        """Return the object id of a file's content, or '' if the file does not exist."""
        parent, _, name = path.rpartition("/")
        entry = self.directory(parent).get(name)
        return entry.oid if entry and entry.mode != "40000" else ""

    def read(self, path: str) -> bytes:
        """Return a file's content, empty if the file does not exist."""
        oid = self.blob(path)
        found = self.repository.objects.read(oid) if oid else None
        return found.data if found else b""

    def names(self, directory: str) -> list[str]:
        """Return the Markdown files of a directory, without their suffix, in order."""
        return list(self.directory(directory).documents)

    def tickets(self, state: State) -> list[str]:
        """Return the names of the tickets in a state."""
        return self.names(f"tickets/{state}")

    def ticket(self, name: str, state: State) -> Ticket:
        """Return one ticket. Raises TicketError if it cannot be parsed."""
        path = ticket_path(state, name)
        return self._parsed.get(path, self.blob(path), lambda: parse_ticket(name, state, self.read(path)))

    def find(self, wanted: str) -> tuple[str, State] | None:
        """Find a ticket by name or id; return None if there is none."""
        number = ticket_id(wanted) if wanted.isdecimal() else ""
        for state in State:
            for name in self.tickets(state):
                if name == wanted or (number and ticket_id(name) == number):
                    return name, state
        return None

    def require(self, wanted: str) -> tuple[str, State]:
        """Find a ticket by name or id. Raises if there is none."""
        found = self.find(wanted)
        if found is None:
            raise ScriptoriumError(f"there is no ticket '{wanted}'", "see 'scriptorium status --json'")
        return found

    @cached_property
    def ids(self) -> dict[State, set[str]]:
        """The ids in each state. One regular expression finds them, because there may be ten thousand done tickets."""
        return {
            state: {f"{int(n):04d}" for n in re.findall(ID_IN_LIST, "\0".join(self.tickets(state)))} for state in State
        }

    @property
    def last_id(self) -> int:
        """The number in ``last-id``, 0 if there is none."""
        return parse_last_id(self.read(LAST_ID))

    @property
    def spec(self) -> bytes:
        return self.read("spec.md")

    @property
    def has_spec(self) -> bool:
        """Whether there is a spec; a placeholder, also of the original, is none."""
        text = self.spec.decode(errors="replace").strip()
        lines = [line for line in text.splitlines() if line.strip()]
        placeholder = len(lines) == 2 and lines[0] == "# Spec" and "scriptorium plan" in lines[1]
        return bool(text) and not placeholder

    @property
    def areas(self) -> dict[str, str]:
        """The areas with the object ids of their content."""
        return {name: self.blob(f"areas/{name}.md") for name in self.names("areas") if not area_problem(name)}

    @property
    def planned(self) -> dict[str, str]:
        """The files that were last planned from: ``spec.md`` and areas, with the object ids of their content."""
        lines = self.read(PLANNED).decode(errors="surrogateescape").split("\n")
        return {path: oid for oid, _, path in (line.partition(" ") for line in lines if _is_planned_line(line))}

    def with_planned(self, changes: Mapping[str, str]) -> bytes:
        """Return the ``planned`` file with some entries changed, without the entries of removed areas."""
        known = {"spec.md", *(f"areas/{name}.md" for name in self.areas), *changes}
        merged = {path: oid for path, oid in {**self.planned, **changes}.items() if path in known and oid}
        return "".join(f"{oid} {path}\n" for path, oid in sorted(merged.items())).encode(errors="surrogateescape")

    def queue_item(self, path: str) -> QueueItem | None:
        """Return the queue item in a file, None if the file holds none."""
        return self._parsed.get(path, self.blob(path), lambda: parse_item(path, self.read(path)))

    @cached_property
    def active(self) -> QueueItem | None:
        """The active item: ``active.md`` holds it or, in the original's plans, the path of the pending item."""
        data = self.read(ACTIVE)
        path = data.decode(errors="surrogateescape").strip()
        pending = re.fullmatch(f"{PENDING}/[^/]+", path)
        return self.queue_item(path if pending else ACTIVE)

    def queue(self) -> list[QueueItem]:
        """Return the merge queue: the active item first, then the others by number."""
        return list(self._queue)

    @cached_property
    def _queue(self) -> list[QueueItem]:
        pending = [f"{PENDING}/{name}.md" for name in self.names(PENDING)]
        items = [item for path in pending if (item := self.queue_item(path))]
        items.sort(key=lambda item: item.order)
        active = self.active
        if active:
            others = [item for item in items if item.ticket != active.ticket]
            same = [item for item in items if item.ticket == active.ticket]
            return [*(same[:1] or [active]), *others]
        return items

    def is_queued(self, ticket: str) -> bool:
        """Return whether a ticket is in progress and in the merge queue."""
        return ticket in self.tickets(State.IN_PROGRESS) and any(item.ticket == ticket for item in self.queue())

    def next_item_path(self, ticket: str) -> str:
        """Return the path for a new queue item."""
        last = max((item.order[0] for item in self.queue()), default=0)
        return f"{PENDING}/{last + 1:04d}-{ticket}.md"

    def dequeue(self, ticket: str, change: PlanChange) -> None:
        """Extend a change so that it removes a ticket from the queue."""
        for item in self.queue():
            if item.ticket == ticket and item.path != ACTIVE:
                change.removes.append(item.path)
        active = self.active
        if active and active.ticket == ticket:
            change.writes[ACTIVE] = b""


def parse_last_id(data: bytes) -> int:
    """Return the number in a ``last-id`` file, 0 if it holds none."""
    text = data.decode(errors="replace").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def _is_planned_line(line: str) -> bool:
    """Return whether a line of the ``planned`` file has an object id and a path."""
    return bool(re.fullmatch(r"[0-9a-f]{40,64} \S.*", line))
