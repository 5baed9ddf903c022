"""Landing: master moves to a tested commit, by fast-forward, together with the plan."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from scriptorium.agents.run_log import last_trailers
from scriptorium.git import stale_locks
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate
from scriptorium.git.user_checkout import UserCheckout, warn_behind
from scriptorium.git.worktree_list import BranchWorktree, present_worktrees_on, rebase_in_progress, worktrees_on
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import REF, Plan
from scriptorium.plan.store import MAX_TRIES, wait_before_retry
from scriptorium.plan.ticket import State, Ticket
from scriptorium.plan.transitions import complete
from scriptorium.project.held import MergeLock
from scriptorium.project.workspace import Workspace
from scriptorium.system import signals

MARK = "scriptorium-landing"
"""A file in the git directory during a fast-forward: the checkout, its old commit, and its new commit."""


class LandingOutcome(StrEnum):
    """How an attempt to land ended."""

    LANDED = "landed"
    MOVED = "moved"  # master is not at the tested base any more
    BLOCKED = "blocked"  # something in the user's checkout blocks it
    UNWANTED = "unwanted"  # the ticket has left the queue, or is not in progress any more


@dataclass(frozen=True)
class Landing:
    """The outcome; ``blocking`` says what blocks a landing, and ``hint`` how to unblock it."""

    outcome: LandingOutcome
    blocking: str = ""
    hint: str = ""


def land(workspace: Workspace, ticket: Ticket, master: str, tested: str, _lock: MergeLock) -> Landing:
    """Fast-forward master from ``master`` to ``tested`` and move the ticket to done.

    If master is checked out, index and files move with it, and the plan follows; after a crash in between, the next
    start finishes the landing, because the queue item is still there. Otherwise both refs move in one transaction.
    """
    workspace.note_master()
    if tested == master:  # it landed before a crash, or the user has merged it
        return _complete(workspace, ticket, tested)
    if not workspace.plan.snapshot().is_queued(ticket.name):  # the queue may have changed while the gate ran
        return Landing(LandingOutcome.UNWANTED)
    found = worktrees_on(workspace.repository, workspace.master)
    if waits := _obstacle(workspace, found, master, tested):
        return waits
    if not found:
        return _move_both_refs(workspace, ticket, master, tested)
    first = found[0].path
    try:
        blocking = _fast_forward(workspace, first, master, tested)
    except GitError as error:
        if workspace.master_commit() != master:
            return Landing(LandingOutcome.MOVED)
        return _cannot_follow(first, error)
    if blocking:
        files = ", ".join(f"'{name}'" for name in blocking)
        why = f"local changes in '{first}' are in the way: {files}"
        return Landing(LandingOutcome.BLOCKED, why, "commit or stash them")
    if workspace.master_commit() != tested:
        _mark(workspace).unlink()
        return Landing(LandingOutcome.MOVED)  # the checkout has just changed its branch
    _follow(workspace, first, master, tested, was_killed=False)
    return _complete(workspace, ticket, tested)


def _obstacle(workspace: Workspace, found: list[BranchWorktree], master: str, tested: str) -> Landing | None:
    """Return what blocks the landing, or None: a rebase, a checkout on a missing disk, edits in a second checkout."""
    rebase = rebase_in_progress(workspace.repository, workspace.master)
    if rebase:
        return Landing(
            LandingOutcome.BLOCKED, f"'{workspace.master}' is being rebased", f"finish the rebase in '{rebase}'"
        )
    if away := [holder.path for holder in found if holder.is_missing_but_locked]:
        hint = f"bring it back, or 'git worktree unlock {shlex.quote(str(away[0]))}' if it is gone for good"
        return Landing(
            LandingOutcome.BLOCKED, f"'{away[0]}', where '{workspace.master}' is checked out, is missing", hint
        )
    for holder in found[1:]:  # only `git worktree add --force` makes a second checkout
        try:
            if not UserCheckout(workspace.repository, holder.path).can_follow(master, tested):
                why = f"local changes in '{holder.path}' are in the way"
                return Landing(LandingOutcome.BLOCKED, why, "commit or stash them")
        except GitError as error:
            return _cannot_follow(holder.path, error)
    return None


def _cannot_follow(place: Path, error: GitError) -> Landing:
    """Return what the user must finish first, such as a merge; it is never the ticket's failure."""
    hint = error.hint or "see 'git status' there"
    return Landing(LandingOutcome.BLOCKED, f"'{place}' cannot follow: {error.message}", hint)


