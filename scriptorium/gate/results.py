"""Verdicts of the gate, kept by tree.

The tree that a merge was tested with is the tree that becomes master, so it is not tested twice (as git-test does).
A green verdict holds forever. A red verdict expires, because a flaky test must not close the gate forever.
"""

from __future__ import annotations

import hashlib
import time
from enum import StrEnum
from pathlib import Path

from scriptorium.project.workspace import Workspace
from scriptorium.system.files import replace_file

RED_FOR = 300
"""Seconds after which a red verdict expires."""


class Colour(StrEnum):
    GREEN = "green"
    RED = "red"
    UNKNOWN = "unknown"


def _file(workspace: Workspace, tree: str) -> Path:
    digest = hashlib.sha256(workspace.config.gate.encode()).hexdigest()[:12]
    return workspace.paths.gates / f"{tree}-{digest}"


def recall_verdict(workspace: Workspace, tree: str) -> Colour:
    """Return the verdict on a tree, if it is known and has not expired."""
    file = _file(workspace, tree)
    try:
        colour = file.read_text(errors="replace").partition("\n")[0]
        age = time.time() - file.stat().st_mtime
    except OSError:
        return Colour.UNKNOWN
    if colour == Colour.GREEN:
        return Colour.GREEN
    # a negative age means that the clock was set back
    return Colour.RED if colour == Colour.RED and 0 <= age < RED_FOR else Colour.UNKNOWN


def recall_log(workspace: Workspace, tree: str) -> str:
    """Return the path of the log that explains the verdict on a tree, or ''."""
    try:
        return _file(workspace, tree).read_text(errors="surrogateescape").partition("\n")[2]
    except OSError:
        return ""


def record_verdict(workspace: Workspace, tree: str, *, green: bool, log: Path | None = None) -> None:
    """Record the verdict on a tree, and the log that explains it."""
    file = workspace.paths.ensure(workspace.paths.gates) / _file(workspace, tree).name
    replace_file(file, f"{Colour.GREEN if green else Colour.RED}\n{log or ''}")
