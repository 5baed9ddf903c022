"""The small reference model: the allowed changes of a plan, in plain Python, commit by commit.

It follows the plan branch. It accepts every commit of a user. A commit of the tool must be a move that the model
allows, with exactly the files of that move.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

STATES = ("open", "in-progress", "done", "stuck")
UNCOUNTED = ("auth", "rate-limit", "provider", "infrastructure", "stopped")
STEPS = {
    "assign": ("assign", "run"),
    "enqueue": ("code", "run"),
    "complete": ("merge", "run"),
    "reopen": ("code", "merge", "run"),
    "park": ("code", "merge", "run"),
    "drop": ("merge", "run"),
    "update": ("architect", "run"),
    "create": ("manager", "run"),
}
"""The commands that may make a commit, by its verb."""

Files = dict[str, str]
"""The contents of the files of the plan, by path."""


@dataclass
class Commit:
    """A commit of the plan branch: its author, its message and the changed files, None for a removed file."""

    oid: str
    by: str
    message: str
    changes: dict[str, str | None]

    def trailer(self, key: str) -> str:
        found = re.search(rf"^{key}: (.*)$", self.message, re.MULTILINE)
        return found[1] if found else ""


def attempts(text: str) -> int:
    """Return the number of attempts in a ticket."""
    found = re.search(r"^attempts: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def depends(text: str) -> list[str]:
    found = re.search(r"^depends: \[(.*)\]$", text, re.MULTILINE)
    return [word for word in re.split(r"[, ]+", found[1]) if word] if found else []


def blob_id(text: str) -> str:
    """Return git's object id of the content of a file."""
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Reference:
    """The current plan, and the changes that it allows next."""

    most: int
    files: Files = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    """All ids that were ever given out."""
    landed: dict[str, list[str]] = field(default_factory=dict)
    """The commits that landed a ticket, by ticket."""
    by_hand: set[str] = field(default_factory=set)
    """The ids of tickets that a user moved or removed; the model makes no claim about their dependents."""
    transitions: int = 0

    # -- reading -----------------------------------------------------------------------------------------

    def place(self, name: str) -> str:
        found = [state for state in STATES if f"tickets/{state}/{name}.md" in self.files]
        assert len(found) <= 1, f"'{name}' is {found}"
        return found[0] if found else ""

    def tickets(self, state: str) -> list[str]:
        pattern = re.compile(rf"tickets/{state}/(.+)\.md")
        return sorted(match[1] for path in self.files if (match := pattern.fullmatch(path)))

    def text(self, name: str) -> str:
        return self.files[f"tickets/{self.place(name)}/{name}.md"]

    def queue(self) -> list[str]:
        items = sorted(path for path in self.files if path.startswith("queue/merge/pending/0"))
        return list(dict.fromkeys(path.rpartition("/")[2].removesuffix(".md").partition("-")[2] for path in items))

    def ready(self) -> list[str]:
        """Return the open tickets that are ready, the next ticket first."""
        done = {name[:4] for name in self.tickets("done")}
        able = [name for name in self.tickets("open") if set(depends(self.text(name))) <= done]
        return sorted(able, key=lambda name: ("priority: 1" not in self.text(name), name))

    def due(self, path: str) -> bool:
        """Return whether a file has changed since it was last planned from."""
        planned = f"{blob_id(self.files[path])} {path}" if path in self.files else ""
        return planned not in ["", *self.files.get("planned", "").splitlines()]

    # -- following ---------------------------------------------------------------------------------------

    def follow(self, commit: Commit, steps: Iterable[str]) -> None:
        """Apply a commit, after a check that commands of these verbs may make it."""
        before = dict(self.files)
        for path, text in commit.changes.items():
            if text is None:
                del self.files[path]
            else:
                self.files[path] = text
        if commit.by == "scriptorium":
            verb = commit.message.split()[1]
            assert set(STEPS[verb]) & set(steps), f"{steps} made '{commit.message}'"
            wanted = self.expected(verb, commit, before)
            assert commit.changes == wanted, f"{commit.message}\nchanged {commit.changes}\nand should {wanted}"
            self.transitions += 1
        else:
            self._note(before)
        self.ids |= {name[:4] for state in STATES for name in self.tickets(state)}
        for state in STATES:
            for name in self.tickets(state):
                self.place(name)

    def _note(self, before: Files) -> None:
        for path in (before.keys() ^ self.files.keys()) | {p for p in before if before[p] != self.files.get(p)}:
            if path.startswith("tickets/"):
                self.by_hand.add(path.rpartition("/")[2][:4])

    def expected(self, verb: str, commit: Commit, before: Files) -> dict[str, str | None]:
        """Return the files that a commit of the tool must change, with their contents."""
        name = commit.trailer("Ticket")
        match verb:
            case "assign":
                return self._moved(name, "open", "in-progress", before)
            case "enqueue":
                assert name not in Reference(self.most, before).queue(), f"'{name}' is queued twice"
                items = {path: text for path, text in commit.changes.items() if path.endswith(f"-{name}.md")}
                return {path: text for path, text in items.items() if path.startswith("queue/merge/pending/")}
            case "complete":
                assert name in Reference(self.most, before).queue(), f"'{name}' landed without a submission"
                self.landed.setdefault(name, []).append(commit.trailer("Landed"))
                return self._moved(name, "in-progress", "done", before) | self._dequeued(name, before)
            case "reopen" | "park":
                return self._failed(name, commit, before) | self._dequeued(name, before)
            case "drop":
                assert f"tickets/in-progress/{name}.md" not in before
                return self._dequeued(name, before)
            case "create":
                made = {path: text for path, text in commit.changes.items() if path.startswith("tickets/open/")}
                fresh = [path.rpartition("/")[2][:4] for path in made]
                assert not set(fresh) & self.ids, f"{fresh} were given before"
                assert len(set(fresh)) == len(fresh)
                return made | self._record(commit, "planned", "last-id")
            case _:
                areas = {path: text for path, text in commit.changes.items() if path.startswith("areas/")}
                return areas | self._record(commit, "planned")

    @staticmethod
    def _record(commit: Commit, *paths: str) -> dict[str, str | None]:
        return {path: commit.changes[path] for path in paths if path in commit.changes}

    @staticmethod
    def _moved(name: str, old: str, new: str, before: Files, text: str | None = None) -> dict[str, str | None]:
        path = f"tickets/{old}/{name}.md"
        assert path in before, f"'{name}' was not {old}"
        return {path: None, f"tickets/{new}/{name}.md": before[path] if text is None else text}

    @staticmethod
    def _dequeued(name: str, before: Files) -> dict[str, str | None]:
        return {path: None for path in before if path.startswith("queue/") and path.endswith(f"-{name}.md")}

    def _failed(self, name: str, commit: Commit, before: Files) -> dict[str, str | None]:
        old = before[f"tickets/in-progress/{name}.md"]
        if commit.trailer("Cause") in UNCOUNTED:
            return self._moved(name, "in-progress", "open", before)
        tried = attempts(old) + 1
        state = "stuck" if tried >= self.most else "open"
        new = commit.changes.get(f"tickets/{state}/{name}.md") or ""
        assert attempts(new) == tried, f"{attempts(old)} attempts became {attempts(new)}"
        start, _, note = new.partition(f"\n\n## Attempt {tried} failed: {commit.trailer('Cause')}\n\n")
        without = [re.sub(r"^attempts: \d+\n", "", text, flags=re.MULTILINE).rstrip() for text in (old, start)]
        assert note, new
        assert without[0] == without[1], f"{old!r} became {new!r}"
        return self._moved(name, "in-progress", state, before, new)
