"""Locks that a killed git left: git never takes one away by itself, so all after it would wait for a person."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

STALE_AFTER = 5.0
"""Seconds after which a lock is left; git holds that of a ref for moments."""

PACKED_STALE_AFTER = 60.0
"""The same for that of all packed refs, which are written anew together; there may be a million."""

_LOCKED = re.compile(r"Unable to create '(/.+\.lock)': File exists")


def remove_if_stale(stderr: str, checkout: Path | None = None) -> bool:
    """Remove the lock that stood in the way of a git, when it is left; tell whether that was so.

    The lock of an index only where ``checkout`` says whose it is, because a git of ours was killed in there: a
    person's git holds it as long as they write a message, and what they run beside git is not known.
    """
    found = _LOCKED.search(stderr)
    lock = Path(found[1]) if found else None
    if lock is None or not _is_stale(lock, checkout):
        return False
    lock.unlink(missing_ok=True)
    return True


def wait_for_release(stderr: str, checkout: Path | None = None) -> bool:
    """Wait until the lock that stood in the way of a git is gone, or left and removed; tell whether it is gone."""
    found = _LOCKED.search(stderr)
    return found is not None and wait_until_gone(Path(found[1]), checkout)


def wait_until_gone(lock: Path, checkout: Path | None = None) -> bool:
    """Wait until a lock is gone, or left and removed; tell whether it is gone."""
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
    """Remove those of some locks of refs that are left, such as nothing may ever want again."""
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
    """Tell whether a git may be at work in a checkout: it goes to its top, wherever in it it was started."""
    if not os.path.isdir("/proc/self"):  # noqa: PTH112 - as watchdog.py asks it
        return True
    top = str(checkout.resolve())
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_bytes().startswith(b"git") and str((process / "cwd").readlink()) == top:
                return True
    return False
