"""The gate: one command that says whether a tree may be master, and the memory of its answers.

Answers are kept by tree, not by commit, as git-test does: the tree that a merge was tested with is
the tree that becomes master, so it is not tested twice. Green is kept for good. Red is asked
again after a while, because a flaky tool must not close the gate until a person opens it.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from scriptorium.gate.results import Colour
from scriptorium.project.workspace import Workspace
from scriptorium.system.files import next_log
from scriptorium.system.limits import Limits
from scriptorium.system.redact import Secrets
from scriptorium.system.text import tail

logger = logging.getLogger(__name__)

HEALTH = "health"
"""The subject of a run on master; any other is a ticket."""


KEPT_FROM_GATES = ("SCRIPTORIUM_TOKEN", "SCRIPTORIUM_SOCKETS", "SCRIPTORIUM_ROLE", "SCRIPTORIUM_TICKET")
"""A project's tests must not be able to submit, or take themselves for an agent."""


@dataclass(frozen=True)
class GateResult:
    """One run of the gate; ``reason`` and ``tail`` tell a person why it is red."""

    green: bool
    reason: str
    tail: str
    seconds: float
    log: Path


def gate_environment(directory: Path) -> dict[str, str]:
    """Return what a gate sees: the user's environment, and the mark of its worktree."""
    kept = {name: value for name, value in os.environ.items() if name not in KEPT_FROM_GATES}
    return {**kept, "SCRIPTORIUM_WORKTREE": str(directory)}


def run_gate(workspace: Workspace, directory: Path, subject: str) -> GateResult:
    """Run the gate in a directory; its whole output goes to a log named after ``subject``."""
    from scriptorium.project import disk
    from scriptorium.system import process  # late: `status` only looks answers up

    disk.require_free_space(workspace)  # a test that finds no room would be the ticket's failure
    config = workspace.config
    logs = workspace.paths.ensure(workspace.paths.attempts / subject)
    log = next_log(logs, "gate", ".log")
    logger.info("gate: '%s' runs on %s", config.gate, "master" if subject == HEALTH else f"ticket '{subject}'")
    try:
        finished = process.run_program(
            ["/bin/sh", "-c", config.gate],
            cwd=directory,
            env=gate_environment(directory),
            output=log,
            limits=Limits(hard=config.gate_timeout, no_output=0, no_progress=0),
        )
    finally:
        Secrets(*config.environments).redact_file(log)
    if finished.end is process.EndReason.TOO_MUCH:
        reason = f"`{config.gate}` was ended after {process.MAX_OUTPUT // 2**20} MiB of output"
    elif finished.end is process.EndReason.HARD_LIMIT:
        reason = f"`{config.gate}` was ended at its limit of {config.gate_timeout:g} seconds"
    else:
        reason = f"`{config.gate}` failed with exit code {finished.status}"
    colour = Colour.GREEN if finished.ok else Colour.RED
    logger.info("gate: %s after %.0f seconds", colour, finished.seconds)
    return GateResult(finished.ok, "" if finished.ok else reason, tail(log), finished.seconds, log)
