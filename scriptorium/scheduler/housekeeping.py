"""Housekeeping: removal of old output, and packing of objects. No work can be lost.

A landed ticket leaves some thirty loose objects and the output of its agents and gates. git packs objects after the
user's commits, but not after ours. Output is removed after two weeks, like unreachable objects in git.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.plan.ticket import State
from scriptorium.project.workspace import Workspace
from scriptorium.system import log

KEPT_SECONDS = 14 * 24 * 3600.0
"""Seconds for which output is kept after the last run that wrote any; the same as git's gc.pruneExpire."""


def clean_up(workspace: Workspace) -> None:
    """Let git pack objects if necessary, and remove old logs and verdicts of the gate."""
    with suppress(ScriptoriumError, OSError):  # the next round tries again
        workspace.repository.pack_when_due()
        log.freshen()
        _expire(workspace, time.time() - KEPT_SECONDS)


def _expire(workspace: Workspace, before: float) -> None:
    plan, paths = workspace.plan.snapshot(), workspace.paths
    unfinished = {name for state in State if state is not State.DONE for name in plan.tickets(state)}
    for directory in paths.attempts.glob("*"):
        files = list(directory.glob("*"))
        if directory.name == "health":  # never unused
            _remove(files, before)
        # all files or none, since the highest number names the newest
        elif directory.name not in unfinished and all(_is_old(file, before) for file in files):
            _remove(files, before)
            with suppress(OSError):
                directory.rmdir()
    master = workspace.repository.tree_of(workspace.master_commit())
    _remove((file for file in paths.gates.glob("*") if not file.name.startswith(master)), before)
    _remove(paths.sessions.glob("run_*.log"), before)


def _is_old(file: Path, before: float) -> bool:
    try:
        return file.lstat().st_mtime < before
    except OSError:
        return False


def _remove(files: Iterable[Path], before: float) -> None:
    for file in files:
        if _is_old(file, before):
            with suppress(OSError):
                file.unlink()
