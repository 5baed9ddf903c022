"""The minimum of free disk space for new work, so that a full disk does not break work in progress."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.project.workspace import Workspace


def free_space(workspace: Workspace) -> Iterator[tuple[Path, int]]:
    """Yield a path and the free MiB of each disk in use: the repository's and the state directory's."""
    seen = set()
    for place in (workspace.repository.root, workspace.paths.home):
        path = next(path for path in (place, *place.parents) if path.exists())
        device = path.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield path, shutil.disk_usage(path).free // 2**20


def require_free_space(workspace: Workspace) -> None:
    """Raise if a disk has less free space than the configuration requires for new work."""
    floor = workspace.config.disk_floor
    for path, left in free_space(workspace):
        if left < floor:
            # without the free space, which changes all the time: `run` logs a message again when it changes
            raise ScriptoriumError(
                f"the disk of '{path}' has less than {floor} MiB left, so no new work begins",
                "free some space, see 'scriptorium clean', or set 'disk_floor' in 'scriptorium.json'",
            )
