"""Removing what a crash between a landing and its clean-up left."""

from __future__ import annotations

from contextlib import suppress

from scriptorium.git import stale_locks, worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import BRANCH_PREFIX, State, branch_of, is_ticket_branch
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks
from scriptorium.worktrees import repair, rescue
from scriptorium.worktrees.tickets import has_other_changes, is_locked, prune_worktrees, remove


def sweep_worktrees(workspace: Workspace, plan: Plan) -> None:
    """Remove what a crash between a landing and its clean-up left: worktrees of done tickets, their work in master."""
    for path in workspace.paths.ticket_worktree("x").parent.glob("*"):
        ticket = path.name
        if ticket not in plan.tickets(State.DONE) or locks.is_held(workspace.paths.ticket_lock(ticket)):
            continue
        repair.restore_gitfile(workspace.repository, path)  # a removal that was killed has taken that file first
        tip = workspace.repository.resolve(f"refs/heads/{branch_of(ticket)}")
        tree = workspace.working_tree(ticket)
        whole = tree.is_on_branch(branch_of(ticket)) and not is_locked(tree) and not has_other_changes(tree)
        if whole and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            rescue.preserve_hidden_repos(workspace, path, tip)
            remove(workspace, ticket, tip)


def sweep_branches(workspace: Workspace, plan: Plan) -> None:
    """Remove the branches of done tickets that lie in master and are checked out nowhere, which a crash left."""
    prune_worktrees(workspace)
    common = workspace.repository.common_dir
    stale_locks.remove_all_stale((common / "refs" / "heads").glob(f"{BRANCH_PREFIX}*.lock"))
    stale_locks.remove_all_stale((common / rescue.PREFIX).glob("*.lock"))
    stale_locks.remove_all_stale([common / "packed-refs.lock"])  # in the way of a person's, if of nobody else's
    for ref, tip in workspace.repository.refs(f"refs/heads/{BRANCH_PREFIX}*").items():
        branch = ref.removeprefix("refs/heads/")
        done = is_ticket_branch(branch) and branch.removeprefix(BRANCH_PREFIX) in plan.ids[State.DONE]
        free = done and not worktree_list.worktrees_on(workspace.repository, branch)
        if free and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            with suppress(GitError):  # a lock on the packed refs holds nobody up
                workspace.repository.update_refs(RefUpdate(ref, "", tip))
