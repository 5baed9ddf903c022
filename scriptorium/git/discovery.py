"""Discovery of a repository's main worktree."""

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
"""A file in a git directory outside its worktree: the path of the main worktree, which git does not record."""


def gitfile(file: Path) -> str:
    """Return the git directory that a .git file names. Raises ValueError for any other file; a pipe does not block."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        text = os.fsdecode(os.read(descriptor, 8192)) if S_ISREG(os.fstat(descriptor).st_mode) else ""
    finally:
        os.close(descriptor)
    if not text.startswith("gitdir: "):
        raise ValueError(f"'{file}' names no git directory")
    return text.removeprefix("gitdir: ").strip()


def _leads_to(link: Path, common: Path) -> bool:
    """Return whether a .git is the git directory, a symbolic link to it, or a file that names it."""
    try:
        return (link if link.is_dir() else link.parent / gitfile(link)).samefile(common)
    except (OSError, ValueError):
        return False


def _noted_root(common: Path) -> Path | None:
    try:
        root = Path((common / ROOT).read_text(errors="surrogateescape").removesuffix("\n"))
    except OSError:
        return None
    return root if root.is_absolute() else None  # a loss of power leaves it empty


def note_root(common: Path, root: Path) -> None:
    """Record the path of the main worktree, for commands that run in a linked one."""
    if _noted_root(common) != root:
        with suppress(OSError):  # then a command in a linked worktree fails with a hint
            replace_file(common / ROOT, f"{root}\n", 0o644)


def main_worktree(common: Path) -> tuple[Path, bool]:
    """Return the path of the main worktree, and whether the repository is bare; for use in a linked worktree.

    From there git guesses the parent of the git directory, or the git directory itself; either may be wrong.
    """
    where = ("-C", str(common), "--git-dir", str(common))
    status, out, err = query_git(*where, "rev-parse", "--is-bare-repository", "--show-toplevel", accept=(0, 128))
    lines = lines_of(out)
    if lines == ["true"]:
        return common.parent if common.name == ".git" else common, True
    if status:
        raise GitError(("rev-parse",), status, err)
    named = Path(lines[-1])
    if named != common:  # core.worktree
        return named, False
    for root in (_noted_root(common), common.parent):
        if root and _leads_to(root / ".git", common):
            return root, False
    raise ScriptoriumError(
        f"cannot tell where the main working tree of '{common}' is",
        "run 'scriptorium status' there once, then try again",
    )
