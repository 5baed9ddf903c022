"""The only module that starts git. Object data is bytes, names are text.

Sources: git(1), git-config(1), git-cat-file(1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git import stale_locks
from scriptorium.git.environment import DURABLE, durable_settings, git_environment
from scriptorium.git.errors import ErrorKind, GitError, classify, lock_in

MINIMUM = (2, 34)  # Ubuntu 22.04


TIMEOUT = 1800.0
"""Seconds for git in a worktree, where an agent may have left a named pipe that blocks every reader."""


MAX_TRIES = 5
"""Tries of a command that a concurrent `git gc` disturbs."""


def _missing() -> ScriptoriumError:
    return ScriptoriumError("'git' is not on PATH", "install git", ExitCode.CONFIG)


def run_git(
    *argv: str, cwd: Path | None = None, data: bytes = b"", accept: Container[int] = (0,)
) -> tuple[int, bytes, str]:
    """Run git and return (exit status, stdout, stderr). Raises GitError for a status that is not accepted.

    Removes stale locks that stop it, one with each retry, and retries while a concurrent `git gc` disturbs it.
    """
    tries = 1
    while (found := _run_once(argv, cwd, data))[0] and _is_worth_a_retry(found, tries):
        tries += 1
    return _check_status(argv, found, accept)


def _is_worth_a_retry(found: tuple[int, bytes, str], tries: int) -> bool:
    """Return whether the obstacle is gone: a stale lock, which this removes, or a concurrent `git gc`."""
    status, _, stderr = found
    if stale_locks.remove_if_stale(lock_in(stderr)):
        return True
    return classify(stderr, status) is ErrorKind.PRUNED and tries < MAX_TRIES


def _run_once(argv: Sequence[str], cwd: Path | None, data: bytes) -> tuple[int, bytes, str]:
    from plumbum import CommandNotFound, local  # late: `status` calls `query_git` alone

    environment = git_environment()
    if cwd is not None:
        # a worktree without its .git file must be an error; git must not find the repository around it
        environment["GIT_CEILING_DIRECTORIES"] = str(cwd.parent)
    streams = {"stdin": PIPE if data else DEVNULL, "stdout": PIPE, "stderr": PIPE}
    try:
        # its own session, so that Ctrl-C on a terminal reaches this program alone
        process: Any = local["git"].popen(argv, cwd=str(cwd or Path("/")), env=environment, new_session=True, **streams)
    except CommandNotFound as error:
        raise _missing() from error
    return _communicate(process, argv, data, TIMEOUT if cwd else None)


def query_git(*argv: str, accept: Container[int] = (0,)) -> tuple[int, bytes, str]:
    """Run git like `run_git`, without retries and without the slow import of plumbum.

    Every command begins with such queries.
    """
    return _check_status(argv, _communicate(start_git(argv, stdout=PIPE, stderr=PIPE), argv, b""), accept)


def start_git(argv: Sequence[str], **streams: Any) -> Popen[bytes]:
    """Start git and return its process."""
    environment = {**os.environ, **git_environment()}
    streams = {"stdin": DEVNULL, **streams}
    try:
        return Popen(["git", *argv], cwd="/", env=environment, start_new_session=True, **streams)
    except FileNotFoundError as error:
        raise _missing() from error


def _communicate(process: Any, argv: Sequence[str], data: bytes, limit: float | None = None) -> tuple[int, bytes, str]:
    try:
        stdout, stderr = process.communicate(data or None, limit)
    except TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)
        process.communicate()
        raise GitError(argv, -SIGKILL, f"error: timed out after {limit:g} seconds") from None
    return process.returncode, stdout, stderr.decode(errors="replace")


def _check_status(argv: Sequence[str], found: tuple[int, bytes, str], accept: Container[int]) -> tuple[int, bytes, str]:
    status, _, stderr = found
    if status not in accept:
        raise GitError(argv, status, stderr)
    return found


def lines_of(out: bytes) -> list[str]:
    """Return the lines that git printed. Only a newline ends a line; a name may hold U+2028 and the like."""
    return os.fsdecode(out).split("\n")[:-1]


def check_version() -> str:
    """Return git's version. Raises if it is too old."""
    text = query_git("version")[1].decode().strip()
    found = re.search(r"(\d+)\.(\d+)", text)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        raise ScriptoriumError(f"'{text}' is too old", f"install git {wanted} or newer", ExitCode.CONFIG)
    durable_settings.clear()
    durable_settings.update(next(settings for first, settings in DURABLE if version >= first))
    return text


@contextmanager
def locked_refs(git_dir: Path, *updates: str) -> Iterator[Callable[[], None]]:
    """Lock refs for a block, and yield a function that commits the updates (git-update-ref, --stdin)."""
    argv = ("--git-dir", str(git_dir), "update-ref", "-m", "scriptorium", "--stdin")
    while True:
        process = start_git(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        try:
            _send(process, argv, "start", *updates, "prepare")
            break
        except GitError as error:
            if not stale_locks.wait_for_release(error.lock):
                raise
    try:
        yield lambda: _send(process, argv, "commit")
    finally:
        process.communicate()  # the end of its input releases the locks


def _send(process: Popen[bytes], argv: Sequence[str], *orders: str) -> None:
    """Send orders to `git update-ref --stdin`, and wait until the last one is done."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write("".join(f"{order}\n" for order in orders).encode())
        process.stdin.flush()
    while (line := process.stdout.readline()) != f"{orders[-1]}: ok\n".encode():
        if not line:
            _, err = process.communicate()
            raise GitError(argv, process.returncode, err.decode(errors="replace"))
