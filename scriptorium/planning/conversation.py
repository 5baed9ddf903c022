"""The conversation with the Architect, in an append-only file that survives a crash.

Each line is a JSON object. ``{"begin": time}`` begins a conversation. ``{"request": text}`` begins a turn, before the
agent starts, and ``{"end": {...}}`` ends it with the other fields of `Turn`. A turn without an end was interrupted.
Lines that are not JSON, such as a truncated last line, are ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scriptorium.agents.harness.base import Outcome, Session
from scriptorium.agents.harness.usage import Usage

MAX_TURNS = 60_000
"""The number of characters of a conversation that a prompt includes; older ones are left out."""


@dataclass(frozen=True)
class Turn:
    """A request and its result. ``answer`` and ``failure`` are '' during the turn and after an interruption."""

    request: str
    answer: str = ""
    failure: str = ""
    """Why nothing of the turn was committed."""
    agent: str = ""
    session: str = ""
    total: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        why = f"Nothing of this turn was committed: {self.failure}" if self.failure else "This turn was interrupted"
        return f"Engineer: {self.request}\n\nArchitect: {self.answer or f'({why})'}"


@dataclass
class Conversation:
    """The newest conversation in a file: its start time and its turns."""

    file: Path
    began: str = ""
    turns: tuple[Turn, ...] = ()

    @classmethod
    def read(cls, file: Path) -> Conversation:
        """Return the newest conversation in a file, empty if there is none."""
        found = cls(file)
        for record in _records(file):
            match record:
                case {"begin": str(began)}:
                    found.began, found.turns = began, ()
                case {"request": str(request)}:
                    found.turns = (*found.turns, Turn(request))
                case {"end": dict(end)} if found.turns:
                    found.turns = (*found.turns[:-1], _ended(found.turns[-1], end))
        return found

    def begin(self) -> None:
        """Begin a new conversation; earlier ones stay in the file."""
        self.began, self.turns = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), ()
        _append(self.file, {"begin": self.began})

    def ask(self, request: str) -> None:
        """Record a request, before the agent gets it."""
        if not self.began:
            self.begin()
        self.turns = (*self.turns, Turn(request))
        _append(self.file, {"request": request})

    def end(self, *, answer: str = "", failure: str = "", outcome: Outcome | None = None) -> None:
        """Record the result of the last request."""
        turn = replace(self.turns[-1], answer=answer, failure=failure)
        if outcome is not None:
            report = outcome.report
            total = asdict(report.total) if report.total else None
            turn = replace(turn, agent=outcome.agent, session=report.session, total=total)
        self.turns = (*self.turns[:-1], turn)
        _append(self.file, {"end": {key: value for key, value in asdict(turn).items() if value and key != "request"}})

    def session(self, agent: str, prompt: str) -> Session | None:
        """Return the agent's own session of this conversation, to resume with a prompt; None if it has none."""
        last = next((turn for turn in reversed(self.turns) if turn.session), None)
        if last is None or last.agent != agent:
            return None
        return Session(last.session, prompt, Usage.parse(last.total))

    def since_session(self) -> tuple[Turn, ...]:
        """Return the last turns whose result the agent's own session does not contain."""
        known = max((number for number, turn in enumerate(self.turns, 1) if turn.session and turn.answer), default=0)
        return self.turns[known:]


def render_turns(heading: str, turns: Sequence[Turn]) -> str:
    """Return turns as a section of a prompt, '' if there are none."""
    text = "\n\n".join(str(turn) for turn in turns)
    short = text if len(text) <= MAX_TURNS else f"(…)\n{text[-MAX_TURNS:]}"
    return f"--- {heading} ---\n{short}\n" if turns else ""


def _ended(turn: Turn, end: Mapping[str, Any]) -> Turn:
    texts = {key: str(end.get(key, "")) for key in ("answer", "failure", "agent", "session")}
    return replace(turn, **texts, total=end.get("total"))


def _records(file: Path) -> Iterable[Any]:
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def _append(file: Path, record: Mapping[str, Any]) -> None:
    """Append a record as a line of its own, even if the last line is truncated."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        cut = size and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, (b"\n" if cut else b"") + json.dumps(record).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