def _fast_forward(workspace: Workspace, path: Path, master: str, tested: str) -> list[str]:
    """Move a checkout to the tested commit, or return the files that block it.

    A mark is written first: an interrupted fast-forward leaves a lock, and files that look like the user's edits.
    """
    checkout, mark = UserCheckout(workspace.repository, path), _mark(workspace)
    begin = partial(_write_mark, mark, f"{path}\n{master}\n{tested}\n")
    try:
        blocking = checkout.fast_forward(workspace.master, master, tested, begin)
    except GitError as error:
        if mark.exists() and error.status >= 0:  # git was not killed
            with suppress(GitError):  # otherwise the next start reverts it
                if not error.is_index_locked:  # with a locked index, no file was written
                    checkout.undo(master, tested, mark.stat().st_ctime_ns)
                mark.unlink()
        raise
    if blocking:
        mark.unlink(missing_ok=True)
    return blocking


def _follow(workspace: Workspace, first: Path, old: str, tested: str, *, was_killed: bool) -> None:
    """Move the other checkouts of master along, then remove the mark."""
    mark = _mark(workspace)
    since = mark.stat().st_ctime_ns
    for other in present_worktrees_on(workspace.repository, workspace.master):
        checkout = UserCheckout(workspace.repository, other)
        if other != first and not checkout.bring(old, tested, since, was_killed=was_killed):
            warn_behind(other, workspace.master)
    mark.unlink()


def recover_landing(workspace: Workspace, _lock: MergeLock) -> None:
    """Revert what an interrupted fast-forward has written into the user's checkout.

    Call it before anything else: the item that was landing may have a different outcome now.
    """
    mark, repository = _mark(workspace), workspace.repository
    try:
        where, old, commit = mark.read_text(errors="surrogateescape").rsplit("\n", 3)[:3]
        since = mark.stat().st_ctime_ns
    except FileNotFoundError:
        return
    except ValueError:
        where = old = commit = ""
    master, path = workspace.master_commit(), Path(where)
    # an interrupted git may have left these locks, and no other git would remove them
    for holder in worktrees_on(repository, workspace.master):
        stale_locks.wait_until_gone(holder.git_dir / "HEAD.lock")
    stale_locks.wait_until_gone(repository.common_dir / f"{workspace.master_ref}.lock")
    if not (repository.resolve(old) and repository.resolve(commit)):
        mark.unlink()  # it names commits that are not there
    elif repository.is_ancestor(commit, master):
        _follow(workspace, path, old, commit, was_killed=True)
    elif path in present_worktrees_on(repository, workspace.master):  # otherwise wait until it is back on master
        _undo(UserCheckout(repository, path), master, commit, since)
        mark.unlink()


def _undo(checkout: UserCheckout, master: str, commit: str, since: int) -> None:
    try:
        checkout.undo(master, commit, since)
    except GitError as error:
        if not stale_locks.wait_for_release(error.lock, checkout.path):
            raise
        checkout.undo(master, commit, since)


def _mark(workspace: Workspace) -> Path:
    return workspace.repository.common_dir / MARK


def _write_mark(mark: Path, text: str) -> None:
    """Write the mark durably, so that it outlasts a loss of power, as the index does."""
    draft = mark.with_suffix(".new")  # a fixed name, because only one process lands at a time
    with draft.open("w", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(mark)


def _change(workspace: Workspace, ticket: Ticket, plan: Plan, tested: str) -> PlanChange:
    facts = last_trailers(workspace.paths.attempts / ticket.name)
    return complete(plan, plan.ticket(ticket.name, State.IN_PROGRESS), tested, facts)


def _complete(workspace: Workspace, ticket: Ticket, tested: str) -> Landing:
    workspace.plan.transact(lambda plan: _change(workspace, ticket, plan, tested))
    return Landing(LandingOutcome.LANDED)


def _move_both_refs(workspace: Workspace, ticket: Ticket, master: str, tested: str) -> Landing:
    with workspace.plan.turn():
        for turn in range(MAX_TRIES):
            signals.raise_if_stopped()
            plan = workspace.plan.snapshot()
            of_plan = workspace.plan.prepare(plan, _change(workspace, ticket, plan, tested))
            if workspace.repository.update_refs(RefUpdate(workspace.master_ref, tested, master), of_plan):
                workspace.plan.checkouts.follow(plan.commit, of_plan.new)
                for path in present_worktrees_on(workspace.repository, workspace.master):  # checked out in the meantime
                    if not UserCheckout(workspace.repository, path).follow(master, tested):
                        warn_behind(path, workspace.master)
                return Landing(LandingOutcome.LANDED)
            if workspace.master_commit() != master:
                return Landing(LandingOutcome.MOVED)
            wait_before_retry(turn)
    locked = workspace.repository.ref_lock(workspace.master_ref) or workspace.repository.ref_lock(REF)
    hint = f"if no git is at work, remove '{locked}'" if locked else "try again"
    return Landing(LandingOutcome.BLOCKED, f"'{workspace.master}' could not be moved in {MAX_TRIES} tries", hint)
