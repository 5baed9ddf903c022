"""Git objects, and a reader for them."""

from __future__ import annotations

import os
import threading
from functools import cached_property
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

from scriptorium.errors import ScriptoriumError
from scriptorium.git.command import start_git


class Object(NamedTuple):
    """One object as git stores it."""

    oid: str
    kind: str
    data: bytes


class ObjectReader:
    """A running `git cat-file --batch`, which reads an object or ref in a tenth of a millisecond."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        self._process: Any = None
        self._packed: object = None
        self._lock = threading.Lock()

    def read(self, name: str) -> Object | None:
        """Return the object with a name (an object id, a ref, ``<commit>:<path>``), or None."""
        if "\n" in name:
            return None
        with self._lock:
            self._forget_packed()
            for _ in range(2):  # restart a process that died, once
                try:
                    return self._ask(name)
                except (BrokenPipeError, EOFError):
                    self._end()
                except BaseException:
                    self._end()  # the rest of the answer is still in the pipe
                    raise
        raise ScriptoriumError(
            f"'git cat-file' ended unexpectedly while it read '{name}'",
            "check the repository with 'git fsck'; a partial clone also needs its remote",
        )

    def _forget_packed(self) -> None:
        """End the process when refs were packed: git compares times in seconds, and would use an outdated list."""
        try:
            found = (self._git_dir / "packed-refs").stat()
        except OSError:
            packed = None
        else:
            packed = (found.st_ino, found.st_mtime_ns, found.st_size)
        if packed != self._packed:
            self._packed = packed
            self._end()

    def _ask(self, name: str) -> Object | None:
        if self._process is None:
            argv = ("--git-dir", str(self._git_dir), "cat-file", "--batch")
            self._process = start_git(argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        self._process.stdin.write(os.fsencode(name) + b"\n")
        self._process.stdin.flush()
        header = self._process.stdout.readline()
        if not header:
            raise EOFError
        fields = header.decode(errors="replace").split()
        if fields[-1] in ("missing", "ambiguous", "submodule"):
            return None
        oid, kind, size = fields
        data = self._process.stdout.read(int(size) + 1)
        if len(data) != int(size) + 1:
            raise EOFError
        return Object(oid, kind, data[:-1])

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """End the process; the next read starts another."""
        with self._lock:
            if self._process is not None:
                self._process.communicate()  # it exits at the end of its input
                self._process = None

    def __del__(self) -> None:
        self.close()  # otherwise plumbum waits 200 ms for a process that is never told to exit


class TreeEntry(NamedTuple):
    """An entry of a tree: a file (mode 100644, …) or a directory (mode 40000)."""

    mode: str
    name: str
    oid: str

    @property
    def is_directory(self) -> bool:
        return self.mode == "40000"

    @property
    def is_link(self) -> bool:
        """Whether it is a gitlink: a submodule, or a repository that was added by accident."""
        return self.mode == "160000"


class Difference(NamedTuple):
    """A path at which two trees differ, with the entry of each."""

    path: str
    old: TreeEntry | None
    new: TreeEntry | None


class Tree(dict[str, TreeEntry]):
    """The entries of one tree by name, in git's order. Read-only."""

    @cached_property
    def documents(self) -> tuple[str, ...]:
        """The Markdown files, without their suffix, in order; there may be ten thousand."""
        files = [name for name, entry in self.items() if entry.mode.startswith("100")]
        return tuple(sorted(name[:-3] for name in files if name.endswith(".md")))


class Commit(NamedTuple):
    """A commit as git stores it; ``committer`` is name, address and time."""

    oid: str
    parents: tuple[str, ...]
    committer: str
    message: str
