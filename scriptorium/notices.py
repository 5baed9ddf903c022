"""Sentences that more than one command says."""

from __future__ import annotations

from logging import Logger
from typing import TYPE_CHECKING

from scriptorium.ticket import State, ticket_path

if TYPE_CHECKING:
    from scriptorium.plan import Plan

WAITING = "WAITING: no spec — run 'scriptorium plan'"


def tell_if_stuck(log: Logger, plan: Plan | None, ticket: str) -> None:
    """Say that a ticket needs a person now, if it does."""
    if plan is not None and ticket in plan.tickets(State.STUCK):
        path = ticket_path(State.STUCK, ticket)
        log.warning("ticket '%s' is stuck; hint: git show 'scriptorium/plan:%s'", ticket, path)
