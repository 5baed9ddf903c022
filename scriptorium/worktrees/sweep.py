"""Removing what a crash between a landing and its clean-up has left."""

from __future__ import annotations

from contextlib import suppress

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git import stale_locks, worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import BRANCH_PREFIX, State, is_ticket_branch
from scriptorium.project.held import MergeLock
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees import repair, rescue
from scriptorium.worktrees.tickets import TicketWorktree, is_locked, prune_worktrees


def sweep_worktrees(workspace: Workspace, plan: Plan, _lock: MergeLock) -> None:
    """Remove worktrees of done tickets whose work is in master."""
    done = plan.tickets(State.DONE)
    for path in workspace.paths.ticket_worktree("x").parent.glob("*"):
        if path.name not in done or workspace.is_ticket_held(path.name):
            continue
        try:
            with workspace.hold_ticket(path.name) as lock:
                _sweep(TicketWorktree(workspace, lock))
        except ScriptoriumError as error:
            if error.code is not ExitCode.LOCKED:  # taken since it was looked at
                raise


def _sweep(worktree: TicketWorktree) -> None:
    workspace = worktree.workspace
    repair.restore_gitfile(workspace.repository, worktree.path)  # an interrupted removal deletes that file first
    tip, tree = worktree.tip, worktree.tree
    whole = tree.is_on_branch(worktree.branch) and not is_locked(tree) and not worktree.has_other_changes()
    if whole and workspace.repository.is_ancestor(tip, workspace.master_commit()):
        rescue.preserve_hidden_repos(workspace, worktree.path, tip)
        worktree.remove(tip)


def sweep_branches(workspace: Workspace, plan: Plan, _lock: MergeLock) -> None:
    """Remove branches of done tickets that are part of master and checked out nowhere, and stale locks of refs."""
    prune_worktrees(workspace)
    common = workspace.repository.common_dir
    stale_locks.remove_all_stale((common / "refs" / "heads").glob(f"{BRANCH_PREFIX}*.lock"))
    stale_locks.remove_all_stale((common / rescue.PREFIX).glob("*.lock"))
    stale_locks.remove_all_stale([common / "packed-refs.lock"])  # it blocks the user's git, if nobody else's
    for ref, tip in workspace.repository.refs(f"refs/heads/{BRANCH_PREFIX}*").items():
        branch = ref.removeprefix("refs/heads/")
        done = is_ticket_branch(branch) and branch.removeprefix(BRANCH_PREFIX) in plan.ids[State.DONE]
        unused = done and not worktree_list.worktrees_on(workspace.repository, branch)
        if unused and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            with suppress(GitError):  # a lock on the packed refs blocks nobody else
                workspace.repository.update_refs(RefUpdate(ref, "", tip))
