"""scriptorium health: does the gate pass on master?"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass

from scriptorium import gate, locks, process, rescue, worktree_list, worktrees
from scriptorium.cli import Command
from scriptorium.errors import ExitCode
from scriptorium.gate import Colour
from scriptorium.records import emit
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)


class Health(Command):
    """Run the gate on a clean checkout of master, unless the result for its tree is cached.

    Green is cached without limit, red for five minutes. Prints 'green <commit>' or 'red <commit>'; the
    exit code is 3 when master is red.
    """

    def main(self) -> int:
        workspace = Workspace.open()
        with process.stoppable():
            found = health(workspace)
        emit(f"{found.colour} {found.commit}")
        if found.reason:
            log.warning("%s", found.reason)
        return ExitCode.OK if found.green else ExitCode.REFUSED


@dataclass(frozen=True)
class MasterHealth:
    """The colour of a commit of master, and why it is red, where that is known."""

    colour: Colour
    commit: str
    reason: str = ""

    @property
    def green(self) -> bool:
        return self.colour is Colour.GREEN


def known_health(workspace: Workspace) -> MasterHealth:
    """Return what is known of master, without running anything."""
    commit = workspace.master_commit()
    tree = workspace.repository.tree_of(commit)
    colour = gate.recall(workspace, tree)
    log = gate.recall_log(workspace, tree) if colour is Colour.RED else ""
    return MasterHealth(colour, commit, f"`{workspace.config.gate}` fails; see '{log}'" if log else "")


def health(workspace: Workspace) -> MasterHealth:
    """Return whether master is green, by running the gate on a clean checkout if that is not known."""
    found = known_health(workspace)
    if found.colour is not Colour.UNKNOWN:
        return found
    lock = workspace.paths.ensure(workspace.paths.lock("health").parent) / "health.lock"
    with locks.hold(lock, "health", wait=workspace.config.gate_timeout or math.inf):
        found = known_health(workspace)  # a neighbour may have found out meanwhile
        return found if found.colour is not Colour.UNKNOWN else _run(workspace, found.commit)


def _run(workspace: Workspace, commit: str) -> MasterHealth:
    repository, path = workspace.repository, workspace.paths.health_worktree
    workspace.paths.ensure(path.parent)
    process.end_leftovers(f"SCRIPTORIUM_WORKTREE={path}")
    if os.path.lexists(path):
        _discard(workspace)
    with locks.hold(workspace.paths.lock("worktrees"), "worktrees", wait=600):
        worktree_list.add(repository, path, start=commit)
    try:
        result = gate.run(workspace, path, gate.HEALTH)
    finally:
        _discard(workspace)
    gate.remember(workspace, repository.tree_of(commit), green=result.green, log=result.log)
    reason = f"{result.reason}; see '{result.log}'" if result.reason else ""
    return MasterHealth(Colour.GREEN if result.green else Colour.RED, commit, reason)


def _discard(workspace: Workspace) -> None:
    """Remove the checkout; nobody but the gate ever writes there. What cannot be deleted is moved aside."""
    import shutil

    path = workspace.paths.health_worktree
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        left = rescue.set_aside(path, "left")
        log.warning("the gate left files that cannot be deleted: they are in '%s'", left)
    worktrees.forget(workspace)


main = Health.launch
