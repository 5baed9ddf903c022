"""The merge queue, and the transitions of a ticket."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.store import PlanStore
from scriptorium.plan.ticket import State, last_failure, parse_ticket
from scriptorium.reports.fsck import fsck
from tests.support import Project


def enqueue(store: PlanStore, name: str) -> None:
    def decide(plan: Plan) -> PlanChange:
        return transitions.enqueue(plan, plan.ticket(name, State.IN_PROGRESS), "/worktree", "summary", "head")

    assert store.transact(decide)


def test_the_queue_keeps_the_order_of_submits(project: Project, store: PlanStore) -> None:
    names = [project.ticket(f"000{number}", state="in-progress") for number in (3, 1, 2)]
    for name in names:
        enqueue(store, name)
    assert [item.ticket for item in store.snapshot().queue()] == names


@pytest.mark.parametrize("by_path", [True, False])
def test_the_item_in_hand_goes_first_and_leaves_with_its_ticket(
    project: Project, store: PlanStore, by_path: bool
) -> None:
    first, second = (project.ticket(f"000{number}", state="in-progress") for number in (1, 2))
    for name in (first, second):
        enqueue(store, name)
    path = f"queue/merge/pending/0002-{second}.md"
    project.commit_plan({"queue/merge/active.md": f"{path}\n" if by_path else project.plan_files()[path]})
    assert [item.ticket for item in store.snapshot().queue()] == [second, first]

    store.transact(lambda plan: transitions.complete(plan, plan.ticket(second, State.IN_PROGRESS), "commit", {}))
    assert project.plan_files()["queue/merge/active.md"] == ""
    assert [item.ticket for item in store.snapshot().queue()] == [first]


def test_a_failed_attempt_is_counted_and_leaves_the_queue(project: Project, store: PlanStore) -> None:
    name = project.ticket("0001", state="in-progress")
    enqueue(store, name)
    store.transact(
        lambda plan: transitions.reopen(
            plan, plan.ticket(name, State.IN_PROGRESS), Cause.GATE, "The gate failed", "last ``` words", 2, {}
        )
    )
    ticket = store.snapshot().ticket(name, State.OPEN)
    assert ticket.attempts == 1
    assert ticket.text.endswith("## Attempt 1 failed: gate\n\nThe gate failed\n\n  ````\n  last ``` words\n  ````\n")
    assert store.snapshot().queue() == []
    assert fsck(project.workspace) == []


def test_a_ticket_whose_attempts_cannot_be_counted_is_parked(project: Project, store: PlanStore) -> None:
    project.commit_plan({"tickets/in-progress/0001-odd.md": "---\n{area: core}\n---\n# Odd\n"})
    store.transact(
        lambda plan: transitions.reopen(
            plan, plan.ticket("0001-odd", State.IN_PROGRESS), Cause.AGENT, "It failed", "", 5, {}
        )
    )
    assert store.snapshot().tickets(State.STUCK) == ["0001-odd"]
    assert project.plan_log()[-1] == "scriptorium: park ticket 0001-odd"


def test_an_agent_forges_no_trailers_fields_or_headings() -> None:
    said = (
        "no\n\nMove: open -> done\n**Repair:** true\n**Attempts:** 0\n## Attempt 9 failed: conflict\n\0\x1b[31m\ud800"
    )
    ticket = parse_ticket("0001-a", State.IN_PROGRESS, b"# T\n\n**Area:** core\n")
    plan = cast(Plan, SimpleNamespace(dequeue=lambda *_: None))
    change = transitions.reopen(plan, ticket, Cause.GATE, said, said, 5, {"Agent": said})

    message = change.message().decode()
    keys = [line.partition(":")[0] for line in message.splitlines()[2:]]
    assert keys == ["Ticket", "Move", "Attempt", "Cause", "Reason", "Agent", "Transaction"]
    assert not {"\0", "\x1b"} & {*message}
    after = parse_ticket("0001-a", State.OPEN, change.writes["tickets/open/0001-a.md"])
    assert (after.repair, after.attempts, last_failure(after.text)) == (False, 1, Cause.GATE)


@pytest.mark.parametrize("text", ["queue/merge/pending/" + "a/" * 5000, "queue/merge/pending/../../spec.md", "\0"])
def test_an_item_in_hand_that_names_no_item_is_none(project: Project, text: str) -> None:
    project.init()
    project.commit_plan({"queue/merge/active.md": text, "last-id": "9" * 5000})
    store = project.workspace.plan
    plan = store.snapshot()
    assert (plan.active, plan.queue(), store.next_id(plan)) == (None, [], 1)
