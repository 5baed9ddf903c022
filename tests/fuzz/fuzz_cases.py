"""Tickets, a plan and a task, which several files of fuzzing start from."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from scriptorium.agents.harness.base import Task
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, Ticket, TicketError, parse_ticket
from scriptorium.project.config import Price
from scriptorium.system.limits import Limits
from scriptorium.system.text import one_line

STEERING = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")
"""Characters that control a terminal, end a line or cannot be encoded."""

TICKETS = (
    b"---\narea: core\ndepends: [0001, 0002]\npriority: 3\nattempts: 1\nrepair: false\n---\n# A title\n\nDo it.\n",
    b"---\narea: core\ndepends:\n  - 0001  # first\n  - 2\nother: {x: [a, 1.5, 2001-01-01]}\n---\n# T\n",
    b"---\narea: &a core\nother: [*a, !!int 1]\n---\n# T\n",
    b"# Ticket 1\n\n**Area:** a1\n**Depends:** 0003, 0004\n**Attempts:** 2\n**Worktree:** /tmp/x\n\n## Agent Run\n",
)

QUEUE = b"# Merge Queue Item\n\n**Ticket:** tickets/in-progress/0001-a.md\n**Ticket ID:** 0001\n**Summary:** It works\n"

EMPTY_PLAN = cast(
    Plan,
    SimpleNamespace(
        ids={State.DONE: {"0001"}, State.OPEN: {"0002"}},
        blob=lambda _: "",
        dequeue=lambda *_: None,
        queue=list,
    ),
)


def read(data: bytes, name: str = "0001-a") -> Ticket | None:
    """Return a ticket, or None if it cannot be parsed; the error must be one line."""
    try:
        return parse_ticket(name, State.IN_PROGRESS, data)
    except TicketError as error:
        why = error.why
    assert why == one_line(why) != ""
    return None


def task(directory: Path) -> Task:
    price = Price(1.0, 0.1, 10.0)
    return Task("coding", "", directory, directory, "m", "", Limits(), price=price)
