"""The worktrees of tickets: made on assignment, settled after each run, removed when landed."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.git import worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate
from scriptorium.git.worktree import Worktree
from scriptorium.plan.ticket import branch_of, ticket_id
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks
from scriptorium.worktrees import prune, repair, rescue

log = logging.getLogger(__name__)

MAX_SETUP_WAIT = 600.0
"""Seconds to wait for neighbours that make a worktree; a big repository takes 20 s for one."""


def ensure(workspace: Workspace, ticket: str) -> Path:
    """Return a ticket's worktree with its branch checked out, made from master if there is none."""
    restore(workspace, ticket)
    return workspace.paths.ticket_worktree(ticket)


def restore(workspace: Workspace, ticket: str) -> str:
    """Make a ticket's worktree anew unless it is sound, and return where what it held is kept, or ''.

    A directory that is in the way is moved aside, never deleted; commits made with HEAD detached
    or on another branch are kept by a rescue ref.
    """
    tree, branch = workspace.working_tree(ticket), branch_of(ticket)
    if tree.is_on_branch(branch):
        repair.recreate_branch(workspace, ticket)
        return ""
    workspace.paths.ensure(tree.path.parent)
    lock = workspace.paths.ensure(workspace.paths.lock("worktrees").parent) / "worktrees.lock"
    # git worktree add fails when several run at once
    with locks.hold(lock, "worktrees", wait=MAX_SETUP_WAIT):
        if tree.is_on_branch(branch):
            return ""  # made by a neighbour while this waited; an agent may be at work in it by now
        try:
            return _make(workspace, tree.path, ticket)
        except GitError as error:
            if error.system:
                raise  # a full disk is no matter of this ticket
            raise WorktreeError(ticket, error.message, error.hint) from error


def _make(workspace: Workspace, path: Path, ticket: str) -> str:
    """Make a ticket's worktree, with the lock held, and return where it is kept what was in its place."""
    branch = branch_of(ticket)
    repair.repair_ref(workspace, f"refs/heads/{branch}")
    repair.remove_half_made(workspace, path)
    kept = rescue.rescue_and_remove(workspace, path, ticket, f"the worktree of ticket '{ticket}' had left its branch")
    known = workspace.repository.resolve(f"refs/heads/{branch}")
    start = "" if known else workspace.master_commit()
    for checkout in worktree_list.present_worktrees_on(workspace.repository, branch):
        _remove_stale_worktree(workspace, checkout, ticket)
    holders = worktree_list.worktrees_on(workspace.repository, branch)
    elsewhere = [holder.path for holder in holders if holder.path != path]
    if elsewhere:  # our commits would move it under them
        raise WorktreeError(ticket, f"'{branch}' is checked out in '{elsewhere[0]}'", "check out another branch there")
    if rebase := worktree_list.rebase_in_progress(
        workspace.repository, branch
    ):  # its end would move it under the agent
        raise WorktreeError(ticket, f"'{branch}' is being rebased", f"finish the rebase in '{rebase}'")
    rescue.keep_detached_heads(workspace)
    worktree_list.add(workspace.repository, path, branch, start)
    return kept


def _remove_stale_worktree(workspace: Workspace, path: Path, ticket: str) -> None:
    """Take a ticket's worktree away that is left from before something was moved or renamed.

    That is the repository, SCRIPTORIUM_ROOT, or the ticket, which keeps its id.
    """
    lock = path.parent.parent.parent / "locks" / "tickets" / f"{path.name}.lock"
    ours = path.parts[-3:-1] == ("worktrees", "tickets") and ticket_id(path.name) == ticket_id(ticket)
    if ours and path.name != ticket:
        ours = not workspace.plan.snapshot().find(path.name)  # else there are two with one id
    if not ours or not lock.exists() or locks.is_held(lock):
        return
    with locks.hold(lock, path.name):
        tree = Worktree(workspace.repository, path)
        tree.repair_gitfile()
        with suppress(GitError):
            tree.clear_hiding_flags()
            rescue.preserve_hidden_repos(workspace, path, tree.head()[1])
            if not worktree_list.remove_if_clean(workspace.repository, path):
                rescue.rescue_and_remove(workspace, path, ticket, f"'{path}' is left from before a move")


