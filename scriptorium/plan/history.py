"""The history of the plan branch, and the rules for each of its commits. All but reading is pure.

A transition by scriptorium moves the one ticket that it names, as its ``Move`` trailer says. No other commit of
scriptorium moves tickets. A violation is an error. Commits of users and of the original scriptorium may move tickets
freely, as long as every ticket is in one place. A violation there is a warning, because nobody can repair history.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scriptorium.git.repository import Repository
from scriptorium.plan.finding import Finding, Level
from scriptorium.plan.ticket import State, ticket_id

PATHS = ("tickets", "queue/merge/pending", "format")
TRANSITION = re.compile(r"scriptorium: (assign|enqueue|complete|reopen|park) ticket (.+)")
TRAILERS = "%(trailers:key=Ticket,key=Move,key=Transaction,unfold)"


class Place(NamedTuple):
    """The state and the name of a ticket."""

    state: str
    name: str

    def __str__(self) -> str:
        return f"'{self.state}/{self.name}'"


@dataclass(frozen=True)
class PlanCommit:
    """A commit of the plan branch: subject, trailers, and the files that it added and removed."""

    commit: str
    subject: str
    trailers: Mapping[str, str] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def read_history(repository: Repository, commit: str) -> Iterator[PlanCommit]:
    """Yield the commits that add or remove tickets or queue items, the oldest first, up to ``commit``.

    A merge is compared with its first parent. Two git processes suffice for any length.
    """
    lines = repository.git("rev-list", "--first-parent", "--parents", "--reverse", commit)[1].splitlines()
    # diff-tree compares "<commit> <parent>" with this parent alone
    pairs = b"".join(b" ".join(line.split()[:2]) + b"\n" for line in lines)
    out = repository.git(
        "diff-tree", "--stdin", "--root", "-r", "-z", "--raw", "--no-renames", "--encoding=UTF-8",
        f"--format=%H%n%s%n{TRAILERS}", "--", *PATHS, data=pairs,
    )[1]  # fmt: skip
    return parse_history(out.decode(errors="surrogateescape"))


def parse_history(text: str) -> Iterator[PlanCommit]:
    """Parse the output of diff-tree: commits, each followed by ``:<modes> <ids> <letter>`` records and paths."""
    header, added, removed = "", [], []
    words = iter(text.split("\0"))
    for word in words:
        record = word.lstrip("\n")
        if record.startswith(":"):
            path = next(words)
            match record[-1]:
                case "A":
                    added.append(path)
                case "D":
                    removed.append(path)
        elif record:
            if header:
                yield _plan_commit(header, added, removed)
            header, added, removed = record, [], []
    if header:
        yield _plan_commit(header, added, removed)


def _plan_commit(header: str, added: list[str], removed: list[str]) -> PlanCommit:
    commit, subject, *lines = header.split("\n")
    trailers = {key: value for key, _, value in (line.partition(": ") for line in lines) if key}
    return PlanCommit(commit, subject, trailers, tuple(added), tuple(removed))


def check_history(events: Iterable[PlanCommit]) -> list[Finding]:
    """Return the violations in the order of history. Pure."""
    replay = _Replay()
    for event in events:
        replay.step(event)
    replay.finish()
    return replay.findings


class _Replay:
    """The places of all tickets during a replay of history."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.places: dict[str, set[Place]] = defaultdict(set)
        self.names: dict[str, str] = {}
        """The last name of each id."""
        self.vanished: dict[str, tuple[PlanCommit, Level]] = {}
        self.queue: set[str] = set()
        self.ours = False
        self.begun = False

    def step(self, event: PlanCommit) -> None:
        gone, come = _places(event.removed), _places(event.added)
        self.ours |= "format" in event.added
        self.queue = (self.queue - {*event.removed}) | {path for path in event.added if "/pending/" in path}
        by_tool = event.subject.startswith("scriptorium: ") and (self.ours or "Transaction" in event.trailers)
        # the first commit has no parent to compare with, or an unknown one in a shallow clone
        if by_tool and self.begun:
            self._check_event(event, gone, come)
        self._move(event, gone, come, Level.ERROR if by_tool else Level.WARNING)
        self.begun = True

    def finish(self) -> None:
        for number, (event, level) in self.vanished.items():
            self._add(level, self.names[number], "vanished", event)

    def _add(self, level: Level, subject: str, message: str, event: PlanCommit) -> None:
        self.findings.append(Finding(level, subject, f"{message} in commit {event.commit[:12]}"))

    def _check_event(self, event: PlanCommit, gone: set[Place], come: set[Place]) -> None:
        problem = transition_problem(event, gone, come)
        if problem:
            self.findings.append(Finding(Level.ERROR, event.commit[:12], f"'{event.subject}' {problem}"))
        for place in gone:
            if place.state == State.IN_PROGRESS and self._queued(place):
                self._add(Level.ERROR, place.name, "left 'in-progress' but not the queue", event)

    def _queued(self, place: Place) -> bool:
        number = ticket_id(place.name)
        return bool(number) and any(ticket_id(_item(path)) == number for path in self.queue)

    def _move(self, event: PlanCommit, gone: set[Place], come: set[Place], level: Level) -> None:
        numbers = {ticket_id(place.name): place for place in sorted(gone | come)}
        numbers.pop("", None)
        before = {number: len(self.places[number]) for number in numbers}
        for place in gone:
            self.places[ticket_id(place.name)].discard(place)
        for place in come:
            self._arrive(event, place, level)
        for number, place in numbers.items():
            if not self.places[number]:
                self.vanished[number] = (event, level)
            elif len(self.places[number]) > max(1, before[number]):
                where = " and ".join(str(place) for place in sorted(self.places[number]))
                self._add(level, place.name, f"appeared in more than one place, {where},", event)

    def _arrive(self, event: PlanCommit, place: Place, level: Level) -> None:
        number = ticket_id(place.name)
        self.places[number].add(place)
        if number in self.vanished and self.names[number] != place.name:
            self._add(level, place.name, f"reused the id of '{self.names[number]}', which had vanished,", event)
        self.vanished.pop(number, None)
        self.names[number] = place.name


