"""Verdicts of the gate, kept by tree."""

from __future__ import annotations

import hashlib
import time
from enum import StrEnum
from pathlib import Path

from scriptorium.project.workspace import Workspace
from scriptorium.system.files import replace_file

RED_FOR = 300
"""Seconds for which a red answer stands."""


class Colour(StrEnum):
    GREEN = "green"
    RED = "red"
    UNKNOWN = "unknown"


def _file(workspace: Workspace, tree: str) -> Path:
    digest = hashlib.sha256(workspace.config.gate.encode()).hexdigest()[:12]
    return workspace.paths.gates / f"{tree}-{digest}"


def recall_verdict(workspace: Workspace, tree: str) -> Colour:
    """Return what is known of a tree."""
    file = _file(workspace, tree)
    try:
        colour = file.read_text(errors="replace").partition("\n")[0]
        age = time.time() - file.stat().st_mtime
    except OSError:
        return Colour.UNKNOWN
    if colour == Colour.GREEN:
        return Colour.GREEN
    # an age below zero is a clock that jumped: ask again
    return Colour.RED if colour == Colour.RED and 0 <= age < RED_FOR else Colour.UNKNOWN


def recall_log(workspace: Workspace, tree: str) -> str:
    """Return where the output of the run is that gave the answer for a tree, or ''."""
    try:
        return _file(workspace, tree).read_text(errors="surrogateescape").partition("\n")[2]
    except OSError:
        return ""


def record_verdict(workspace: Workspace, tree: str, *, green: bool, log: Path | None = None) -> None:
    """Keep an answer, and where the output is that explains it."""
    file = workspace.paths.ensure(workspace.paths.gates) / _file(workspace, tree).name
    replace_file(file, f"{Colour.GREEN if green else Colour.RED}\n{log or ''}")
