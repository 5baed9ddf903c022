"""The floor of disk space: below it no new work begins, so that a full disk does not spoil what is under way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.project.workspace import Workspace


def free_space(workspace: Workspace) -> Iterator[tuple[Path, int]]:
    """Return the free MiB of each disk that is written to, by a path on it: the repository's, and our directory's."""
    seen = set()
    for place in (workspace.repository.root, workspace.paths.home):
        path = next(path for path in (place, *place.parents) if path.exists())
        device = path.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield path, shutil.disk_usage(path).free // 2**20


def require_free_space(workspace: Workspace) -> None:
    """Raise when a disk has less room than the configuration asks for before new work begins."""
    floor = workspace.config.disk_floor
    for path, left in free_space(workspace):
        if left < floor:
            # without the figure, which changes all the time, so that a daemon says it once
            raise ScriptoriumError(
                f"the disk of '{path}' has less than {floor} MiB left, so no new work begins",
                "make room, see 'scriptorium clean', or set 'disk_floor' in 'scriptorium.json'",
            )
