"""Who may act: advisory locks that the kernel frees when their holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scriptorium.errors import ExitCode, ScriptoriumError

PROBE_GRACE = 0.1  # seconds; outlasts the instant for which `is_held` of a neighbour holds the lock


@contextmanager
def hold(path: Path, subject: str, *, wait: float = PROBE_GRACE) -> Iterator[None]:
    """Hold a lock for the length of a block; raises with exit code 75 when somebody else has it."""
    from filelock import FileLock, Timeout  # late: status and the hooks do without

    lock = FileLock(path, timeout=wait, poll_interval=0.01)
    try:
        lock.acquire()
    except Timeout:
        raise ScriptoriumError(
            f"another process is at work on '{subject}'", "wait for it, or look with 'scriptorium status'",
            ExitCode.LOCKED,
        ) from None  # fmt: skip
    try:
        yield
    finally:
        lock.release()


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
