"""The transitions of a ticket, each as a change for one commit. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from scriptorium.plan.cause import UNCOUNTED, Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.front_matter import append_section, set_field
from scriptorium.plan.queue_item import format_item
from scriptorium.plan.snapshot import LAST_ID, Plan
from scriptorium.plan.ticket import State, Ticket, ticket_id, ticket_path
from scriptorium.system.text import fence, one_line, printable


def _move_trailers(ticket: Ticket, old: State, new: State, **facts: object) -> dict[str, object]:
    trailers = {key.replace("_", "-"): value for key, value in facts.items()}
    return {"Ticket": ticket.name, "Move": f"{old} -> {new}" if old is not new else "", **trailers}


def assign(ticket: Ticket, name: str) -> PlanChange:
    """Open -> in-progress; ``name`` is the ticket's name, with a new id if it had none."""
    change = PlanChange("assign", f"ticket {name}")
    change.moves[ticket.path] = ticket_path(State.IN_PROGRESS, name)
    if not ticket.id:
        change.writes[LAST_ID] = f"{int(ticket_id(name))}\n".encode()
    change.trailers = {
        "Ticket": name,
        "Move": f"{State.OPEN} -> {State.IN_PROGRESS}",
        "Attempt": ticket.attempts + 1,
    }
    return change


def enqueue(plan: Plan, ticket: Ticket, worktree: str, summary: str, head: str) -> PlanChange:
    """Add a submitted ticket to the merge queue; the ticket stays in progress."""
    change = PlanChange("enqueue", f"ticket {ticket.name}")
    change.writes[plan.next_item_path(ticket.name)] = format_item(ticket, worktree, head, summary)
    change.trailers = {"Ticket": ticket.name, "Attempt": ticket.attempts + 1, "Head": head}
    return change


def complete(plan: Plan, ticket: Ticket, commit: str, facts: Mapping[str, object]) -> PlanChange:
    """In-progress -> done, and remove the ticket from the queue."""
    change = PlanChange("complete", f"ticket {ticket.name}")
    change.moves[ticket.path] = ticket_path(State.DONE, ticket.name)
    plan.dequeue(ticket.name, change)
    change.trailers = {
        **_move_trailers(ticket, State.IN_PROGRESS, State.DONE, Attempt=ticket.attempts + 1, Landed=commit),
        **facts,
    }
    return change


def reopen(
    plan: Plan, ticket: Ticket, cause: Cause, reason: str, tail: str, most: int, facts: Mapping[str, object]
) -> PlanChange:
    """In-progress -> open with a note about the failure, or stuck after the last attempt.

    A cause in UNCOUNTED, such as a stopped run or a failing provider, uses up no attempt and adds no note. Only the
    commit records it.
    """
    attempt = ticket.attempts + 1
    reason = one_line(reason)  # it may contain file names that an agent chose
    counted = cause not in UNCOUNTED
    text, last = ticket.text, attempt >= most
    if counted:
        try:
            text = set_field(text, "attempts", attempt)
        except ValueError as error:
            last, reason = True, f"{reason}; {error}"  # without a count the ticket would be tried forever
    target = State.STUCK if counted and last else State.OPEN
    new = ticket_path(target, ticket.name)
    verb = "park" if target is State.STUCK else "reopen"
    change = PlanChange(verb, f"ticket {ticket.name}", moves={ticket.path: new})
    if counted:
        note = f"{reason}\n\n{fence(printable(tail))}" if tail else reason
        text = append_section(text, f"Attempt {attempt} failed: {cause}", note)
        change.writes[new] = text.encode(errors="surrogateescape")
    plan.dequeue(ticket.name, change)
    change.trailers = {
        **_move_trailers(ticket, State.IN_PROGRESS, target, Attempt=attempt, Cause=cause, Reason=reason),
        **facts,
    }
    return change


def forget_item(plan: Plan, name: str) -> PlanChange:
    """Remove a queue item whose ticket is no longer in progress."""
    change = PlanChange("drop", f"queue item of ticket {name}")
    plan.dequeue(name, change)
    change.trailers = {"Ticket": name}
    return change
