"""Run one stage of CI: `python3 .ci/stage.py NAME SECONDS COMMAND...`.

It prints the output of the command when that has ended, so that stages can run side by side, and then one line with
the seconds that it took. It exits with 1 when the command fails, is not over within its seconds, or skips a test.
Every process that the command has started is ended with it, whatever session that is in.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
SUMMARY = re.compile(r"^(?:=+ )?\d+ (?:passed|failed|skipped|xfailed|xpassed)\b.* in [\d.]+s\b.*$", re.MULTILINE)
"""The last line of pytest."""


def adopt_orphans() -> None:
    """Become the parent of every orphan among the descendants, and end when the caller does."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def run(argv: list[str], seconds: float, output: IO[bytes]) -> int | None:
    """Return the exit status of a command, negative for a signal; None when it is not over in time."""

    def end(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, end)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        while True:
            pid, status = os.wait()  # orphans as well, or the tests would take them for alive
            if pid == child.pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                return child.returncode
    except TimeoutError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def descendants(root: int) -> list[int]:
    """Return the processes below a process, zombies left out."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has ended
        if state != "Z":
            children.setdefault(int(parent), []).append(int(file.parent.name))
    found = list(children.get(root, ()))
    for pid in found:
        found += children.get(pid, ())
    return found


def end_all() -> int:
    """Kill all descendants and return how many there were."""
    ended = set[int]()
    while True:
        for pid in descendants(os.getpid()):
            ended.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return len(ended)
        time.sleep(0.01)


def verdict(status: int | None, seconds: float, output: str) -> str:
    """Return why a stage has failed; nothing when it has passed."""
    if status is None:
        return f"is not over after {seconds:g} s"
    if status:
        return f"failed with {'exit code' if status > 0 else 'signal'} {abs(status)}"
    left_out = [line for line in SUMMARY.findall(output) if re.search("skipped|xfailed|xpassed|deselected", line)]
    return f"has not run all tests: {left_out[0]}" if left_out else ""


def main() -> int:
    name, seconds, argv = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    print(f"ci: {name} begins", flush=True)
    adopt_orphans()
    began = time.monotonic()
    with tempfile.TemporaryFile() as file:
        try:
            status = run(argv, seconds, file)
        finally:
            left = end_all()
        wall = time.monotonic() - began
        file.seek(0)
        output = file.read().decode(errors="replace")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    wrong = verdict(status, seconds, output)
    with Path(__file__).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # stages end side by side
        print(f"\nci: {name}\n{output}", end="" if output.endswith("\n") else "\n")
        if left:
            print(f"ci: {name} has left {left} processes, which are ended")
        cpu = used.ru_utime + used.ru_stime
        print(f"ci: {name} took {wall:.0f} s of {seconds:g} s, {cpu:.0f} s of CPU", flush=True)
        if wrong:
            print(f"ci: {name} {wrong}", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
