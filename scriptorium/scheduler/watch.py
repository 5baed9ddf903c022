"""Sleeping until a ref moves or the configuration is edited, by `stat` alone; no process is started."""

from __future__ import annotations

import time
from pathlib import Path

from scriptorium.plan.snapshot import BRANCH
from scriptorium.project.config_reader import FILE
from scriptorium.project.workspace import Workspace
from scriptorium.system import signals

POLL_INTERVAL = 0.25
"""Seconds between two checks of the refs."""


def signature(workspace: Workspace) -> tuple[object, ...]:
    """Return a value that changes when a ref moves or the configuration is edited."""
    common = workspace.repository.common_dir
    files = (
        common / "refs" / "heads" / BRANCH,
        common / "refs" / "heads" / workspace.master,
        common / "packed-refs",
        common / "reftable" / "tables.list",
        workspace.repository.root / FILE,
    )
    return tuple(file_stamp(file) for file in files)


def wait(workspace: Workspace, seen: tuple[object, ...], seconds: float) -> bool:
    """Sleep until the signature differs from ``seen``, at most ``seconds``; return whether it differs.

    Raises `Stopped` when a signal arrives.
    """
    deadline = time.monotonic() + seconds
    while True:
        signals.raise_if_stopped()
        if signature(workspace) != seen:
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(POLL_INTERVAL, left))


def file_stamp(file: Path) -> tuple[int, int, int] | None:
    """Return modification time, inode and size of a file, or None if it cannot be read."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


class FileWatcher:
    """Detects that a file was edited."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp = file_stamp(file)

    def has_changed(self) -> bool:
        """Return whether the file has changed since the last call, or since the watcher was made."""
        before, self._stamp = self._stamp, file_stamp(self._file)
        return self._stamp != before
