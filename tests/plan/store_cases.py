"""The helper of the tests that write to the plan."""

from __future__ import annotations

from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.store import PlanStore


def written(store: PlanStore, change: PlanChange) -> Plan:
    """Commit a change on top of the newest plan and return the new plan."""
    plan = store.commit(store.snapshot(), change)
    assert plan is not None
    return plan