def transition_problem(event: PlanCommit, gone: set[Place], come: set[Place]) -> str:
    """Return how a commit of scriptorium breaks the rules, or ''. Pure."""
    found = TRANSITION.fullmatch(event.subject)
    move = event.trailers.get("Move", "")
    if not found and not move:
        return "moves a ticket but is not a transition" if gone else ""
    verb, named = (found[1], found[2]) if found else ("", event.trailers.get("Ticket", ""))
    if verb == "enqueue":
        if gone or come:
            return f"moves {_list(gone | come)} but should move no ticket"
        queued = any(ticket_id(_item(path)) == ticket_id(named) for path in event.added)
        return "" if queued else "adds no queue item for it"
    if len(gone) != 1 or len(come) != 1:
        return f"should move one ticket but touches {_list(gone | come) or 'none'}"
    (old,), (new,) = gone, come
    if (_plain(new.name) != _plain(named)) or (ticket_id(old.name) and old.name != new.name):
        return f"moves {old} to {new}, which is not the ticket it names"
    if move != f"{old.state} -> {new.state}":
        return f"moves {old} to {new} but says 'Move: {move}'"
    return ""


def _places(paths: Iterable[str]) -> set[Place]:
    found = (re.fullmatch(r"tickets/([^/]+)/([^/]+)\.md", path, re.DOTALL) for path in paths)
    return {Place(match[1], match[2]) for match in found if match and match[1] in set(State)}


def _item(path: str) -> str:
    """Return the ticket in the file name of a queue item, ``<number>-<ticket>.md``; the original writes an id."""
    return path.rpartition("/")[2].removesuffix(".md").partition("-")[2]


def _plain(name: str) -> str:
    return " ".join(name.split())  # as in a trailer and in a subject


def _list(places: Iterable[Place]) -> str:
    return ", ".join(str(place) for place in sorted(places))
