"""Proof that a lock is held: a function that takes it cannot be called without the lock.

Only the context managers of `Workspace` create these values.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TicketLock:
    """The lock of a ticket, its worktree and its branch."""

    ticket: str


@dataclass(frozen=True)
class MergeLock:
    """The lock of the merge queue: at most one item is in the lane."""


@dataclass(frozen=True)
class PlanningLock:
    """The lock of the planning roles: at most one agent writes the plan."""
