"""Which worktrees, branches and rescue refs are not needed any more, and removing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.git import worktree_list
from scriptorium.git.repository import RefUpdate
from scriptorium.git.worktree import Worktree
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import BRANCH_PREFIX, State, branch_of, is_ticket_branch, ticket_id
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks
from scriptorium.worktrees import rescue
from scriptorium.worktrees import tickets as worktrees


class Action(StrEnum):
    REMOVE = "remove"
    RESCUE = "rescue"  # keep what it holds by a rescue ref, then remove it
    KEEP = "keep"


class LeftoverKind(StrEnum):
    WORKTREE = "worktree"
    BRANCH = "branch"
    KEPT = "rescue"
    DIRECTORY = "directory"


@dataclass(frozen=True)
class Leftover:
    """Something that lies about, what is to become of it, and why."""

    action: Action
    kind: LeftoverKind
    name: str
    why: str


def decide(kind: LeftoverKind, name: str, state: State | None, *, busy: bool, landed: bool) -> Leftover:
    """Return what is to become of the worktree or branch of a ticket; its state is None when it is in no plan. Pure."""
    if busy:
        return Leftover(Action.KEEP, kind, name, "somebody is at work on it")
    if state not in (None, State.DONE):
        return Leftover(Action.KEEP, kind, name, f"its ticket is '{state}'")
    ticket = "its ticket is 'done'" if state else "its ticket is in the plan no more"
    if landed:
        return Leftover(Action.REMOVE, kind, name, f"{ticket}, and all it holds is in master")
    return Leftover(Action.RESCUE, kind, name, f"{ticket}, and it holds what is not in master")


def find_leftovers(workspace: Workspace, plan: Plan) -> Iterator[Leftover]:
    """Find everything of ours that lies about in a repository."""
    for path in sorted(workspace.paths.ticket_worktree("x").parent.glob("*")):
        if not rescue.RENAMED_ASIDE.search(path.name):
            yield _ticket_leftover(workspace, plan, LeftoverKind.WORKTREE, path.name)
    for ref in workspace.repository.refs(f"refs/heads/{BRANCH_PREFIX}*"):
        branch = ref.removeprefix("refs/heads/")
        if is_ticket_branch(branch):
            yield _ticket_leftover(workspace, plan, LeftoverKind.BRANCH, branch)
    for kept in rescue.list_kept(workspace):
        if kept.path:
            why = f"look into it, then 'scriptorium rescue drop {kept.name}'"
            yield Leftover(Action.KEEP, LeftoverKind.DIRECTORY, kept.name, why)
        elif _is_landed(workspace, kept.commit):
            yield Leftover(Action.REMOVE, LeftoverKind.KEPT, kept.name, "all it holds is in master")
        else:
            yield Leftover(Action.KEEP, LeftoverKind.KEPT, kept.name, "it holds what is not in master")


def _ticket_leftover(
    workspace: Workspace, plan: Plan, kind: LeftoverKind, name: str, ours: Path | None = None
) -> Leftover:
    """Find out what is to become of the worktree or branch of a ticket; ``ours`` is a lock that we hold."""
    id = ticket_id(name.removeprefix(BRANCH_PREFIX))
    found = plan.find(id or name)
    known = [lock for lock in workspace.paths.ticket_lock("x").parent.glob("*.lock") if lock != ours]
    busy = any(locks.is_held(lock) for lock in known if ticket_id(lock.stem) == id)
    branch = name if kind is LeftoverKind.BRANCH else branch_of(name)
    elsewhere = [
        at for _, at, _ in worktree_list.worktrees_on(workspace.repository, branch) if _is_kept_by_user(workspace, at)
    ]
    if kind is LeftoverKind.BRANCH and elsewhere:
        return Leftover(Action.KEEP, kind, name, f"it is checked out in '{elsewhere[0]}'")
    if kind is LeftoverKind.WORKTREE and worktrees.is_locked(workspace.working_tree(name)):
        return Leftover(Action.KEEP, kind, name, "it is locked (git worktree lock)")
    tip = workspace.repository.resolve(f"refs/heads/{branch}")
    tree = workspace.working_tree(name)
    whole = kind is LeftoverKind.BRANCH or (
        tree.is_on_branch(branch) and not tree.may_hide_edits() and not tree.changes()
    )
    return decide(kind, name, found[1] if found else None, busy=busy, landed=whole and _is_landed(workspace, tip))


def _is_kept_by_user(workspace: Workspace, path: Path) -> bool:
    """Tell whether a worktree is a person's, or one of ours that they have locked."""
    ours = path.parent.resolve() == workspace.paths.ticket_worktree("x").parent.resolve()
    return not ours or worktrees.is_locked(Worktree(workspace.repository, path))


def _is_landed(workspace: Workspace, commit: str) -> bool:
    return bool(commit) and workspace.repository.is_ancestor(commit, workspace.master_commit())


def remove_leftovers(workspace: Workspace) -> list[Leftover]:
    """Remove what is not needed any more, and return what was found."""
    return [
        _remove_leftover(workspace, leftover) for leftover in list(find_leftovers(workspace, workspace.plan.snapshot()))
    ]


def _remove_leftover(workspace: Workspace, found: Leftover) -> Leftover:
    """Do what was decided, if it still holds, and return what was."""
    if found.action is Action.KEEP:
        return found
    if found.kind is LeftoverKind.KEPT:
        commit = workspace.repository.resolve(rescue.PREFIX + found.name)
        workspace.repository.update_refs(RefUpdate(rescue.PREFIX + found.name, "", commit))
        return found
    ticket = found.name.removeprefix(BRANCH_PREFIX)
    lock = workspace.paths.ensure(workspace.paths.ticket_lock(ticket).parent) / f"{ticket}.lock"
    with locks.hold(lock, ticket):
        now = _ticket_leftover(workspace, workspace.plan.snapshot(), found.kind, found.name, lock)
        if now.action is Action.KEEP:
            return now
        if found.kind is LeftoverKind.WORKTREE:
            _remove_worktree(workspace, now)
        else:
            _remove_branch(workspace, now)
        return now


def _remove_worktree(workspace: Workspace, found: Leftover) -> None:
    path = workspace.paths.ticket_worktree(found.name)
    if found.action is Action.RESCUE:
        rescue.rescue_and_remove(workspace, path, found.name, f"the worktree '{found.name}' was cleaned away")
    elif path.exists():
        rescue.preserve_hidden_repos(
            workspace, path, workspace.repository.resolve(f"refs/heads/{branch_of(found.name)}")
        )
        worktree_list.remove(workspace.repository, path)


def _remove_branch(workspace: Workspace, found: Leftover) -> None:
    ref = f"refs/heads/{found.name}"
    tip = workspace.repository.resolve(ref)
    if found.action is Action.RESCUE:
        rescue.keep_commit(workspace, tip, found.name, f"branch '{found.name}' was cleaned away")
    # only if it is still that commit: whatever came on top was not looked at
    if tip and not workspace.repository.update_refs(RefUpdate(ref, "", tip)):
        raise ScriptoriumError(f"branch '{found.name}' has just moved", "try again")
