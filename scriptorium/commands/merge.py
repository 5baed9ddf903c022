"""scriptorium merge: bring the queue's next item to an end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from scriptorium import gate, locks, notices, process, rescue, transitions, worktrees
from scriptorium.causes import Cause
from scriptorium.cli import Command
from scriptorium.commands.health import MasterHealth, health
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped
from scriptorium.gate import Colour
from scriptorium.git import IDENTITY, GitError
from scriptorium.harness.runner import last_trailers
from scriptorium.landing import Landed, land, recover
from scriptorium.plan import Change, Plan
from scriptorium.records import emit, tickets
from scriptorium.ticket import QueueItem, State, Ticket, TicketError
from scriptorium.working_tree import WorkingTree
from scriptorium.workspace import Workspace
from scriptorium.worktrees import WorktreeError

log = logging.getLogger(__name__)

MASTER_MOVES = 20
"""How often an item is merged and tested anew because master moved meanwhile, before it waits."""


class Merge(Command):
    """Process the merge queue's next ticket: merge master into it, run the gate, land or reopen it.

    The queue decides the order. With TICKETs, names or numbers as arguments or as the first fields of
    the lines on stdin, items are processed until these tickets are through; without, one item is.
    Prints each ticket and 'landed' or 'reopened'. While master is red nothing lands and the exit code
    is 3, except for tickets marked 'repair: true'.
    """

    USAGE = "    {progname} [options] [TICKET...]\n"

    def main(self, *names: str) -> int:
        workspace = Workspace.open()
        named = tickets(names)  # to its end first: the steps before it in a pipe change the plan
        plan = workspace.plan.snapshot()
        wanted = {plan.require(name)[0] for name in named}
        with process.stoppable():
            while True:
                process.check_stop()  # a gate may be over before it looks for a signal
                if wanted and wanted.isdisjoint(item.ticket for item in workspace.plan.snapshot().queue()):
                    return ExitCode.OK  # a neighbour has brought them to an end
                merged = merge(workspace)
                if merged is None:
                    return ExitCode.OK
                if merged.outcome in (Ended.LANDED, Ended.REOPENED):
                    emit(merged.ticket, merged.outcome)
                if merged.outcome is Ended.WAITING:
                    raise ScriptoriumError(f"ticket '{merged.ticket}' waits: {merged.waits_for}", merged.hint)
                wanted -= {merged.ticket}
                if not wanted:
                    return ExitCode.OK


class Ended(StrEnum):
    """How an item came out of the queue; a waiting one is still in it."""

    LANDED = "landed"
    REOPENED = "reopened"
    DROPPED = "dropped"
    WAITING = "waiting"


@dataclass(frozen=True)
class Merged:
    """An item that was dealt with; ``waits_for`` tells a person why it is still in the queue."""

    ticket: str
    outcome: Ended
    waits_for: str = ""
    hint: str = ""


def merge(workspace: Workspace) -> Merged | None:
    """Bring the first item of the queue to an end; None when there is none to be had.

    While master is red only tickets marked ``repair: true`` have a turn; raises with exit code 3
    when there are others only, and with 75 when another merge is under way.
    """
    if not workspace.plan.snapshot().queue():
        return None
    directory = workspace.paths.ensure(workspace.paths.lock("merge").parent)
    with locks.hold(directory / "merge.lock", "merge"):
        recover(workspace)
        worktrees.sweep(workspace, workspace.plan.snapshot())
        found = health(workspace)
        waiting = False
        failed: WorktreeError | None = None
        for item in workspace.plan.snapshot().queue():
            lock = workspace.paths.ensure(workspace.paths.ticket_lock(item.ticket).parent) / f"{item.ticket}.lock"
            if locks.is_held(lock):
                continue  # its agent is still at work
            with locks.hold(lock, item.ticket):
                lane = _Lane(workspace, item)
                try:
                    if found.green or lane.may_pass_red():
                        return lane.process()
                except TicketError as error:
                    log.warning("%s: it is passed over", error.message)
                    continue  # edited by hand since it was handed in
                except WorktreeError as error:
                    failed = error
                    continue  # the others need not wait for it
                waiting = True
        if failed:
            raise failed
        if waiting:
            _refuse(found)
    return None


def tidy(workspace: Workspace) -> None:
    """Clear away what a crash between a landing and its clean-up left, unless another merge is under way."""
    directory = workspace.paths.ensure(workspace.paths.lock("merge").parent)
    try:
        workspace.plan.catch_up()
        with locks.hold(directory / "merge.lock", "merge"):
            recover(workspace)
            worktrees.sweep(workspace, workspace.plan.snapshot())
            worktrees.sweep_branches(workspace, workspace.plan.snapshot())
    except ScriptoriumError as error:
        log.debug("%s", error.message)  # a merge that is under way sweeps as well


def _refuse(found: MasterHealth) -> NoReturn:
    raise ScriptoriumError(
        f"master is red at '{found.commit[:12]}', so nothing lands",
        f"repair it on master, or by a ticket marked 'repair: true'{'; ' + found.reason if found.reason else ''}",
        ExitCode.REFUSED,
    )


class _Lane:
    """The merge lane with one item in hand, its ticket's lock held."""

    def __init__(self, workspace: Workspace, item: QueueItem) -> None:
        self.workspace = workspace
        self.item = item

    def may_pass_red(self) -> bool:
        """Tell whether the item may be merged while master is red: a repair, or one that leaves the queue anyway."""
        plan = self.workspace.plan.snapshot()
        name = self.item.ticket
        return name not in plan.tickets(State.IN_PROGRESS) or plan.ticket(name, State.IN_PROGRESS).repair

    def process(self) -> Merged:
        plan = self.workspace.plan.snapshot()
        name = self.item.ticket
        if name not in plan.tickets(State.IN_PROGRESS):
            self.workspace.plan.transact(lambda plan: self._drop(plan, name))
            log.warning("ticket '%s' is queued but not in progress: its queue item is dropped", name)
            return Merged(name, Ended.DROPPED)
        ticket = plan.ticket(name, State.IN_PROGRESS)
        for _ in range(MASTER_MOVES):
            merged = self._attempt(ticket)
            if merged is not None:
                return merged
        return Merged(name, Ended.WAITING, f"'{self.workspace.master}' keeps moving", "run 'scriptorium merge' again")

    @staticmethod
    def _drop(plan: Plan, name: str) -> Change | None:
        still = any(item.ticket == name for item in plan.queue()) and name not in plan.tickets(State.IN_PROGRESS)
        return transitions.forget_item(plan, name) if still else None

    def _attempt(self, ticket: Ticket) -> Merged | None:
        """Merge, test and land once; None when master moved meanwhile."""
        workspace = self.workspace
        found = health(workspace)  # a person may have moved master since
        if not found.green and not ticket.repair:
            _refuse(found)
        master = workspace.master_commit()
        submitted = self.item.head
        if not (submitted or self._has_work(ticket)):  # else it would pass for one that has landed
            return self._reopen(ticket, Cause.LOST, f"There is no branch `{ticket.branch}`", "")
        worktree = worktrees.ensure(workspace, ticket.name)
        process.end_leftovers(f"SCRIPTORIUM_WORKTREE={worktree}")
        if submitted and not workspace.repository.resolve(submitted):
            return self._reopen(ticket, Cause.LOST, f"`{ticket.branch}` no longer holds what was submitted", submitted)
        try:
            if submitted:
                self._hold_to(ticket, submitted, master)
            worktrees.clear(workspace, ticket.name)
            conflicts = WorkingTree(workspace.repository, worktree).merge(master, self._message(ticket))
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
        return bool(known) or self.workspace.working_tree(ticket.name).is_sound(ticket.branch)

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
        worktrees.take_back(self.workspace, ticket.name, why, submitted)

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

    def _test(self, ticket: Ticket, tested: str) -> Merged | None:
        workspace = self.workspace
        tree = workspace.repository.tree_of(tested)
        if gate.recall(workspace, tree) is Colour.GREEN:
            return None
        worktree = workspace.paths.ticket_worktree(ticket.name)
        try:
            result = gate.run(workspace, worktree, ticket.name)
        except Stopped:
            self._sweep_up(ticket, tested)
            raise
        gate.remember(workspace, tree, green=result.green, log=result.log)
        if result.green:  # commits made meanwhile stay on the branch, which then outlives its worktree
            self._sweep_up(ticket, workspace.repository.resolve(f"refs/heads/{ticket.branch}") or tested)
            return None
        self._sweep_up(ticket, tested)
        return self._reopen(ticket, Cause.GATE, result.reason, result.tail)

    def _sweep_up(self, ticket: Ticket, tested: str) -> None:
        """Remove what the gate wrote, which is not the agent's work: the tree was clean before."""
        workspace = self.workspace
        worktree = workspace.working_tree(ticket.name)
        if not worktree.is_sound(ticket.branch):
            return  # a reset would move the branch that the gate has checked out; `ensure` makes it anew
        tip = workspace.repository.resolve(f"refs/heads/{ticket.branch}")
        if tip and not workspace.repository.is_ancestor(tip, tested):
            why = f"'{ticket.branch}' got commits while the gate ran"
            rescue.keep(workspace, tip, ticket.name, why)
        if tip != tested or worktree.changes():
            worktrees.reset(workspace, ticket.name, tested)

    def _land(self, ticket: Ticket, master: str, tested: str) -> Merged | None:
        landing = land(self.workspace, ticket, master, tested)
        match landing.outcome:
            case Landed.MOVED:
                return None
            case Landed.BLOCKED:
                return Merged(ticket.name, Ended.WAITING, landing.blocking, landing.hint)
            case Landed.UNWANTED:
                self.workspace.plan.transact(lambda plan: self._drop(plan, ticket.name))
                log.warning("ticket '%s' was taken back while it was tested: it does not land", ticket.name)
                return Merged(ticket.name, Ended.DROPPED)
            case Landed.LANDED:
                worktrees.remove(self.workspace, ticket.name, tested)
                log.info("merge queue: ticket '%s' landed", ticket.name)
                return Merged(ticket.name, Ended.LANDED)

    def _reopen(self, ticket: Ticket, cause: Cause, reason: str, words: str) -> Merged:
        workspace = self.workspace
        facts = last_trailers(workspace.paths.attempts / ticket.name)

        def decide(plan: Plan) -> Change | None:
            if ticket.name not in plan.tickets(State.IN_PROGRESS):
                return None
            fresh = plan.ticket(ticket.name, State.IN_PROGRESS)
            return transitions.reopen(plan, fresh, cause, reason, words, workspace.config.max_attempts, facts)

        after = workspace.plan.transact(decide)
        log.info("merge queue: ticket '%s' reopened: %s", ticket.name, reason)
        notices.tell_if_stuck(log, after, ticket.name)
        return Merged(ticket.name, Ended.REOPENED)


main = Merge.launch
