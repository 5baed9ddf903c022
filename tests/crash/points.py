"""The points of one process; inside/sitecustomize.py defines them."""

from __future__ import annotations

import builtins
import hashlib
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

_PLACES = (
    # the most specific pattern first: each pattern sees the text that the previous one left
    (r"[0-9a-f]{40,64}(-[0-9a-f]{12})?", "OID"),
    (r"\b[0-9a-f]{32}\.sock", "SOCKET"),
    (r"/tmp/scriptorium-\d+/[0-9a-f]{16}", "DIRECTORY"),
    (r"run_[0-9TZ-]+\.log", "run_TIME.log"),
    (r"\b\d{8}T\d{6}Z-[0-9a-f]{4}\b", "TIME"),
    (r"(project|found|left|health)(-|\.)[0-9a-f]{6,12}\b", r"\1-HEX"),
    (r"\bSCRIPTORIUM_SESSION=[0-9a-f]{16}", "SESSION"),
    (r"(scriptorium-|tmp)\w{8}\b", r"\1TEMPORARY"),
    (r"\.([0-9a-f]{8}\.draft|[0-9a-f]{16}|\d{2,})(?= |$)", ".DRAFT"),
)

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.symlink": (0, 1),
    "os.link": (0, 1),
    "os.truncate": (0,),
    "os.chmod": (0,),
}
"""Audit events of changes, and the indexes of their arguments that are paths."""


