"""Items of the merge queue: a ticket and its submitted commit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scriptorium.plan.ticket import State, Ticket, name_problem, ticket_path


@dataclass(frozen=True)
class QueueItem:
    """A ticket that waits to be merged. ``path`` is the item's file, and ``order`` sorts the queue."""

    path: str
    ticket: str
    summary: str
    head: str = ""
    """The submitted commit, empty if the user queued the ticket by hand."""

    @property
    def order(self) -> tuple[int, str]:
        found = re.match(r"\d{1,18}", self.path.rpartition("/")[2])
        return (int(found[0]) if found else 0, self.path)


def parse_item(path: str, data: bytes) -> QueueItem | None:
    """Return the queue item in a file of format 1 or of the original, None if it holds none."""
    text = data.decode(errors="surrogateescape")
    fields = dict(re.findall(r"^\*\*([A-Za-z ]+):\*\*[ \t]*(.*?)[ \t\r]*$", text, re.MULTILINE))
    name = fields.get("Ticket", "").rpartition("/")[2].removesuffix(".md")
    if name_problem(name):
        return None
    head = fields.get("Head", "")
    return QueueItem(path, name, fields.get("Summary", ""), head if re.fullmatch("[0-9a-f]{40,64}", head) else "")


def format_item(ticket: Ticket, worktree: str, head: str, summary: str) -> bytes:
    """Return the file of a queue item, in the form that users of the original know."""
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
