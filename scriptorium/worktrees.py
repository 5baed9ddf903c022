"""The worktrees of tickets: made on assignment, settled after each run, removed when landed."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from scriptorium import locks, rescue
from scriptorium.errors import ScriptoriumError, is_wanting
from scriptorium.git import GitError, RefUpdate
from scriptorium.plan import Plan
from scriptorium.ticket import BRANCH_PREFIX, State, branch_of, ticket_id
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)

SETUP_WAIT = 600.0
"""Seconds to wait for neighbours that make a worktree; a big repository takes 20 s for one."""


def is_sound(workspace: Workspace, path: Path, branch: str) -> bool:
    """Tell whether a directory is our worktree with its branch checked out.

    Read from git's own files (gitrepository-layout), because it is asked several times a ticket.
    """
    try:
        git_dir = workspace.repository.directory_of(path)
        head = (git_dir / "HEAD").read_text().strip()
        return not _is_half_made(git_dir) and head == f"ref: refs/heads/{branch}"
    except (GitError, OSError) as error:
        if isinstance(error, OSError) and is_wanting(error):
            raise
        return False


def _is_half_made(git_dir: Path) -> bool:
    """Tell whether `git worktree add` is still at it, or was killed: until its end it holds this lock."""
    lock = git_dir / "locked"
    return lock.exists() and lock.read_text().strip() == "initializing"


def discard_half_made(workspace: Workspace, path: Path) -> None:
    """Remove what a killed `git worktree add` left in a place; nobody can have worked in there."""
    with suppress(OSError, GitError):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
        elif _is_half_made(workspace.repository.directory_of(path)):
            shutil.rmtree(path)


def ensure(workspace: Workspace, ticket: str) -> Path:
    """Return a ticket's worktree with its branch checked out, made from master if there is none."""
    restore(workspace, ticket)
    return workspace.paths.ticket_worktree(ticket)


def restore(workspace: Workspace, ticket: str) -> str:
    """Make a ticket's worktree anew unless it is sound, and return where what it held is kept, or ''.

    A directory that is in the way is moved aside, never deleted; commits made with HEAD detached
    or on another branch are kept by a rescue ref.
    """
    path = workspace.paths.ticket_worktree(ticket)
    branch = branch_of(ticket)
    if is_sound(workspace, path, branch):
        return ""
    workspace.paths.ensure(path.parent)
    lock = workspace.paths.ensure(workspace.paths.lock("worktrees").parent) / "worktrees.lock"
    # git worktree add fails when several run at once
    with locks.hold(lock, "worktrees", wait=SETUP_WAIT):
        if is_sound(workspace, path, branch):
            return ""  # made by a neighbour while this waited; an agent may be at work in it by now
        try:
            return _make(workspace, path, ticket)
        except GitError as error:
            if error.system:
                raise  # a full disk is no matter of this ticket
            raise WorktreeError(ticket, error) from error


def _make(workspace: Workspace, path: Path, ticket: str) -> str:
    """Make a ticket's worktree, with the lock held, and return where it is kept what was in its place."""
    branch = branch_of(ticket)
    discard_half_made(workspace, path)
    kept = vacate(workspace, path, ticket, f"the worktree of ticket '{ticket}' had left its branch")
    known = workspace.repository.resolve(f"refs/heads/{branch}")
    start = "" if known else workspace.master_commit()
    workspace.repository.add_worktree(path, branch, start)
    return kept


def vacate(workspace: Workspace, path: Path, ticket: str, why: str) -> str:
    """Take away what is in a worktree's place, and return where it is kept: a rescue ref, or a directory beside."""
    if not path.exists() and not path.is_symlink():
        return ""
    try:
        _, head = workspace.repository.head_of(path)
        commit = workspace.repository.snapshot(path, head, f"Work found in the worktree of ticket {ticket}")
        kept = rescue.keep(workspace, commit, ticket, why)
        rescue.spare(workspace, path, commit)
        workspace.repository.remove_worktree(path)
    except (GitError, NotADirectoryError, FileNotFoundError) as error:
        if isinstance(error, GitError) and error.system:
            raise
        # not a worktree any more, so git cannot read it; a person can
        return str(rescue.set_aside(path))
    return kept


class WorktreeError(ScriptoriumError):
    """A ticket's worktree cannot be made; those of others may be."""

    def __init__(self, ticket: str, error: GitError) -> None:
        super().__init__(f"ticket '{ticket}' gets no worktree: {error.message}", error.hint)
        self.ticket = ticket


class Unresolved(ScriptoriumError):
    """A worktree holds a merge that nobody has finished."""


def settle(workspace: Workspace, ticket: str, message: str) -> str:
    """Commit whatever a run left uncommitted to the ticket's branch and return the branch's tip.

    Raises GitError when the worktree is broken, or its HEAD is not on the ticket's branch, and
    `Unresolved` while a merge in it has conflicts.
    """
    path = workspace.paths.ticket_worktree(ticket)
    branch = branch_of(ticket)
    if not is_sound(workspace, path, branch):
        raise GitError(("status",), 1, f"error: the worktree '{path}' is not on branch '{branch}'")
    # a merge that was resolved to our side changes no file, and is to be concluded all the same
    if workspace.repository.changes(path) or (workspace.repository.directory_of(path) / "MERGE_HEAD").exists():
        marked = [name for name in workspace.repository.unmerged(path) if _has_markers(path / name)]
        if marked:
            raise Unresolved(f"'{marked[0]}' still holds conflict markers", "resolve it, then hand in again")
        workspace.repository.commit_all(path, message)
    return workspace.repository.resolve(f"refs/heads/{branch}")


