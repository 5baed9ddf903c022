"""Atomic writes, private directories, and writes that follow no symbolic link."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from scriptorium.errors import ScriptoriumError


def private_directory(path: Path) -> Path:
    """Create a directory with mode 0700 and return it; raise if another user could have prepared it."""
    hint = "set SCRIPTORIUM_ROOT to a directory of your own"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except FileExistsError:
        found = path.lstat()
    except OSError as error:
        raise ScriptoriumError(f"cannot create '{path}': {str(error.strerror).lower()}", hint) from error
    if stat.S_ISLNK(found.st_mode):
        raise ScriptoriumError(f"'{path}' is a symbolic link", hint)
    if not stat.S_ISDIR(found.st_mode):
        raise ScriptoriumError(f"'{path}' is not a directory", hint)
    if found.st_uid != os.geteuid():
        raise ScriptoriumError(f"'{path}' belongs to another user", hint)
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


DRAFT = ".draft"

DRAFT_AGE = 60.0
"""Seconds after which a draft is stale: its writer was killed."""


def replace_file(file: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file atomically: readers see the old text or the new text."""
    draft = file.with_name(f".{secrets.token_hex(4)}{DRAFT}")
    draft.write_text(text, errors="surrogateescape")
    draft.chmod(mode)
    draft.replace(file)


def next_log(directory: Path, stem: str, suffix: str) -> Path:
    """Create and return the first free ``<stem>-NN<suffix>`` in a directory; no two processes get the same file."""
    number = 1
    while True:
        path = directory / f"{stem}-{number:02d}{suffix}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path


def write_inside(worktree: Path, path: str, data: bytes) -> None:
    """Write a file into a worktree; follows no symbolic link, since a sandboxed agent may have made one."""
    name, draft = PurePath(path).name, f".{secrets.token_hex(8)}"
    with _inside(worktree, PurePath(path).parent) as directory:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=directory)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(data)
        os.replace(draft, name, src_dir_fd=directory, dst_dir_fd=directory)  # replaces a link, too


def remove_inside(worktree: Path, path: str) -> None:
    """Remove a file from a worktree; follows no symbolic link."""
    with _inside(worktree, PurePath(path).parent) as directory, suppress(FileNotFoundError):
        os.unlink(PurePath(path).name, dir_fd=directory)


@contextmanager
def _inside(worktree: Path, path: PurePath) -> Iterator[int]:
    """Open a directory of a worktree, creating missing levels.

    Each level is opened by itself, because the agent may replace one by a link meanwhile.
    """
    at = os.open(worktree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in path.parts:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=at)
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            except OSError as error:
                raise ScriptoriumError(f"'{path}' is a link", "make it a directory") from error
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)
