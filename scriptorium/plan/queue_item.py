"""Items of the merge queue: which ticket waits, and for which commit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scriptorium.plan.ticket import State, Ticket, name_problem, ticket_path


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
