"""Removal of stale lock files that a killed git left behind; git never removes them itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

STALE_AFTER = 5.0
"""Seconds after which the lock of a ref is stale; git holds one for moments."""

PACKED_STALE_AFTER = 60.0
"""The same for the lock of packed refs, which git rewrites as a whole; there may be a million."""


def remove_if_stale(lock: Path | None, checkout: Path | None = None) -> bool:
    """Remove the lock that stopped a git, if it is stale, and return whether it was.

    The lock of an index is stale only in a ``checkout`` where our own git was killed: the user's git holds it while
    the user writes a commit message.
    """
    if lock is None or not _is_stale(lock, checkout):
        return False
    lock.unlink(missing_ok=True)
    return True


def wait_for_release(lock: Path | None, checkout: Path | None = None) -> bool:
    """Wait until the lock that stopped a git is released, or remove it once it is stale; return whether it is gone."""
    return lock is not None and wait_until_gone(lock, checkout)


def wait_until_gone(lock: Path, checkout: Path | None = None) -> bool:
    """Wait until a lock is released, or remove it once it is stale; return whether it is gone."""
    end = time.monotonic() + STALE_AFTER + 1
    while os.path.lexists(lock):
        if _is_stale(lock, checkout):
            lock.unlink(missing_ok=True)
        elif time.monotonic() > end:
            return False
        else:
            time.sleep(0.05)
    return True


def remove_all_stale(locks: Iterable[Path]) -> None:
    """Remove the stale ones among some locks of refs, which no later command may ever come across."""
    for lock in locks:
        if _is_stale(lock, None):
            lock.unlink(missing_ok=True)


def _is_stale(lock: Path, checkout: Path | None) -> bool:
    try:
        age = time.time() - lock.stat().st_mtime
    except OSError:
        return False
    most = PACKED_STALE_AFTER if lock.name == "packed-refs.lock" else STALE_AFTER
    return age > most and (lock.name != "index.lock" or (checkout is not None and not _git_runs_in(checkout)))


def _git_runs_in(checkout: Path) -> bool:
    """Return whether a git may run in a checkout. git changes to the top directory wherever it was started."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112 - the same test as in watchdog.py
        return True
    top = str(checkout.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_bytes().startswith(b"git") and str((process / "cwd").readlink()) == top:
                return True
    return False
