"""Constants and helpers for the tests of landing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from scriptorium.merge_queue import landing
from tests.support import Project

MASTER = "refs/heads/master"


def wait_message(name: str, checkout: Path, file: str) -> str:
    return (
        f"scriptorium: ticket '{name}' waits: local changes in '{checkout}' are in the way: '{file}'\n"
        "hint: commit or stash them\n"
    )


def user_state(project: Project) -> dict[str, str]:
    """Return all state that only the user may change."""
    foreign = {ref: oid for ref, oid in project.refs().items() if ref != MASTER and "scriptorium/" not in ref}
    return {
        "refs": repr(foreign),
        "stash": project.git("stash", "list", "-p"),
        "HEAD": (project.root / ".git" / "HEAD").read_text(),
        "config": (project.root / ".git" / "config").read_text(),
        "exclude": (project.root / ".git" / "info" / "exclude").read_text(),
        "staged": project.git("diff", "--cached"),
        "edited": project.git("diff"),
        "status": project.git("status", "--porcelain", "--branch"),
        "index flags": project.git("ls-files", "-v", "mine", "shared"),
    }


def begin_landing(project: Project) -> None:
    """Leave the mark of a landing that was killed as it began."""
    master, tested = project.git("rev-parse", "master", "scriptorium/ticket-0001").split()
    (project.root / ".git" / landing.MARK).write_text(f"{project.root}\n{master}\n{tested}\n")


def killed(project: Project, place: str, *argv: str) -> None:
    """Run a command and kill it when it calls a function of `UserCheckout`."""
    lines = ["import os, signal, sys", "from scriptorium import main"]
    lines += ["from scriptorium.git.user_checkout import UserCheckout"]
    lines.append(f"{place} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)")
    lines += [f"sys.argv = ['scriptorium', *{argv!r}]", "main.main()"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=project.root, check=False)
    assert done.returncode == -signal.SIGKILL