def prune_worktrees(workspace: Workspace) -> None:
    """Forget our worktrees whose directories are gone, and keep the commits that only they know."""
    rescue.keep_detached_heads(workspace)
    prune.prune(workspace.repository, workspace.paths.home)


class WorktreeError(ScriptoriumError):
    """A ticket's worktree cannot be made; those of others may be."""

    def __init__(self, ticket: str, why: str, hint: str) -> None:
        super().__init__(f"ticket '{ticket}' gets no worktree: {why}", hint)
        self.ticket = ticket


class UnresolvedConflict(ScriptoriumError):
    """A worktree holds a merge that nobody has finished."""


def commit_leftovers(workspace: Workspace, ticket: str, message: str, *, resolved: bool = False) -> str:
    """Commit whatever a run left uncommitted to the ticket's branch and return the branch's tip.

    An agent that hands in says by it that its conflicts are ``resolved``, where no markers tell otherwise. Raises
    GitError when the worktree is broken, or its HEAD is not on the ticket's branch, and `Unresolved` while a merge
    in it has conflicts.
    """
    tree, branch = workspace.working_tree(ticket), branch_of(ticket)
    if not tree.is_on_branch(branch):
        raise GitError(("status",), 1, f"error: the worktree '{tree.path}' is not on branch '{branch}'")
    repair.recreate_branch(workspace, ticket)  # or the commit would begin a history of its own
    # a merge that was resolved to our side changes no file, and is to be concluded all the same
    rescue.keep_autostash(workspace, tree.directory(), ticket)
    tree.clear_hiding_flags()
    changes = tree.changes()
    if changes or tree.is_merging():
        unmerged = [change.path for change in changes if change.is_unmerged]
        left = [name for name in unmerged if not resolved or _has_markers(tree.path / name)]
        if left:
            raise UnresolvedConflict(f"'{left[0]}' still holds conflict markers", "resolve it, then hand in again")
        tree.commit(changes, message)
    return workspace.repository.resolve(f"refs/heads/{branch}")


def begin_merge(workspace: Workspace, ticket: str) -> list[str]:
    """Merge master into a ticket's branch and return the conflicting paths, left in the worktree to be resolved.

    The worktree must be settled. Until git is done a mark says so: half of a merge would pass for the agent's work.
    """
    tree = workspace.working_tree(ticket)
    mark = tree.directory() / repair.MERGING
    mark.touch()
    message = f"Merge branch '{workspace.master}' into {branch_of(ticket)}"
    conflicts = tree.merge(workspace.master_commit(), message, undo=False)
    mark.unlink()
    return conflicts


def _has_markers(file: Path) -> bool:
    if file.is_symlink() or not file.is_file():
        return False  # removed, which resolves it, or nothing that could hold any
    # seven of them, or as many as the attribute conflict-marker-size says
    return bool(re.search(rb"^(<{7,}|>{7,}) ", file.read_bytes(), re.MULTILINE))


def discard_unsubmitted(workspace: Workspace, ticket: str) -> None:
    """Take a ticket's worktree back to its branch.

    What it held beyond that was not handed in: a gate that was killed left it, or a person. It is
    kept by a rescue ref.
    """
    tree = workspace.working_tree(ticket)
    repair.repair_worktree(workspace, ticket)
    rescue.preserve_hidden_repos(workspace, tree.path, workspace.repository.resolve(f"refs/heads/{branch_of(ticket)}"))
    tree.clear_hiding_flags()
    # a merge that was killed may have changed no file, and git begins none beside it
    if tree.changes() or tree.is_merging():
        rescue.rescue_and_reset(
            workspace, ticket, f"the worktree of ticket '{ticket}' held changes that were not handed in"
        )


