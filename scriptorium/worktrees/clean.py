"""Removing worktrees, branches and rescue refs that are not needed any more."""

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
from scriptorium.project.held import TicketLock
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees import rescue
from scriptorium.worktrees.tickets import is_locked


class Action(StrEnum):
    REMOVE = "remove"
    RESCUE = "rescue"  # keep its work by a rescue ref, then remove it
    KEEP = "keep"


class LeftoverKind(StrEnum):
    WORKTREE = "worktree"
    BRANCH = "branch"
    KEPT = "rescue"
    DIRECTORY = "directory"


@dataclass(frozen=True)
class Leftover:
    """Something left in the repository, what to do with it, and why."""

    action: Action
    kind: LeftoverKind
    name: str
    why: str


def decide(kind: LeftoverKind, name: str, state: State | None, *, busy: bool, landed: bool) -> Leftover:
    """Return what to do with the worktree or branch of a ticket; ``state`` is None if no plan has it. Pure."""
    if busy:
        return Leftover(Action.KEEP, kind, name, "a process is at work on it")
    if state not in (None, State.DONE):
        return Leftover(Action.KEEP, kind, name, f"its ticket is '{state}'")
    ticket = "its ticket is 'done'" if state else "its ticket is not in the plan"
    if landed:
        return Leftover(Action.REMOVE, kind, name, f"{ticket}, and master has all of it")
    return Leftover(Action.RESCUE, kind, name, f"{ticket}, and master does not have all of it")


def find_leftovers(workspace: Workspace, plan: Plan) -> Iterator[Leftover]:
    """Yield every worktree, branch, rescue ref and renamed directory of the project, and what to do with it."""
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
            yield Leftover(Action.REMOVE, LeftoverKind.KEPT, kept.name, "master has all of it")
        else:
            yield Leftover(Action.KEEP, LeftoverKind.KEPT, kept.name, "master does not have all of it")


def _ticket_leftover(
    workspace: Workspace, plan: Plan, kind: LeftoverKind, name: str, held: TicketLock | None = None
) -> Leftover:
    """Return what to do with the worktree or branch of a ticket; ``held`` is its lock if the caller holds it."""
    id = ticket_id(name.removeprefix(BRANCH_PREFIX))
    found = plan.find(id or name)
    branch = name if kind is LeftoverKind.BRANCH else branch_of(name)
    others = worktree_list.worktrees_on(workspace.repository, branch)
    elsewhere = [other.path for other in others if _is_kept_by_user(workspace, other.path)]
    if kind is LeftoverKind.BRANCH and elsewhere:
        return Leftover(Action.KEEP, kind, name, f"it is checked out in '{elsewhere[0]}'")
    if kind is LeftoverKind.WORKTREE and is_locked(workspace.working_tree(name)):
        return Leftover(Action.KEEP, kind, name, "it is locked (git worktree lock)")
    tree = workspace.working_tree(name)
    whole = kind is LeftoverKind.BRANCH or (
        tree.is_on_branch(branch) and not tree.may_hide_edits() and not tree.changes()
    )
    landed = whole and _is_landed(workspace, workspace.repository.resolve(f"refs/heads/{branch}"))
    busy = _is_busy(workspace, id, held)
    return decide(kind, name, found[1] if found else None, busy=busy, landed=landed)


def _is_busy(workspace: Workspace, id: str, held: TicketLock | None) -> bool:
    """Return whether another process holds the lock of a ticket, under any name that the ticket has had."""
    locks = [path.stem for path in workspace.paths.ticket_lock("x").parent.glob("*.lock")]
    others = [name for name in locks if ticket_id(name) == id and (held is None or name != held.ticket)]
    return any(workspace.is_ticket_held(name) for name in others)


def _is_kept_by_user(workspace: Workspace, path: Path) -> bool:
    """Return whether a worktree is the user's, or is ours but the user has locked it."""
    ours = path.parent.resolve() == workspace.paths.ticket_worktree("x").parent.resolve()
    return not ours or is_locked(Worktree(workspace.repository, path))


def _is_landed(workspace: Workspace, commit: str) -> bool:
    return bool(commit) and workspace.repository.is_ancestor(commit, workspace.master_commit())


def remove_leftovers(workspace: Workspace) -> list[Leftover]:
    """Remove what is not needed any more, and return everything that was found."""
    found = list(find_leftovers(workspace, workspace.plan.snapshot()))
    return [_remove_leftover(workspace, leftover) for leftover in found]


def _remove_leftover(workspace: Workspace, found: Leftover) -> Leftover:
    """Do what was decided, if it still holds under the lock, and return what was done."""
    if found.action is Action.KEEP:
        return found
    if found.kind is LeftoverKind.KEPT:
        commit = workspace.repository.resolve(rescue.PREFIX + found.name)
        workspace.repository.update_refs(RefUpdate(rescue.PREFIX + found.name, "", commit))
        return found
    with workspace.hold_ticket(found.name.removeprefix(BRANCH_PREFIX)) as lock:
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
        rescue.rescue_and_remove(
            workspace, path, found.name, f"'scriptorium clean' removed the worktree '{found.name}'"
        )
    elif path.exists():
        tip = workspace.repository.resolve(f"refs/heads/{branch_of(found.name)}")
        rescue.preserve_hidden_repos(workspace, path, tip)
        worktree_list.remove(workspace.repository, path)


def _remove_branch(workspace: Workspace, found: Leftover) -> None:
    ref = f"refs/heads/{found.name}"
    tip = workspace.repository.resolve(ref)
    if found.action is Action.RESCUE:
        rescue.keep_commit(workspace, tip, found.name, f"'scriptorium clean' removed the branch '{found.name}'")
    # only if it is still that commit: nobody has looked at later commits
    if tip and not workspace.repository.update_refs(RefUpdate(ref, "", tip)):
        raise ScriptoriumError(f"branch '{found.name}' has just moved", "try again")
