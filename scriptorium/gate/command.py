"""Running the gate: one command that decides whether a tree may become master."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from scriptorium.gate.results import Colour
from scriptorium.project.workspace import Workspace
from scriptorium.system.files import next_log
from scriptorium.system.limits import Limits
from scriptorium.system.text import tail

logger = logging.getLogger(__name__)

HEALTH = "health"
"""The subject of a run on master; any other subject is a ticket."""

HIDDEN_FROM_GATES = ("SCRIPTORIUM_TOKEN", "SCRIPTORIUM_SOCKETS", "SCRIPTORIUM_ROLE", "SCRIPTORIUM_TICKET")
"""Variables without which a project's tests cannot submit, or pass for an agent."""


@dataclass(frozen=True)
class GateResult:
    """One run of the gate; ``reason`` and ``tail`` explain a red verdict."""

    green: bool
    reason: str
    tail: str
    seconds: float
    log: Path


def gate_environment(directory: Path) -> dict[str, str]:
    """Return the environment of a gate: the user's, and the mark of its worktree."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN_FROM_GATES}
    return {**kept, "SCRIPTORIUM_WORKTREE": str(directory)}


def run_gate(workspace: Workspace, directory: Path, subject: str) -> GateResult:
    """Run the gate in a directory and write its output to a log of ``subject``; raises if the disk is nearly full."""
    from scriptorium.project import disk
    from scriptorium.system import process  # late: `status` only looks verdicts up

    disk.require_free_space(workspace)  # or a full disk would be the ticket's failure
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
        workspace.secrets.redact_file(log)
    if finished.end is process.EndReason.TOO_MUCH:
        reason = f"`{config.gate}` was terminated after {process.MAX_OUTPUT // 2**20} MiB of output"
    elif finished.end is process.EndReason.HARD_LIMIT:
        reason = f"`{config.gate}` was terminated at its limit of {config.gate_timeout:g} seconds"
    else:
        reason = f"`{config.gate}` failed with exit code {finished.status}"
    colour = Colour.GREEN if finished.ok else Colour.RED
    logger.info("gate: %s after %.0f seconds", colour, finished.seconds)
    return GateResult(finished.ok, "" if finished.ok else reason, tail(log), finished.seconds, log)