def reset_branch(workspace: Workspace, ticket: str, why: str, commit: str) -> None:
    """Take a ticket's branch back to a commit, its worktree as well; the rest is kept by a rescue ref."""
    branch = branch_of(ticket)
    if workspace.working_tree(ticket).is_on_branch(branch):
        repair.repair_worktree(workspace, ticket)
        rescue.rescue_and_reset(workspace, ticket, why, commit)
        return
    ref = f"refs/heads/{branch}"
    tip = workspace.repository.resolve(ref)
    rescue.keep_commit(workspace, tip, ticket, why)
    workspace.repository.update_refs(RefUpdate(ref, commit, tip))


def hard_reset(workspace: Workspace, ticket: str, commit: str) -> None:
    """Take a ticket's worktree and branch to a commit; what is there beyond that is nobody's work.

    Where files may not be deleted, as a container leaves them, the worktree is set aside and made anew.
    """
    tree, ref = workspace.working_tree(ticket), f"refs/heads/{branch_of(ticket)}"
    try:
        tree.reset(commit)
    except GitError as error:
        if error.system:
            raise
        left = rescue.rename_aside(tree.path, "left")
        log.warning("%s; what the worktree of ticket '%s' held is in '%s'", error.message, ticket, left)
        prune_worktrees(workspace)
        tip = workspace.repository.resolve(ref)
        if tip != commit:
            workspace.repository.update_refs(RefUpdate(ref, commit, tip))
        ensure(workspace, ticket)


def has_other_changes(tree: Worktree) -> bool:
    """Tell whether a worktree has anything that its branch has not; what is missing was removed from it."""
    tree.clear_hiding_flags()
    return any(change.code[0] not in " D?" or os.path.lexists(tree.path / change.path) for change in tree.changes())


def is_locked(tree: Worktree) -> bool:
    """Tell whether a person has locked a worktree, so that it stays; git locks one that it is making."""
    try:
        git_dir = tree.directory()
        return worktree_list.lock_reason(git_dir) is not None and not worktree_list.is_half_made(git_dir)
    except GitError:
        return False


def _remove_directory(workspace: Workspace, ticket: str, path: Path) -> None:
    """Remove the worktree of a ticket that has landed, and keep what has come into it since it was tested."""
    tree = workspace.working_tree(ticket)
    tree.clear_hiding_flags()
    if not tree.is_on_branch(branch_of(ticket)):
        why = f"the worktree of ticket '{ticket}' had left its branch"
        if tree.changes():
            rescue.rescue_and_remove(workspace, path, ticket, why)
            return
        rescue.keep_detached_head(workspace, tree.directory(), ticket, why)  # git does not ask whether a branch has it
    if not worktree_list.remove_if_clean(workspace.repository, path):
        if has_other_changes(tree):
            discard_unsubmitted(workspace, ticket)
        worktree_list.remove(workspace.repository, path)


def remove(workspace: Workspace, ticket: str, landed: str) -> None:
    """Remove the worktree and the branch of a ticket whose tip ``landed`` is in master."""
    path = workspace.paths.ticket_worktree(ticket)
    if is_locked(workspace.working_tree(ticket)):
        log.warning("the worktree of ticket '%s' is locked, and stays", ticket)
        return
    if path.exists():
        try:
            _remove_directory(workspace, ticket, path)
        except GitError as error:
            # files of the gate's that we may not delete, as a container leaves them; the work is in master
            left = rescue.rename_aside(path, "left")
            prune_worktrees(workspace)
            log.warning("%s; what is left of the worktree of ticket '%s' is in '%s'", error.message, ticket, left)
    branch = f"refs/heads/{branch_of(ticket)}"
    # one that a person looks at in a checkout of theirs stays, or they would be on a branch without commits
    if workspace.repository.resolve(branch) and not worktree_list.worktrees_on(workspace.repository, branch_of(ticket)):
        try:
            # only if it is still that commit: whatever came on top is not in master
            workspace.repository.update_refs(RefUpdate(branch, "", landed))
        except GitError as error:
            log.warning("the branch '%s' stays, as %s", branch_of(ticket), error.message)