def begin_merge(workspace: Workspace, ticket: str) -> list[str]:
    """Merge master into a ticket's branch and return the conflicting paths, left in the worktree to be resolved."""
    path = workspace.paths.ticket_worktree(ticket)
    message = f"Merge branch '{workspace.master}' into {branch_of(ticket)}"
    return workspace.repository.merge(path, workspace.master_commit(), message, undo=False)


def _has_markers(file: Path) -> bool:
    if file.is_symlink() or not file.is_file():
        return False  # removed, which resolves it, or nothing that could hold any
    lines = file.read_bytes().splitlines()
    return any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in lines)


def clear(workspace: Workspace, ticket: str) -> None:
    """Take a ticket's worktree back to its branch.

    What it held beyond that was not handed in: a gate that was killed left it, or a person. It is
    kept by a rescue ref.
    """
    path = workspace.paths.ticket_worktree(ticket)
    unlock(workspace, path, branch_of(ticket))
    if workspace.repository.changes(path):
        put_aside(workspace, ticket, f"the worktree of ticket '{ticket}' held changes that were not handed in")


def unlock(workspace: Workspace, path: Path, branch: str = "") -> None:
    """Remove the locks that a killed git left in a worktree, and on its branch.

    What the worktree is for must be locked and its leftovers ended, so that nobody holds them.
    """
    left = [workspace.repository.common_dir / "refs" / "heads" / f"{branch}.lock"] if branch else []
    with suppress(GitError):  # a worktree that is broken is found so by who works in it
        left += workspace.repository.directory_of(path).glob("*.lock")
    for lock in left:
        lock.unlink(missing_ok=True)


def put_aside(workspace: Workspace, ticket: str, why: str, commit: str = "") -> str:
    """Take a ticket's worktree back to its branch, or to a commit; the rest is kept by the rescue ref returned."""
    path = workspace.paths.ticket_worktree(ticket)
    _, head = workspace.repository.head_of(path)
    held = workspace.repository.snapshot(path, head, why)
    kept = rescue.keep(workspace, held, ticket, why)
    rescue.spare(workspace, path, held, commit or head)
    workspace.repository.reset(path, commit or head)
    return kept


def sweep(workspace: Workspace, plan: Plan) -> None:
    """Remove what a crash between a landing and its clean-up left: worktrees of done tickets, their work in master."""
    for path in workspace.paths.ticket_worktree("x").parent.glob("*"):
        ticket = path.name
        if ticket not in plan.tickets(State.DONE) or locks.is_held(workspace.paths.ticket_lock(ticket)):
            continue
        if not (path / ".git").exists():
            workspace.repository.repair_worktrees()  # a removal that was killed has taken that file first
        tip = workspace.repository.resolve(f"refs/heads/{branch_of(ticket)}")
        sound = is_sound(workspace, path, branch_of(ticket)) and not _holds_more(workspace, path)
        if sound and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            remove(workspace, ticket, tip)


def _holds_more(workspace: Workspace, path: Path) -> bool:
    """Tell whether a worktree has anything that its branch has not; what is missing was removed from it."""
    return any(os.path.lexists(path / name) for name in workspace.repository.changes(path))


def sweep_branches(workspace: Workspace, plan: Plan) -> None:
    """Remove the branches of done tickets that lie in master and are checked out nowhere, which a crash left."""
    if workspace.repository.has_gone_worktrees(workspace.paths.home):
        workspace.repository.prune_worktrees()
    for ref, tip in workspace.repository.refs(f"refs/heads/{BRANCH_PREFIX}*").items():
        branch = ref.removeprefix("refs/heads/")
        done = ticket_id(branch.removeprefix(BRANCH_PREFIX)) in plan.ids[State.DONE]
        free = done and not workspace.repository.checkouts(branch)
        if free and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            workspace.repository.update_refs(RefUpdate(ref, "", tip))


def remove(workspace: Workspace, ticket: str, landed: str) -> None:
    """Remove the worktree and the branch of a ticket whose tip ``landed`` is in master."""
    path = workspace.paths.ticket_worktree(ticket)
    if path.exists():
        try:
            workspace.repository.remove_worktree(path)
        except GitError as error:
            # files of the gate's that we may not delete, as a container leaves them; the work is in master
            left = rescue.set_aside(path, "left")
            workspace.repository.prune_worktrees()
            log.warning("%s; what is left of the worktree of ticket '%s' is in '%s'", error.message, ticket, left)
    branch = f"refs/heads/{branch_of(ticket)}"
    # one that a person looks at in a checkout of theirs stays, or they would be on a branch without commits
    if workspace.repository.resolve(branch) and not workspace.repository.checkouts(branch_of(ticket)):
        # only if it is still that commit: whatever came on top is not in master
        workspace.repository.update_refs(RefUpdate(branch, "", landed))
