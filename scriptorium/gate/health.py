"""Whether master is green."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass

from scriptorium.gate.command import HEALTH, run_gate
from scriptorium.gate.results import Colour, recall_log, recall_verdict, record_verdict
from scriptorium.git import worktree_list
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks, process
from scriptorium.worktrees import rescue
from scriptorium.worktrees import tickets as worktrees

log = logging.getLogger(__name__)


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
    colour = recall_verdict(workspace, tree)
    log = recall_log(workspace, tree) if colour is Colour.RED else ""
    return MasterHealth(colour, commit, f"`{workspace.config.gate}` fails; see '{log}'" if log else "")


def master_health(workspace: Workspace) -> MasterHealth:
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
    process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={path}")
    if os.path.lexists(path):
        _discard(workspace)
    with locks.hold(workspace.paths.lock("worktrees"), "worktrees", wait=600):
        worktree_list.add(repository, path, start=commit)
    try:
        result = run_gate(workspace, path, HEALTH)
    finally:
        _discard(workspace)
    record_verdict(workspace, repository.tree_of(commit), green=result.green, log=result.log)
    reason = f"{result.reason}; see '{result.log}'" if result.reason else ""
    return MasterHealth(Colour.GREEN if result.green else Colour.RED, commit, reason)


def _discard(workspace: Workspace) -> None:
    """Remove the checkout; nobody but the gate ever writes there. What cannot be deleted is moved aside."""
    import shutil

    path = workspace.paths.health_worktree
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        left = rescue.rename_aside(path, "left")
        log.warning("the gate left files that cannot be deleted: they are in '%s'", left)
    worktrees.prune_worktrees(workspace)
