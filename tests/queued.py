"""Brings a ticket into the merge queue as `scriptorium code` does, without a call back from the agent."""

from __future__ import annotations

from dataclasses import replace

from scriptorium.agents.run import make_task, run_agent
from scriptorium.git.environment import scrub_environment
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State
from scriptorium.plan.transitions import enqueue
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees.tickets import TicketWorktree


def submit_work(workspace: Workspace, name: str, summary: str = "done") -> None:
    """Run the agent of a ticket in progress, which need not submit; commit and enqueue the work."""
    scrub_environment()  # as every command does; otherwise git would run in an older environment
    workspace.paths.ensure(workspace.paths.sockets)
    with workspace.hold_ticket(name) as lock:
        ticket = workspace.plan.snapshot().ticket(name, State.IN_PROGRESS)
        worktree = TicketWorktree(workspace, lock)
        worktree.ensure()
        harness, task = make_task(workspace, "coding", "", worktree.path, name)
        own = {"SCRIPTORIUM_TICKET": name, "SCRIPTORIUM_AREA": ticket.area}
        outcome = run_agent(workspace, harness, replace(task, env={**task.env, **own}))
        assert outcome.finished.ok, outcome.log.with_suffix(".stderr").read_text()
        head = worktree.commit_leftovers(f"{ticket.title}\n\n{summary}", resolved=True)

        def decide(plan: Plan) -> PlanChange:
            return enqueue(plan, ticket, str(worktree.path), summary, head)

        workspace.plan.transact(decide)
