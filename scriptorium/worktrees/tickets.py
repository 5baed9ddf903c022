"""The worktree of a ticket: created on assignment, committed after each run, removed after the landing."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.git import worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate
from scriptorium.git.worktree import Worktree
from scriptorium.plan.ticket import branch_of, ticket_id
from scriptorium.project.held import TicketLock
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks
from scriptorium.worktrees import prune, repair, rescue

log = logging.getLogger(__name__)

MAX_SETUP_WAIT = 600.0
"""Seconds to wait for other processes that create a worktree; a large repository takes 20 s for one."""

MERGE_MARK = "scriptorium-merging"
"""A file in the worktree's git directory while a merge is begun for the agent."""


class WorktreeError(ScriptoriumError):
    """The worktree of one ticket cannot be created; other tickets are not affected."""

    def __init__(self, ticket: str, why: str, hint: str) -> None:
        super().__init__(f"ticket '{ticket}': cannot create its worktree: {why}", hint)
        self.ticket = ticket


class UnresolvedConflict(ScriptoriumError):
    """A merge in the worktree still has conflicts."""


@dataclass(frozen=True)
class TicketWorktree:
    """The worktree and the branch of a ticket; its lock must be held."""

    workspace: Workspace
    lock: TicketLock

    @property
    def ticket(self) -> str:
        return self.lock.ticket

    @property
    def tree(self) -> Worktree:
        return self.workspace.working_tree(self.ticket)

    @property
    def path(self) -> Path:
        return self.workspace.paths.ticket_worktree(self.ticket)

    @property
    def branch(self) -> str:
        return branch_of(self.ticket)

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def tip(self) -> str:
        """The commit of the branch now, or '' without a branch."""
        return self.workspace.repository.resolve(self.ref)

    # -- creating and repairing ---------------------------------------------------------------------

    def ensure(self) -> Path:
        """Create the worktree from master unless it is there with its branch, and return its path."""
        self.restore()
        return self.path

    def restore(self) -> str:
        """Create the worktree anew unless it is sound; return where its former content is kept, or ''.

        A directory in its place is renamed, never deleted. Commits on a detached HEAD or on another branch are
        kept by a rescue ref. Raises `WorktreeError` if the branch is in use elsewhere.
        """
        if self.tree.is_on_branch(self.branch):
            self.recreate_branch()
            return ""
        self.workspace.paths.ensure(self.path.parent)
        # `git worktree add` fails when several run at once
        with self.workspace.hold("worktrees", wait=MAX_SETUP_WAIT):
            if self.tree.is_on_branch(self.branch):
                return ""
            try:
                return self._create()
            except GitError as error:
                if error.system:
                    raise  # a full disk is not the ticket's fault
                raise WorktreeError(self.ticket, error.message, error.hint) from error

    def _create(self) -> str:
        """Create the worktree and return where the former content of its place is kept."""
        workspace, repository = self.workspace, self.workspace.repository
        repair.repair_ref(workspace, self.ref)
        repair.remove_half_made(workspace, self.path)
        why = f"the worktree of ticket '{self.ticket}' had left its branch"
        kept = rescue.rescue_and_remove(workspace, self.path, self.ticket, why)
        start = "" if self.tip else workspace.master_commit()
        for checkout in worktree_list.present_worktrees_on(repository, self.branch):
            self._remove_stale(checkout)
        others = [other.path for other in worktree_list.worktrees_on(repository, self.branch)]
        if elsewhere := [path for path in others if path != self.path]:  # our commits would move it under them
            hint = "check out another branch there"
            raise WorktreeError(self.ticket, f"'{self.branch}' is checked out in '{elsewhere[0]}'", hint)
        if rebase := worktree_list.rebase_in_progress(repository, self.branch):
            raise WorktreeError(self.ticket, f"'{self.branch}' is being rebased", f"finish the rebase in '{rebase}'")
        rescue.keep_detached_heads(workspace)
        worktree_list.add(repository, self.path, self.branch, start)
        return kept

    def _remove_stale(self, path: Path) -> None:
        """Remove a worktree of this ticket at its former place: the repository, the state root or the ticket moved."""
        lock = path.parent.parent.parent / "locks" / "tickets" / f"{path.name}.lock"
        ours = path.parts[-3:-1] == ("worktrees", "tickets") and ticket_id(path.name) == ticket_id(self.ticket)
        if ours and path.name != self.ticket:
            ours = not self.workspace.plan.snapshot().find(path.name)  # otherwise two tickets share the id
        if not ours or not lock.exists() or locks.is_held(lock):
            return
        with locks.hold(lock, path.name):
            tree = Worktree(self.workspace.repository, path)
            tree.repair_gitfile()
            with suppress(GitError):
                tree.clear_hiding_flags()
                rescue.preserve_hidden_repos(self.workspace, path, tree.head()[1])
                if not worktree_list.remove_if_clean(self.workspace.repository, path):
                    why = f"'{path}' is the former worktree of ticket '{self.ticket}'"
                    rescue.rescue_and_remove(self.workspace, path, self.ticket, why)

    def repair(self) -> None:
        """Make the worktree usable after an interrupted git: no stale lock, no half a merge, a branch and an index.

        Leftover processes must have been terminated. A worktree that has left its branch stays as it is.
        """
        repair.remove_stale_locks(self.workspace, self.path, self.branch)
        if not self.tree.is_on_branch(self.branch):
            return
        self.recreate_branch()
        git_dir = self.tree.directory()
        rescue.keep_autostash(self.workspace, git_dir, self.ticket)
        if repair.rebuild_broken_index(self.tree):
            log.warning("ticket '%s': rebuilt the broken index of its worktree", self.ticket)
        mark = git_dir / MERGE_MARK
        if mark.exists():
            self.rescue_and_reset(f"merging '{self.workspace.master}' into ticket '{self.ticket}' was interrupted")
            mark.unlink()

    def recreate_branch(self) -> None:
        """Create the branch again if somebody deleted it, at the newest commit in the worktree's reflog."""
        if not self.tip and not repair.repair_ref(self.workspace, self.ref):
            tip = repair.recreate_ref(self.workspace, self.ref, self.tree.directory() / "logs" / "HEAD")
            log.warning("ticket '%s': '%s' was gone; created it again at %s", self.ticket, self.branch, tip[:12])

    # -- committing ---------------------------------------------------------------------------------

    def commit_leftovers(self, message: str, *, resolved: bool = False) -> str:
        """Commit all uncommitted changes to the branch and return its tip.

        ``resolved`` means that the agent has resolved all conflicts, so only conflict markers count as unresolved.
        Raises GitError if the worktree is broken or not on its branch, `UnresolvedConflict` if a merge has conflicts.
        """
        tree = self.tree
        if not tree.is_on_branch(self.branch):
            raise GitError(("status",), 1, f"error: the worktree '{tree.path}' is not on branch '{self.branch}'")
        self.recreate_branch()  # or the commit would have no parent
        rescue.keep_autostash(self.workspace, tree.directory(), self.ticket)
        tree.clear_hiding_flags()
        changes = tree.changes()
        # a merge that was resolved to one side changes no file, but must still be concluded
        if changes or tree.is_merging():
            unmerged = [change.path for change in changes if change.is_unmerged]
            left = [name for name in unmerged if not resolved or _has_markers(tree.path / name)]
            if left:
                hint = "resolve the conflict, then submit again"
                raise UnresolvedConflict(f"'{left[0]}' still has conflict markers", hint)
            tree.commit(changes, message)
        return self.tip

    def begin_merge(self) -> list[str]:
        """Merge master into the branch and return the conflicting paths, left in the worktree to be resolved.

        All leftovers must be committed. A mark stands until git is done, so that half a merge is not taken for work.
        """
        mark = self.tree.directory() / MERGE_MARK
        mark.touch()
        message = f"Merge branch '{self.workspace.master}' into {self.branch}"
        conflicts = self.tree.merge(self.workspace.master_commit(), message, undo=False)
        mark.unlink()
        return conflicts

    # -- resetting ----------------------------------------------------------------------------------

    def rescue_and_reset(self, why: str, commit: str = "") -> str:
        """Reset worktree and branch to a commit, by default HEAD; return the rescue ref that keeps the rest."""
        return rescue.rescue_and_reset(self.workspace, self.tree, self.ticket, why, commit)

    def discard_unsubmitted(self) -> None:
        """Reset the worktree to its branch; a rescue ref keeps uncommitted changes, which nobody submitted."""
        self.repair()
        rescue.preserve_hidden_repos(self.workspace, self.path, self.tip)
        self.tree.clear_hiding_flags()
        # an interrupted merge may have changed no file, but git starts no other beside it
        if self.tree.changes() or self.tree.is_merging():
            self.rescue_and_reset(f"the worktree of ticket '{self.ticket}' held changes that were not submitted")

    def reset_to(self, commit: str, why: str) -> None:
        """Reset branch and worktree to a commit; a rescue ref keeps later commits and changes."""
        if self.tree.is_on_branch(self.branch):
            self.repair()
            self.rescue_and_reset(why, commit)
            return
        tip = self.tip
        rescue.keep_commit(self.workspace, tip, self.ticket, why)
        self.workspace.repository.update_refs(RefUpdate(self.ref, commit, tip))

    def hard_reset(self, commit: str) -> None:
        """Reset worktree and branch to a commit and discard the rest, which is nobody's work.

        If files cannot be deleted, such as those of a container, the worktree is renamed and created anew.
        """
        try:
            self.tree.reset(commit)
        except GitError as error:
            if error.system:
                raise
            left = rescue.rename_aside(self.path, "left")
            log.warning("%s; the former worktree of ticket '%s' is in '%s'", error.message, self.ticket, left)
            prune_worktrees(self.workspace)
            if self.tip != commit:
                self.workspace.repository.update_refs(RefUpdate(self.ref, commit, self.tip))
            self.ensure()

    # -- removing -----------------------------------------------------------------------------------

    def has_other_changes(self) -> bool:
        """Return whether the worktree has changes beside deleted files."""
        self.tree.clear_hiding_flags()
        changes = self.tree.changes()
        return any(change.code[0] not in " D?" or os.path.lexists(self.path / change.path) for change in changes)

    def remove(self, landed: str) -> None:
        """Remove worktree and branch after ``landed``, the tip of the branch, has become part of master."""
        if is_locked(self.tree):
            log.warning("the worktree of ticket '%s' stays: it is locked", self.ticket)
            return
        if self.path.exists():
            try:
                self._remove_directory()
            except GitError as error:
                # files that we may not delete, such as those of a container; the work is in master
                left = rescue.rename_aside(self.path, "left")
                prune_worktrees(self.workspace)
                text = "%s; the rest of the worktree of ticket '%s' is in '%s'"
                log.warning(text, error.message, self.ticket, left)
        # a branch that the user has checked out stays, or their checkout would have no commit
        if self.tip and not worktree_list.worktrees_on(self.workspace.repository, self.branch):
            try:
                # only if it is still that commit: later commits are not in master
                self.workspace.repository.update_refs(RefUpdate(self.ref, "", landed))
            except GitError as error:
                log.warning("the branch '%s' stays: %s", self.branch, error.message)

    def _remove_directory(self) -> None:
        """Remove the directory, and keep changes that came after the test by a rescue ref."""
        tree, repository = self.tree, self.workspace.repository
        tree.clear_hiding_flags()
        if not tree.is_on_branch(self.branch):
            why = f"the worktree of ticket '{self.ticket}' had left its branch"
            if tree.changes():
                rescue.rescue_and_remove(self.workspace, self.path, self.ticket, why)
                return
            # git removes a worktree without asking whether any ref has its HEAD
            rescue.keep_detached_head(self.workspace, tree.directory(), self.ticket, why)
        if not worktree_list.remove_if_clean(repository, self.path):
            if self.has_other_changes():
                self.discard_unsubmitted()
            worktree_list.remove(repository, self.path)


def prune_worktrees(workspace: Workspace) -> None:
    """Prune registrations of our worktrees whose directories are gone; rescue refs keep their detached commits."""
    rescue.keep_detached_heads(workspace)
    prune.prune(workspace.repository, workspace.paths.home)


def is_locked(tree: Worktree) -> bool:
    """Return whether the user has locked a worktree; git locks a worktree while it creates it, which does not count."""
    try:
        git_dir = tree.directory()
        return worktree_list.lock_reason(git_dir) is not None and not worktree_list.is_half_made(git_dir)
    except GitError:
        return False


def _has_markers(file: Path) -> bool:
    """Return whether a file has conflict markers: seven characters, or more by the attribute conflict-marker-size."""
    if file.is_symlink() or not file.is_file():
        return False
    return bool(re.search(rb"^(<{7,}|>{7,}) ", file.read_bytes(), re.MULTILINE))
