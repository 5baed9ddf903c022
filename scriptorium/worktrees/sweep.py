"""Removing what a crash between a landing and its clean-up left."""

from __future__ import annotations

from contextlib import suppress

from scriptorium.git import stale_locks, worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import BRANCH_PREFIX, State, branch_of, is_of_ticket
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks
from scriptorium.worktrees import repair as mending
from scriptorium.worktrees import rescue
from scriptorium.worktrees.tickets import forget, holds_more, is_locked, remove


def sweep(workspace: Workspace, plan: Plan) -> None:
    """Remove what a crash between a landing and its clean-up left: worktrees of done tickets, their work in master."""
    for path in workspace.paths.ticket_worktree("x").parent.glob("*"):
        ticket = path.name
        if ticket not in plan.tickets(State.DONE) or locks.is_held(workspace.paths.ticket_lock(ticket)):
            continue
        mending.restore_gitfile(workspace.repository, path)  # a removal that was killed has taken that file first
        tip = workspace.repository.resolve(f"refs/heads/{branch_of(ticket)}")
        tree = workspace.working_tree(ticket)
        whole = tree.is_sound(branch_of(ticket)) and not is_locked(tree) and not holds_more(tree)
        if whole and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            rescue.spare_unseen(workspace, path, tip)
            remove(workspace, ticket, tip)


def sweep_branches(workspace: Workspace, plan: Plan) -> None:
    """Remove the branches of done tickets that lie in master and are checked out nowhere, which a crash left."""
    forget(workspace)
    common = workspace.repository.common_dir
    stale_locks.discard_all((common / "refs" / "heads").glob(f"{BRANCH_PREFIX}*.lock"))
    stale_locks.discard_all((common / rescue.PREFIX).glob("*.lock"))
    stale_locks.discard_all([common / "packed-refs.lock"])  # in the way of a person's, if of nobody else's
    for ref, tip in workspace.repository.refs(f"refs/heads/{BRANCH_PREFIX}*").items():
        branch = ref.removeprefix("refs/heads/")
        done = is_of_ticket(branch) and branch.removeprefix(BRANCH_PREFIX) in plan.ids[State.DONE]
        free = done and not worktree_list.holders(workspace.repository, branch)
        if free and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            with suppress(GitError):  # a lock on the packed refs holds nobody up
                workspace.repository.update_refs(RefUpdate(ref, "", tip))
