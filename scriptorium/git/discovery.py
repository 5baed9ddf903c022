"""Finding the repository around a directory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from scriptorium.errors import ScriptoriumError
from scriptorium.git.command import lines_of, query_git
from scriptorium.git.errors import GitError
from scriptorium.system.files import replace_file

ROOT = "scriptorium-root"
"""A file in a git directory that lies elsewhere: the top of its main working tree, which git notes nowhere."""


def gitfile(file: Path) -> str:
    """Return what a .git file names; ValueError when it is none. A pipe in its place must not be waited for."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        text = os.fsdecode(os.read(descriptor, 8192)) if S_ISREG(os.fstat(descriptor).st_mode) else ""
    finally:
        os.close(descriptor)
    if not text.startswith("gitdir: "):
        raise ValueError(f"'{file}' names no git directory")
    return text.removeprefix("gitdir: ").strip()


def _leads_to(link: Path, common: Path) -> bool:
    """Tell whether a .git is a git directory, a link to it, or a file that names it."""
    try:
        return (link if link.is_dir() else link.parent / gitfile(link)).samefile(common)
    except (OSError, ValueError):
        return False


def _noted_root(common: Path) -> Path | None:
    try:
        root = Path((common / ROOT).read_text(errors="surrogateescape").removesuffix("\n"))
    except OSError:
        return None
    return root if root.is_absolute() else None  # it is empty after a loss of power


def note_root(common: Path, root: Path) -> None:
    """Note where the main working tree is, for who asks in a linked one."""
    if _noted_root(common) != root:
        with suppress(OSError):  # then it is asked for there
            replace_file(common / ROOT, f"{root}\n", 0o644)


def main_worktree(common: Path) -> tuple[Path, bool]:
    """Return the top of the main working tree, and whether there is none; asked in a linked one, which knows less.

    git takes the directory around the git directory for it, or that itself; that of another repository, perhaps.
    """
    where = ("-C", str(common), "--git-dir", str(common))
    status, out, err = query_git(*where, "rev-parse", "--is-bare-repository", "--show-toplevel", accept=(0, 128))
    lines = lines_of(out)
    if lines == ["true"]:
        return common.parent if common.name == ".git" else common, True
    if status:
        raise GitError(("rev-parse",), status, err)
    named = Path(lines[-1])
    if named != common:  # by core.worktree
        return named, False
    for root in (_noted_root(common), common.parent):
        if root and _leads_to(root / ".git", common):
            return root, False
    raise ScriptoriumError(
        f"cannot tell where the main working tree of '{common}' is",
        "run 'scriptorium status' there once, then try again",
    )
