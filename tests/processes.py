"""Processes of the tests: scriptorium in the foreground or the background, and checks that a process is alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from scriptorium.system.watchdog import members
from tests import fork_server
from tests.fork_server import Forked

T = TypeVar("T")


def until(fact: Callable[[], T], seconds: float = 60) -> T:
    """Wait until a condition is true and return its value; fail the test if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {fact}"
        time.sleep(0.01)
    return found


class Result(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return pid in members("no mark", pid)


BUSY = """
setsid sleep 600 & other=$!
sh -c 'setsid sh -c "trap \\"\\" INT TERM; exec sleep 600" & echo $! >"$FACTS/orphan"'
echo $$ $other $(cat "$FACTS/orphan") >"$FACTS/new"; mv "$FACTS/new" "$FACTS/pids"
exec sleep 600
"""
"""A script that hangs, with one child in its own session and one orphan that ignores signals."""


def busy_pids(facts: Path) -> list[int]:
    """Return the processes of a program that runs BUSY, once it has started them."""
    until((facts / "pids").exists)
    return [int(word) for word in (facts / "pids").read_text().split()]


Process = subprocess.Popen[str] | Forked

WITHOUT_TOOLS = (
    "-c",
    "from scriptorium.agents.tools import endpoint; from scriptorium.main import main\n"
    "endpoint.Endpoint.ready = lambda endpoint, role='': endpoint.address\n"
    "main()",
)
"""A `Project.python` for agents that call no tool by MCP: its server takes most of a second to start."""


def launch(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    python: Sequence[str],
) -> Process:
    """Start `scriptorium <argv>` with further variables."""
    environ = {**os.environ, **env}
    if fork_server.can_serve(environ):
        return fork_server.server().fork(argv, cwd, environ, stdin, stdout, stderr, python)
    return subprocess.Popen(
        [sys.executable, *python, *argv],
        cwd=cwd,
        env=environ,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        encoding="utf-8",
        errors="surrogateescape",
    )


class Started:
    """A command that runs in the background, with its output in files."""

    def __init__(self, process: Process, stdout: Path, stderr: Path) -> None:
        self.process, self._stdout, self._stderr = process, stdout, stderr

    @property
    def out(self) -> str:
        return self._stdout.read_text()

    @property
    def err(self) -> str:
        return self._stderr.read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Wait until the command has printed a text so many times."""
        until(lambda: self.out.count(text) >= times or self.process.poll() is not None)
        assert self.out.count(text) >= times, self.out + self.err

    def end(self, signum: int = 0) -> Result:
        """Send the command a signal, unless that is 0, wait for its end and return its result."""
        if signum:
            self.process.send_signal(signum)
        code = self.process.wait(60)
        return Result(code if code >= 0 else 128 - code, self.out, self.err)
