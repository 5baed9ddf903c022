"""One item of the merge queue: merged with master, tested, then landed or reopened."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NoReturn

from scriptorium.agents.run_log import last_trailers
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped
from scriptorium.gate.command import run_gate
from scriptorium.gate.health import MasterHealth, master_health
from scriptorium.gate.results import Colour, recall_verdict, record_verdict
from scriptorium.git.environment import IDENTITY
from scriptorium.git.errors import GitError
from scriptorium.merge_queue.landing import LandingOutcome, land
from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.queue_item import QueueItem
from scriptorium.plan.record_failure import Failure, record_failure
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, Ticket
from scriptorium.project.held import MergeLock, TicketLock
from scriptorium.project.workspace import Workspace
from scriptorium.system import process
from scriptorium.worktrees import rescue
from scriptorium.worktrees.tickets import TicketWorktree

log = logging.getLogger(__name__)

MAX_MASTER_MOVES = 20
"""How often an item is merged and tested again because master has moved, before it waits."""


class ItemOutcome(StrEnum):
    """How the processing of an item ended; a waiting item is still in the queue."""

    LANDED = "landed"
    REOPENED = "reopened"
    DROPPED = "dropped"
    WAITING = "waiting"


@dataclass(frozen=True)
class ItemResult:
    """The result of an item; ``blocked_by`` says why a waiting item is still in the queue."""

    ticket: str
    outcome: ItemOutcome
    blocked_by: str = ""
    hint: str = ""


def refuse_while_red(found: MasterHealth) -> NoReturn:
    """Raise, with exit code 3, because master is red."""
    raise ScriptoriumError(
        f"master is red at '{found.commit[:12]}', so nothing lands",
        f"repair it on master, or by a ticket marked 'repair: true'{'; ' + found.reason if found.reason else ''}",
        ExitCode.REFUSED,
    )


class Lane:
    """The merge lane with one item."""

    def __init__(self, workspace: Workspace, item: QueueItem, lock: TicketLock, merge_lock: MergeLock) -> None:
        self.workspace = workspace
        self.item = item
        self.worktree = TicketWorktree(workspace, lock)
        self._merge_lock = merge_lock

    def may_run_while_red(self) -> bool:
        """Return whether the item may be merged while master is red: it repairs master, or leaves the queue anyway."""
        plan = self.workspace.plan.snapshot()
        name = self.item.ticket
        return name not in plan.tickets(State.IN_PROGRESS) or plan.ticket(name, State.IN_PROGRESS).repair

    def process(self) -> ItemResult:
        """Merge, test and land the item, again each time that master has moved, and return the result."""
        plan = self.workspace.plan.snapshot()
        name = self.item.ticket
        if name not in plan.tickets(State.IN_PROGRESS):
            self.workspace.plan.transact(lambda plan: self._drop(plan, name))
            log.warning("dropped the queue item of ticket '%s', which is not in progress", name)
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
        """Merge, test and land once; None if master has moved in the meantime."""
        workspace, worktree = self.workspace, self.worktree
        found = master_health(workspace)  # the user may have moved master
        if not found.green and not ticket.repair:
            refuse_while_red(found)
        master = workspace.master_commit()
        submitted = self.item.head
        if not (submitted or self._has_work()):  # a new branch at master would look like a landed one
            return self._reopen(ticket, Failure(Cause.LOST, f"There is no branch `{ticket.branch}`"))
        worktree.ensure()
        process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={worktree.path}")
        if submitted and not workspace.repository.resolve(submitted):
            reason = f"`{ticket.branch}` no longer holds what was submitted"
            return self._reopen(ticket, Failure(Cause.LOST, reason, submitted))
        try:
            if submitted:
                self._hold_to_submitted(ticket, submitted, master)
            worktree.discard_unsubmitted()
            conflicts = worktree.tree.merge(master, self._message(ticket))
        except GitError as error:
            if error.system:
                raise  # a full disk is not the ticket's fault
            return self._reopen(
                ticket, Failure(Cause.CONFLICT, f"Merging `{workspace.master}` failed: {error.message}")
            )
        if conflicts:
            names = ", ".join(f"`{name}`" for name in conflicts)
            return self._reopen(ticket, Failure(Cause.CONFLICT, f"Merging `{workspace.master}` conflicts in {names}"))
        tested = worktree.tip
        return self._test(ticket, tested) or self._land(ticket, master, tested)

    def _has_work(self) -> bool:
        """Return whether there is a branch to merge, or a worktree whose reflog has it."""
        return bool(self.worktree.tip) or self.worktree.tree.is_on_branch(self.worktree.branch)

    def _hold_to_submitted(self, ticket: Ticket, submitted: str, master: str) -> None:
        """Reset the branch to the submitted commit; a rescue ref keeps later commits, which nobody has looked at.

        An attempt does so itself at its end. This one was killed, or the user has committed since.
        """
        repository, tip = self.workspace.repository, self.worktree.tip
        if tip == submitted or self._is_merge_of(ticket, tip, submitted, master):
            return
        if repository.is_ancestor(submitted, tip) and repository.is_ancestor(tip, master):
            return  # it has landed, and the process was killed before it moved the ticket
        self.worktree.reset_to(submitted, f"'{ticket.branch}' has moved since ticket '{ticket.name}' was submitted")

    def _is_merge_of(self, ticket: Ticket, tip: str, submitted: str, master: str) -> bool:
        """Return whether a tip is the submitted commit with nothing on top but our own merges of master."""
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
        """Run the gate unless its verdict is known; return the result of a red gate, None for a green one."""
        workspace, tree = self.workspace, self.workspace.repository.tree_of(tested)
        if recall_verdict(workspace, tree) is Colour.GREEN:
            return None
        try:
            result = run_gate(workspace, self.worktree.path, ticket.name)
        except Stopped:
            self._discard_gate_files(ticket, tested)
            raise
        record_verdict(workspace, tree, green=result.green, log=result.log)
        if result.green:  # commits made in the meantime stay on the branch, which then outlives its worktree
            self._discard_gate_files(ticket, self.worktree.tip or tested)
            return None
        self._discard_gate_files(ticket, tested)
        return self._reopen(ticket, Failure(Cause.GATE, result.reason, result.tail))

    def _discard_gate_files(self, ticket: Ticket, tested: str) -> None:
        """Discard what the gate wrote: the worktree was clean before, so it is not the agent's work."""
        worktree = self.worktree
        if not worktree.tree.is_on_branch(worktree.branch):
            return  # a reset would move the branch that the gate has checked out; `ensure` creates the worktree anew
        tip = worktree.tip
        if tip and not self.workspace.repository.is_ancestor(tip, tested):
            why = f"'{worktree.branch}' got commits while the gate ran"
            rescue.keep_commit(self.workspace, tip, ticket.name, why)
        if tip != tested or worktree.tree.changes():
            worktree.hard_reset(tested)

    def _land(self, ticket: Ticket, master: str, tested: str) -> ItemResult | None:
        landing = land(self.workspace, ticket, master, tested, self._merge_lock)
        match landing.outcome:
            case LandingOutcome.MOVED:
                return None
            case LandingOutcome.BLOCKED:
                return ItemResult(ticket.name, ItemOutcome.WAITING, landing.blocking, landing.hint)
            case LandingOutcome.UNWANTED:
                self.workspace.plan.transact(lambda plan: self._drop(plan, ticket.name))
                log.warning("ticket '%s' does not land: it left the queue while it was tested", ticket.name)
                return ItemResult(ticket.name, ItemOutcome.DROPPED)
            case LandingOutcome.LANDED:
                self.worktree.remove(tested)
                log.info("merge queue: ticket '%s' landed", ticket.name)
                return ItemResult(ticket.name, ItemOutcome.LANDED)

    def _reopen(self, ticket: Ticket, failure: Failure) -> ItemResult:
        workspace = self.workspace
        failure = replace(failure, trailers=last_trailers(workspace.paths.attempts / ticket.name))
        record_failure(workspace.plan, ticket.name, failure, workspace.config.max_attempts, workspace.secrets)
        log.info("merge queue: ticket '%s' reopened: %s", ticket.name, failure.reason)
        return ItemResult(ticket.name, ItemOutcome.REOPENED)