class _Points:
    def __init__(self, verb: str) -> None:
        self.base = os.environ["CRASH_BASE"]
        self.at = os.environ.get("CRASH_AT", "")
        self.action = os.environ.get("CRASH_ACTION", "kill")
        self.trace = os.environ.get("CRASH_TRACE", "")
        self.steps = os.environ.get("CRASH_STEPS", "")
        self.group = int(os.environ.get("CRASH_GROUP") or os.getpgrp())
        os.environ["CRASH_GROUP"] = str(self.group)
        self.seen: Counter[str] = Counter()
        self.forks = 0
        self.busy = threading.local()
        self.who = f"{verb}#{self._count(verb)}"

    def _count(self, verb: str) -> int:
        """Return the number of processes of this verb in this flow, including this process."""
        file = os.open(f"{self.base}/{verb}.count", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, b".")
        size = os.fstat(file).st_size
        os.close(file)
        return size

    def name(self, text: str) -> str:
        text = text.replace(self.base, "")
        for pattern, place in _PLACES:
            text = re.sub(pattern, place, text)
        return " ".join(text.split())

    def pass_by(self, what: str, when: str) -> str:
        """Record a point, act if it is the chosen point, and return its name."""
        if getattr(self.busy, "now", False):
            return ""
        self.busy.now = True
        try:
            key = f"{self.who} {self.name(what)} {when}"
            self.seen[key] += 1
            key = f"{key} {self.seen[key]}"
            if self.trace:
                file = os.open(self.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.write(file, f"{key}\n".encode())
                os.close(file)
            if self.at in (key, f"number {self.seen.total()}"):
                self.act()
            return key
        finally:
            self.busy.now = False

    def enter(self, point: str, environment: Any) -> None:
        """Make a git that is about to start record its steps, or die at a step."""
        at, _, step = self.at.partition(" step ")
        if step and at == point:
            environment["CRASH_STEP"] = step
            if self.action != "kill":
                environment["CRASH_ERRNO"] = self.action
        if self.steps or (step and at == point):
            environment["CRASH_STEPS"] = steps_file(self.steps or self.base, point)
            environment["LD_PRELOAD"] = os.environ["CRASH_LIBRARY"]

    def act(self) -> None:
        os.close(os.open(f"{self.base}/acted", os.O_WRONLY | os.O_CREAT))
        if self.action != "kill":
            raise OSError(int(self.action), os.strerror(int(self.action)))
        os.killpg(self.group, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)  # the command of an agent is in another group

    def inside(self, path: object) -> bool:
        try:
            text = os.fsdecode(path)  # type: ignore[arg-type]
        except TypeError:
            return False  # a descriptor
        return text.startswith((self.base, f"/tmp/scriptorium-{os.geteuid()}/"))


def steps_file(directory: str, point: str) -> str:
    """Return the file for the steps of the git that starts after a point."""
    return os.path.join(directory, hashlib.sha256(point.encode()).hexdigest()[:16])  # noqa: PTH118


def take_out(name: str) -> None:
    """Make a function of the product do nothing, and return a valid empty result."""
    module, _, path = name.partition(":")
    holder: Any = importlib.import_module(module)
    *within, last = path.split(".")
    for part in within:
        holder = getattr(holder, part)
    found = str(getattr(holder, last).__annotations__["return"])
    setattr(holder, last, lambda *_, **__: [] if found.startswith("list") else None)


def _argv(args: Any) -> str:
    return " ".join(os.fsdecode(word) for word in args) if not isinstance(args, str) else args


def _changes(event: str, path: Any) -> bool:
    """Return whether a call changes anything: it creates nothing that exists, and removes nothing that is gone."""
    return os.path.lexists(path) is not (event == "os.mkdir")


def watch(verb: str) -> None:
    """Watch this process until its end."""
    points = _Points(verb)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            point = points.pass_by(_argv(args[1]), "before")
            if os.fsdecode(args[0]).rpartition("/")[2] == "git" and args[3] is not None:
                points.enter(point, args[3])  # the same dictionary that git gets
        elif event == "os.exec":
            points.pass_by(f"{_argv(args[1])} of fork {points.forks}", "exec")
        elif event == "os.fork":
            points.forks += 1  # the counts of the child are lost with it
            points.pass_by("fork", "before")
        elif event == "os.kill":
            points.pass_by(f"kill {args[1]}", "before")
        elif event in ("socket.bind", "socket.connect") and isinstance(args[1], str):
            points.pass_by(f"{event} {args[1]}", "before")
        elif event == "open" and isinstance(args[2], int) and args[2] & _WRITES and points.inside(args[0]):
            points.pass_by(f"write {os.fsdecode(args[0])}", "before")
        elif event in _PATHS and points.inside(args[_PATHS[event][0]]) and _changes(event, args[0]):
            paths = " ".join(os.fsdecode(args[number]) for number in _PATHS[event])
            points.pass_by(f"{event} {paths}", "before")

    _wrap_files(points)
    _wrap_programs(points)
    sys.addaudithook(hook)


def _wrap_files(points: _Points) -> None:
    """Record when a file that is written exists, and when it is complete."""
    plain, plain_os = io.open, os.open

    def opened(file: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
        result = plain(file, mode, *args, **named)
        if set(mode) & set("wax+") and points.inside(file):
            what = f"write {os.fsdecode(file)}"
            result.close = _once(  # type: ignore[method-assign]
                result.close, lambda: points.pass_by(what, "after")
            )
            points.pass_by(what, "while")
        return result

    def opened_os(path: Any, flags: int, *args: Any, **named: Any) -> int:
        result = plain_os(path, flags, *args, **named)
        if flags & _WRITES and points.inside(path):
            points.pass_by(f"write {os.fsdecode(path)}", "after")
        return result

    builtins.open = io.open = opened
    os.open = opened_os


def _once(close: Callable[[], None], record: Callable[[], object]) -> Callable[[], None]:
    done = False

    def closing() -> None:
        nonlocal done
        close()
        if not done:
            done = True
            record()

    return closing


def _wrap_programs(points: _Points) -> None:
    """Record the end of a program, except `git cat-file`, which ends with this process."""
    plain = subprocess.Popen.communicate

    def communicate(self: Any, *args: Any, **named: Any) -> Any:
        result = plain(self, *args, **named)
        argv = _argv(self.args)
        if "cat-file" not in argv:
            points.pass_by(argv, "after")
        return result

    subprocess.Popen.communicate = communicate  # type: ignore[method-assign]
