"""Recording a failed attempt at a ticket: one commit that opens the ticket again, or parks it as stuck."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.store import PlanStore
from scriptorium.plan.ticket import State, ticket_path
from scriptorium.system.redact import Secrets

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed; ``output`` is what the agent or the gate printed last."""

    cause: Cause
    reason: str
    output: str = ""
    trailers: Mapping[str, object] = field(default_factory=dict)
    """Facts of the run for the commit, such as the agent and its tokens."""


def record_failure(store: PlanStore, ticket: str, failure: Failure, max_attempts: int, secrets: Secrets) -> None:
    """Move a ticket from in-progress to open with a note, or to stuck after its last attempt.

    A ticket that is not in progress any more stays as it is: the user has moved it. Credentials are redacted
    from all that is committed. Raises if the plan cannot be written.
    """
    reason, output = secrets.redact(failure.reason), secrets.redact(failure.output)

    def decide(plan: Plan) -> PlanChange | None:
        if ticket not in plan.tickets(State.IN_PROGRESS):
            return None
        found = plan.ticket(ticket, State.IN_PROGRESS)
        return transitions.reopen(plan, found, failure.cause, reason, output, max_attempts, failure.trailers)

    after = store.transact(decide)
    if after is not None and ticket in after.tickets(State.STUCK):
        path = ticket_path(State.STUCK, ticket)
        log.warning("ticket '%s' is stuck; hint: git show 'scriptorium/plan:%s'", ticket, path)
