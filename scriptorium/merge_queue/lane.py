"""One item of the merge queue: merged with master, tested, then landed or reopened."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from scriptorium.agents.run_log import last_trailers
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped
from scriptorium.gate.command import run_gate
from scriptorium.gate.health import MasterHealth, master_health
from scriptorium.gate.results import Colour, recall_verdict, record_verdict
from scriptorium.git.environment import IDENTITY
from scriptorium.git.errors import GitError
from scriptorium.git.worktree import Worktree
from scriptorium.merge_queue.landing import LandingOutcome, land
from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.queue_item import QueueItem
from scriptorium.plan.record_failure import tell_if_stuck
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, Ticket
from scriptorium.project.workspace import Workspace
from scriptorium.system import process
from scriptorium.worktrees import rescue
from scriptorium.worktrees import tickets as worktrees

log = logging.getLogger(__name__)

MAX_MASTER_MOVES = 20
"""How often an item is merged and tested anew because master moved meanwhile, before it waits."""


class ItemOutcome(StrEnum):
    """How an item came out of the queue; a waiting one is still in it."""

    LANDED = "landed"
    REOPENED = "reopened"
    DROPPED = "dropped"
    WAITING = "waiting"


@dataclass(frozen=True)
class ItemResult:
    """An item that was dealt with; ``waits_for`` tells a person why it is still in the queue."""

    ticket: str
    outcome: ItemOutcome
    blocked_by: str = ""
    hint: str = ""


def refuse_while_red(found: MasterHealth) -> NoReturn:
    raise ScriptoriumError(
        f"master is red at '{found.commit[:12]}', so nothing lands",
        f"repair it on master, or by a ticket marked 'repair: true'{'; ' + found.reason if found.reason else ''}",
        ExitCode.REFUSED,
    )


class Lane:
    """The merge lane with one item in hand, its ticket's lock held."""

    def __init__(self, workspace: Workspace, item: QueueItem) -> None:
        self.workspace = workspace
        self.item = item

    def may_run_while_red(self) -> bool:
        """Tell whether the item may be merged while master is red: a repair, or one that leaves the queue anyway."""
        plan = self.workspace.plan.snapshot()
        name = self.item.ticket
        return name not in plan.tickets(State.IN_PROGRESS) or plan.ticket(name, State.IN_PROGRESS).repair

    def process(self) -> ItemResult:
        plan = self.workspace.plan.snapshot()
        name = self.item.ticket
        if name not in plan.tickets(State.IN_PROGRESS):
            self.workspace.plan.transact(lambda plan: self._drop(plan, name))
            log.warning("ticket '%s' is queued but not in progress: its queue item is dropped", name)
            return ItemResult(name, ItemOutcome.DROPPED)
        ticket = plan.ticket(name, State.IN_PROGRESS)
        for _ in range(MAX_MASTER_MOVES):
            merged = self._attempt(ticket)
            if merged is not None:
                return merged
        return ItemResult(
            name, ItemOutcome.WAITING, f"'{self.workspace.master}' keeps moving", "run 'scriptorium merge' again"
        )

    @staticmethod
    def _drop(plan: Plan, name: str) -> PlanChange | None:
        still = any(item.ticket == name for item in plan.queue()) and name not in plan.tickets(State.IN_PROGRESS)
        return transitions.forget_item(plan, name) if still else None

    def _attempt(self, ticket: Ticket) -> ItemResult | None:
        """Merge, test and land once; None when master moved meanwhile."""
        workspace = self.workspace
        found = master_health(workspace)  # a person may have moved master since
        if not found.green and not ticket.repair:
            refuse_while_red(found)
        master = workspace.master_commit()
        submitted = self.item.head
        if not (submitted or self._has_work(ticket)):  # else it would pass for one that has landed
            return self._reopen(ticket, Cause.LOST, f"There is no branch `{ticket.branch}`", "")
        worktree = worktrees.ensure(workspace, ticket.name)
        process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={worktree}")
        if submitted and not workspace.repository.resolve(submitted):
            return self._reopen(ticket, Cause.LOST, f"`{ticket.branch}` no longer holds what was submitted", submitted)
        try:
            if submitted:
                self._hold_to(ticket, submitted, master)
            worktrees.discard_unsubmitted(workspace, ticket.name)
            conflicts = Worktree(workspace.repository, worktree).merge(master, self._message(ticket))
        except GitError as error:
            if error.system:
                raise  # a full disk is not the ticket's failure
            return self._reopen(ticket, Cause.CONFLICT, f"Merging `{workspace.master}` failed: {error.message}", "")
        if conflicts:
            names = ", ".join(f"`{name}`" for name in conflicts)
            return self._reopen(ticket, Cause.CONFLICT, f"Merging `{workspace.master}` conflicts in {names}", "")
        tested = workspace.repository.resolve(f"refs/heads/{ticket.branch}")
        failed = self._test(ticket, tested)
        return failed or self._land(ticket, master, tested)

    def _has_work(self, ticket: Ticket) -> bool:
        """Tell whether there is a branch to be merged, or a worktree that remembers one."""
        known = self.workspace.repository.resolve(f"refs/heads/{ticket.branch}")
        return bool(known) or self.workspace.working_tree(ticket.name).is_on_branch(ticket.branch)

    def _hold_to(self, ticket: Ticket, submitted: str, master: str) -> None:
        """Take the branch back to what was handed in, as nobody has looked at what else is there.

        A run of the agent that comes to its end does so itself; this one was killed, or a person was at it since.
        """
        repository = self.workspace.repository
        tip = repository.resolve(f"refs/heads/{ticket.branch}")
        if tip == submitted or self._is_merged_again(ticket, tip, submitted, master):
            return
        if repository.is_ancestor(submitted, tip) and repository.is_ancestor(tip, master):
            return  # it has landed, and this was killed before it could say so
        why = f"'{ticket.branch}' has moved since ticket '{ticket.name}' was handed in"
        worktrees.reset_branch(self.workspace, ticket.name, why, submitted)

    def _is_merged_again(self, ticket: Ticket, tip: str, submitted: str, master: str) -> bool:
        """Tell whether a tip is what was handed in with nothing on top but our merges of master."""
        committer, is_ancestor = "{} <{}> ".format(*IDENTITY), self.workspace.repository.is_ancestor
        for commit in self.workspace.repository.history(tip):
            if commit.oid == submitted:
                return True
            ours = commit.committer.startswith(committer) and commit.message.rstrip("\n") == self._message(ticket)
            if not ours or len(commit.parents) != 2 or not is_ancestor(commit.parents[1], master):
                break
        return False

    def _message(self, ticket: Ticket) -> str:
        return f"Merge branch '{self.workspace.master}' into {ticket.branch}"

    def _test(self, ticket: Ticket, tested: str) -> ItemResult | None:
        workspace = self.workspace
        tree = workspace.repository.tree_of(tested)
        if recall_verdict(workspace, tree) is Colour.GREEN:
            return None
        worktree = workspace.paths.ticket_worktree(ticket.name)
        try:
            result = run_gate(workspace, worktree, ticket.name)
        except Stopped:
            self._sweep_up(ticket, tested)
            raise
        record_verdict(workspace, tree, green=result.green, log=result.log)
        if result.green:  # commits made meanwhile stay on the branch, which then outlives its worktree
            self._sweep_up(ticket, workspace.repository.resolve(f"refs/heads/{ticket.branch}") or tested)
            return None
        self._sweep_up(ticket, tested)
        return self._reopen(ticket, Cause.GATE, result.reason, result.tail)

    def _sweep_up(self, ticket: Ticket, tested: str) -> None:
        """Remove what the gate wrote, which is not the agent's work: the tree was clean before."""
        workspace = self.workspace
        worktree = workspace.working_tree(ticket.name)
        if not worktree.is_on_branch(ticket.branch):
            return  # a reset would move the branch that the gate has checked out; `ensure` makes it anew
        tip = workspace.repository.resolve(f"refs/heads/{ticket.branch}")
        if tip and not workspace.repository.is_ancestor(tip, tested):
            why = f"'{ticket.branch}' got commits while the gate ran"
            rescue.keep_commit(workspace, tip, ticket.name, why)
        if tip != tested or worktree.changes():
            worktrees.hard_reset(workspace, ticket.name, tested)

    def _land(self, ticket: Ticket, master: str, tested: str) -> ItemResult | None:
        landing = land(self.workspace, ticket, master, tested)
        match landing.outcome:
            case LandingOutcome.MOVED:
                return None
            case LandingOutcome.BLOCKED:
                return ItemResult(ticket.name, ItemOutcome.WAITING, landing.blocking, landing.hint)
            case LandingOutcome.UNWANTED:
                self.workspace.plan.transact(lambda plan: self._drop(plan, ticket.name))
                log.warning("ticket '%s' was taken back while it was tested: it does not land", ticket.name)
                return ItemResult(ticket.name, ItemOutcome.DROPPED)
            case LandingOutcome.LANDED:
                worktrees.remove(self.workspace, ticket.name, tested)
                log.info("merge queue: ticket '%s' landed", ticket.name)
                return ItemResult(ticket.name, ItemOutcome.LANDED)

    def _reopen(self, ticket: Ticket, cause: Cause, reason: str, words: str) -> ItemResult:
        workspace = self.workspace
        facts = last_trailers(workspace.paths.attempts / ticket.name)

        def decide(plan: Plan) -> PlanChange | None:
            if ticket.name not in plan.tickets(State.IN_PROGRESS):
                return None
            fresh = plan.ticket(ticket.name, State.IN_PROGRESS)
            return transitions.reopen(plan, fresh, cause, reason, words, workspace.config.max_attempts, facts)

        after = workspace.plan.transact(decide)
        log.info("merge queue: ticket '%s' reopened: %s", ticket.name, reason)
        tell_if_stuck(log, after, ticket.name)
        return ItemResult(ticket.name, ItemOutcome.REOPENED)
