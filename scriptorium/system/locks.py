"""Who may act: advisory locks that the kernel frees when their holder dies."""

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
"""Seconds between two looks whether a signal has arrived, while a lock is waited for."""

PROBE_GRACE = 0.1  # seconds; outlasts the instant for which `is_held` of a neighbour holds the lock


@contextmanager
def hold(path: Path, subject: str, *, wait: float = PROBE_GRACE) -> Iterator[None]:
    """Hold a lock for the length of a block; raises with exit code 75 when somebody else has it."""
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
    """Wait for a lock, but no longer than until a signal to stop arrives."""
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
    """Tell whether somebody holds the lock now."""
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
