"""Recording a failed attempt at a ticket."""

from __future__ import annotations

from logging import Logger
from typing import TYPE_CHECKING

from scriptorium.plan.ticket import State, ticket_path

if TYPE_CHECKING:
    from scriptorium.plan.snapshot import Plan


def tell_if_stuck(log: Logger, plan: Plan | None, ticket: str) -> None:
    """Say that a ticket needs a person now, if it does."""
    if plan is not None and ticket in plan.tickets(State.STUCK):
        path = ticket_path(State.STUCK, ticket)
        log.warning("ticket '%s' is stuck; hint: git show 'scriptorium/plan:%s'", ticket, path)
