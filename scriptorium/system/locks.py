"""Advisory locks; the kernel releases a lock when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.errors import ExitCode, ScriptoriumError

if TYPE_CHECKING:
    from filelock import FileLock

POLL_INTERVAL = 0.25
"""Seconds between two checks for a stop request while waiting for a lock."""

PROBE_GRACE = 0.1  # seconds; `is_held` in another process holds the lock for an instant


@contextmanager
def hold(path: Path, subject: str, *, wait: float = PROBE_GRACE) -> Iterator[None]:
    """Hold a lock for a block. Raises, with exit code 75, if another process holds it after ``wait`` seconds.

    Raises `Stopped` if a stop is requested during the wait.
    """
    from filelock import FileLock  # late: status and the hooks do without

    lock = FileLock(path, poll_interval=0.01)
    if not _acquire(lock, wait):
        raise ScriptoriumError(
            f"another process is at work on '{subject}'", "wait for it, or look with 'scriptorium status'",
            ExitCode.LOCKED,
        )  # fmt: skip
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, wait: float) -> bool:
    """Return whether the lock was acquired in time."""
    from filelock import Timeout

    from scriptorium.system import signals

    deadline = time.monotonic() + wait
    while True:
        signals.raise_if_stopped()
        left = deadline - time.monotonic()
        try:
            lock.acquire(timeout=max(0, min(left, POLL_INTERVAL)))
        except Timeout:
            if left <= 0:
                return False
        else:
            return True


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
