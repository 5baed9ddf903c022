"""Constants and helpers for the tests of `scriptorium plan`, and a command on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.support import PLAN, Project, until

ANSWER = "I wrote it."
WRITES = f'cat > ../prompt; echo "# Tool" > spec.md; echo "{ANSWER}"'
DIFF = """\
--- a/spec.md
+++ b/spec.md
@@ -1,3 +1 @@
-# Spec
-
-Nothing is planned yet: run `scriptorium plan` to write this file.
+# Tool
"""
PROMPT = "\x1b[?2004h"  # bracketed paste is on, so that the prompt waits for input
HELP = """\
/show  print the current spec.md
/new   begin another conversation
/help  list the commands
/quit  leave (so does the end of input)
anything else is a request to the Architect
"""


def refs(project: Project) -> list[str]:
    return project.git("for-each-ref", "--format=%(refname)").splitlines()


def worktree(project: Project) -> Path:
    return project.paths.plan_worktree


def interrupt(project: Project) -> Path:
    """Create the planning worktree as left by a killed run, and return its path."""
    path = worktree(project)
    project.paths.ensure(path.parent)
    project.git("worktree", "add", "--quiet", "--detach", str(path), PLAN)
    return path


def prompt(project: Project) -> str:
    return (worktree(project).parent / "prompt").read_text()


def hint(err: str) -> str:
    """Return the command that the last line of an error proposes."""
    last = err.splitlines()[-1]
    assert last.startswith("hint: ")
    return last.rpartition(": ")[2]


def shell(project: Project, command: str) -> str:
    return subprocess.run(
        ["sh", "-c", command], cwd=project.root, capture_output=True, text=True, check=True, env=os.environ
    ).stdout


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, project: Project, *argv: str, **env: str) -> None:
        self._main, other = pty.openpty()
        os.set_blocking(self._main, False)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, sys.executable, "-m", "scriptorium", *argv],
            cwd=project.root,
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **env},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.seen = ""
        self._read = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)

    def _more(self) -> None:
        try:
            self.seen += os.read(self._main, 65536).decode()
        except OSError:  # no output yet, or the other end is closed
            return

    def expect(self, text: str) -> None:
        """Wait until a text appears after the previous one."""

        deadline = time.monotonic() + 20
        while text not in self.seen[self._read :] and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
            self._more()
        assert text in self.seen[self._read :], repr(self.seen)
        self._read = self.seen.index(text, self._read) + len(text)

    def settings(self) -> list[object]:
        """Return the settings of the terminal, such as its echo."""
        return termios.tcgetattr(self._main)

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def type(self, text: str, end: str = "\r") -> None:
        os.write(self._main, f"{text}{end}".encode())

    def code(self) -> int:
        """Wait for the end and return the exit code."""

        def over() -> bool:
            self._more()
            return self._process.poll() is not None

        until(over)
        return self._process.wait()


# makes the terminal the controlling one, so that Ctrl-C is a signal
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
