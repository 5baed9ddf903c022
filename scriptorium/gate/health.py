"""Whether master is green."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scriptorium.gate.command import HEALTH, run_gate
from scriptorium.gate.results import Colour, recall_log, recall_verdict, record_verdict
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees.temporary import Purpose, temporary_checkout

PURPOSE = Purpose("")
"""Only the gate writes into the checkout, so nothing in it is work."""


@dataclass(frozen=True)
class MasterHealth:
    """The verdict on a commit of master, and why it is red if that is known."""

    colour: Colour
    commit: str
    reason: str = ""

    @property
    def green(self) -> bool:
        return self.colour is Colour.GREEN


def known_health(workspace: Workspace) -> MasterHealth:
    """Return the known verdict on master; runs nothing."""
    commit = workspace.master_commit()
    tree = workspace.repository.tree_of(commit)
    colour = recall_verdict(workspace, tree)
    log = recall_log(workspace, tree) if colour is Colour.RED else ""
    return MasterHealth(colour, commit, f"`{workspace.config.gate}` fails; see '{log}'" if log else "")


def master_health(workspace: Workspace) -> MasterHealth:
    """Return whether master is green; runs the gate on a clean checkout if that is not known."""
    found = known_health(workspace)
    if found.colour is not Colour.UNKNOWN:
        return found
    with workspace.hold("health", wait=workspace.config.gate_timeout or math.inf):
        found = known_health(workspace)  # another process may have run the gate in the meantime
        return found if found.colour is not Colour.UNKNOWN else _run(workspace, found.commit)


def _run(workspace: Workspace, commit: str) -> MasterHealth:
    with temporary_checkout(workspace, workspace.paths.health_worktree, commit, PURPOSE) as path:
        result = run_gate(workspace, path, HEALTH)
    record_verdict(workspace, workspace.repository.tree_of(commit), green=result.green, log=result.log)
    reason = f"{result.reason}; see '{result.log}'" if result.reason else ""
    return MasterHealth(Colour.GREEN if result.green else Colour.RED, commit, reason)
