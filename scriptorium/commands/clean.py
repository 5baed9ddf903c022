"""scriptorium clean: take away what is not needed any more, and tell what is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scriptorium import locks, rescue, worktree_list, worktrees
from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan import Plan
from scriptorium.records import emit
from scriptorium.repository import RefUpdate
from scriptorium.ticket import BRANCH_PREFIX, State, branch_of, is_of_ticket, ticket_id
from scriptorium.working_tree import WorkingTree
from scriptorium.workspace import Workspace


class Clean(Command):
    """List worktrees, branches and rescue refs that are no longer needed; with --force, remove them.

    Content that is in master is removed. Content of a finished or removed ticket that is not in master
    is removed only after a rescue ref keeps it. Content of an unfinished ticket stays. Prints one line
    per item: 'remove', 'rescue' or 'keep', the kind, the name and the reason.
    """

    force = Flag(["-f", "--force"], help="remove the items instead of only listing them")
    as_json = Flag("--json", help="print one JSON array")

    def main(self) -> int:
        workspace = Workspace.open()
        found = clean(workspace) if self.force else list(examine(workspace, workspace.plan.snapshot()))
        if self.as_json:
            print(json.dumps([vars(leftover) for leftover in found], indent=2))
        else:
            for leftover in found:
                emit(leftover.action, leftover.kind, leftover.name, leftover.why)
        return ExitCode.OK


class Action(StrEnum):
    REMOVE = "remove"
    RESCUE = "rescue"  # keep what it holds by a rescue ref, then remove it
    KEEP = "keep"


class Kind(StrEnum):
    WORKTREE = "worktree"
    BRANCH = "branch"
    KEPT = "rescue"
    DIRECTORY = "directory"


@dataclass(frozen=True)
class Leftover:
    """Something that lies about, what is to become of it, and why."""

    action: Action
    kind: Kind
    name: str
    why: str


def decide(kind: Kind, name: str, state: State | None, *, busy: bool, landed: bool) -> Leftover:
    """Return what is to become of the worktree or branch of a ticket; its state is None when it is in no plan. Pure."""
    if busy:
        return Leftover(Action.KEEP, kind, name, "somebody is at work on it")
    if state not in (None, State.DONE):
        return Leftover(Action.KEEP, kind, name, f"its ticket is '{state}'")
    ticket = "its ticket is 'done'" if state else "its ticket is in the plan no more"
    if landed:
        return Leftover(Action.REMOVE, kind, name, f"{ticket}, and all it holds is in master")
    return Leftover(Action.RESCUE, kind, name, f"{ticket}, and it holds what is not in master")


def examine(workspace: Workspace, plan: Plan) -> Iterator[Leftover]:
    """Find everything of ours that lies about in a repository."""
    for path in sorted(workspace.paths.ticket_worktree("x").parent.glob("*")):
        if not rescue.ASIDE.search(path.name):
            yield _of_ticket(workspace, plan, Kind.WORKTREE, path.name)
    for ref in workspace.repository.refs(f"refs/heads/{BRANCH_PREFIX}*"):
        branch = ref.removeprefix("refs/heads/")
        if is_of_ticket(branch):
            yield _of_ticket(workspace, plan, Kind.BRANCH, branch)
    for kept in rescue.everything(workspace):
        if kept.path:
            why = f"look into it, then 'scriptorium rescue drop {kept.name}'"
            yield Leftover(Action.KEEP, Kind.DIRECTORY, kept.name, why)
        elif _is_landed(workspace, kept.commit):
            yield Leftover(Action.REMOVE, Kind.KEPT, kept.name, "all it holds is in master")
        else:
            yield Leftover(Action.KEEP, Kind.KEPT, kept.name, "it holds what is not in master")


def _of_ticket(workspace: Workspace, plan: Plan, kind: Kind, name: str, ours: Path | None = None) -> Leftover:
    """Find out what is to become of the worktree or branch of a ticket; ``ours`` is a lock that we hold."""
    id = ticket_id(name.removeprefix(BRANCH_PREFIX))
    found = plan.find(id or name)
    known = [lock for lock in workspace.paths.ticket_lock("x").parent.glob("*.lock") if lock != ours]
    busy = any(locks.is_held(lock) for lock in known if ticket_id(lock.stem) == id)
    branch = name if kind is Kind.BRANCH else branch_of(name)
    elsewhere = [at for _, at, _ in worktree_list.holders(workspace.repository, branch) if _stays(workspace, at)]
    if kind is Kind.BRANCH and elsewhere:
        return Leftover(Action.KEEP, kind, name, f"it is checked out in '{elsewhere[0]}'")
    if kind is Kind.WORKTREE and worktrees.is_locked(workspace.working_tree(name)):
        return Leftover(Action.KEEP, kind, name, "it is locked (git worktree lock)")
    tip = workspace.repository.resolve(f"refs/heads/{branch}")
    tree = workspace.working_tree(name)
    whole = kind is Kind.BRANCH or (tree.is_sound(branch) and not tree.hides() and not tree.changes())
    return decide(kind, name, found[1] if found else None, busy=busy, landed=whole and _is_landed(workspace, tip))


def _stays(workspace: Workspace, path: Path) -> bool:
    """Tell whether a worktree is a person's, or one of ours that they have locked."""
    ours = path.parent.resolve() == workspace.paths.ticket_worktree("x").parent.resolve()
    return not ours or worktrees.is_locked(WorkingTree(workspace.repository, path))


