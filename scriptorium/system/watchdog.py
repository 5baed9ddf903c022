"""Ends the programs that a dead scriptorium process left running.

Agents and gates start commands in sessions of their own, so no signal to a process group reaches
them all. Each run therefore has a mark in its environment, which its children inherit. A process
belongs to a run if it has the mark or descends from a process that has it.

Run as a program, this file is the watchdog. It waits on a pipe that only its parent holds. When
the parent dies, the watchdog ends every process with the parent's mark. It is started with
``python -I`` on this file alone, so it must not import from the package.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

GRACE = 2.0
"""Seconds between asking a run to end and killing it."""

MAX_READS = 20
"""How often an empty environment is read again, a millisecond apart, before it counts as empty."""

_bare: set[int] = set()
"""The processes whose environment is empty."""


def _parents() -> dict[int, int]:
    """Return the parent of every process."""
    found = {}
    if os.path.isdir("/proc/self"):  # noqa: PTH112 - pathlib costs more than all of this
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit():
                with suppress(OSError), open(f"/proc/{name}/stat", "rb", buffering=0) as file:  # noqa: PTH123
                    # "pid (comm) state ppid …", and comm may contain anything; zombies do not count
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
                    if state != b"Z":
                        found[int(name)] = int(parent)
        return found
    import subprocess  # late: a quarter of this program's memory

    table = subprocess.run(["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=False)
    for line in table.stdout.split(b"\n"):
        numbers = line.split()
        if len(numbers) == 2:
            found[int(numbers[0])] = int(numbers[1])
    return found


def _has_mark(pid: int, mark: bytes) -> bool:
    """Return whether a process has a mark. During execve(2) its environment reads as empty for a moment."""
    for _ in range(1 if pid in _bare else MAX_READS):
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123
                if environment := file.read():
                    return mark in environment.split(b"\0")
            os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115 - fails for kernel threads
        except OSError:
            return False
        time.sleep(0.001)
    _bare.add(pid)
    return False


def members(mark: str, *leaders: int) -> set[int]:
    """Return the processes of a run: the leaders, the processes with its mark, and all their descendants."""
    parents = _parents()
    wanted = mark.encode()
    found = {pid for pid in parents if pid in leaders or _has_mark(pid, wanted)}
    found.discard(os.getpid())
    grew = True
    while grew:
        children = {pid for pid, parent in parents.items() if parent in found} - found - {os.getpid()}
        found |= children
        grew = bool(children)
    return found


def end(mark: str, *leaders: int, first: int = signal.SIGTERM, grace: float = GRACE) -> None:
    """End a run: send ``first`` to its processes and, after the grace time, SIGKILL until none is left."""
    known = members(mark, *leaders)
    for pid in known:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, first)
    deadline = time.monotonic() + grace
    while known:
        # remember known processes: an orphan may have lost both its mark and its parent
        known = (known & _parents().keys()) | members(mark, *leaders)
        if time.monotonic() > deadline:
            for pid in known:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline + 5:
                return  # stuck in the kernel, where SIGKILL does not reach it
        time.sleep(0.01)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end(sys.argv[1], first=signal.SIGINT)