def _is_landed(workspace: Workspace, commit: str) -> bool:
    return bool(commit) and workspace.repository.is_ancestor(commit, workspace.master_commit())


def clean(workspace: Workspace) -> list[Leftover]:
    """Remove what is not needed any more, and return what was found."""
    return [_act(workspace, leftover) for leftover in list(examine(workspace, workspace.plan.snapshot()))]


def _act(workspace: Workspace, found: Leftover) -> Leftover:
    """Do what was decided, if it still holds, and return what was."""
    if found.action is Action.KEEP:
        return found
    if found.kind is Kind.KEPT:
        commit = workspace.repository.resolve(rescue.PREFIX + found.name)
        workspace.repository.update_refs(RefUpdate(rescue.PREFIX + found.name, "", commit))
        return found
    ticket = found.name.removeprefix(BRANCH_PREFIX)
    lock = workspace.paths.ensure(workspace.paths.ticket_lock(ticket).parent) / f"{ticket}.lock"
    with locks.hold(lock, ticket):
        now = _of_ticket(workspace, workspace.plan.snapshot(), found.kind, found.name, lock)
        if now.action is Action.KEEP:
            return now
        if found.kind is Kind.WORKTREE:
            _remove_worktree(workspace, now)
        else:
            _remove_branch(workspace, now)
        return now


def _remove_worktree(workspace: Workspace, found: Leftover) -> None:
    path = workspace.paths.ticket_worktree(found.name)
    if found.action is Action.RESCUE:
        rescue.vacate(workspace, path, found.name, f"the worktree '{found.name}' was cleaned away")
    elif path.exists():
        rescue.spare_unseen(workspace, path, workspace.repository.resolve(f"refs/heads/{branch_of(found.name)}"))
        worktree_list.remove(workspace.repository, path)


def _remove_branch(workspace: Workspace, found: Leftover) -> None:
    ref = f"refs/heads/{found.name}"
    tip = workspace.repository.resolve(ref)
    if found.action is Action.RESCUE:
        rescue.keep(workspace, tip, found.name, f"branch '{found.name}' was cleaned away")
    # only if it is still that commit: whatever came on top was not looked at
    if tip and not workspace.repository.update_refs(RefUpdate(ref, "", tip)):
        raise ScriptoriumError(f"branch '{found.name}' has just moved", "try again")


main = Clean.launch
