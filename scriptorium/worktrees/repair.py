"""Repairing worktrees and refs that an interrupted git, or a crash of the machine, has left broken."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate, Repository
from scriptorium.git.worktree import Worktree
from scriptorium.git.worktree_list import all_worktrees, is_half_made
from scriptorium.plan.snapshot import ZERO
from scriptorium.project.workspace import Workspace

log = logging.getLogger(__name__)


def remove_half_made(workspace: Workspace, path: Path) -> None:
    """Remove an unfinished worktree of an interrupted `git worktree add`; nobody has worked in it yet."""
    with suppress(OSError, GitError):
        if path.is_dir() and not path.is_symlink() and all(map(_is_empty_gitfile, path.iterdir())):
            shutil.rmtree(path)
            return
        git_dir = Worktree(workspace.repository, path).directory()
        if is_half_made(git_dir):
            shutil.rmtree(path)
            shutil.rmtree(git_dir)  # an empty file in it makes git fail


def _is_empty_gitfile(file: Path) -> bool:
    """Return whether a file is the empty ``.git`` that git creates first in a new worktree."""
    return file.name == ".git" and file.is_file() and not file.stat().st_size


def remove_stale_locks(workspace: Workspace, path: Path, branch: str = "") -> None:
    """Remove stale ``*.lock`` files of a worktree and of its branch.

    The caller must hold the lock of the worktree's purpose and have terminated leftover processes.
    """
    stale = [workspace.repository.common_dir / "refs" / "heads" / f"{branch}.lock"] if branch else []
    with suppress(GitError):  # a broken worktree is detected by the next step
        stale += Worktree(workspace.repository, path).directory().glob("*.lock")
    for lock in stale:
        lock.unlink(missing_ok=True)


def rebuild_broken_index(tree: Worktree) -> bool:
    """Write the index anew from HEAD if it is missing or torn; return whether that was needed."""
    index = tree.directory() / "index"
    if _is_whole(index):
        return False
    index.unlink(missing_ok=True)
    tree.read_index()
    return True


def _is_whole(index: Path) -> bool:
    """Return whether an index has its checksum at the end (gitformat-index); a crash leaves it empty or torn.

    An index without a checksum (index.skipHash) counts as whole.
    """
    try:
        data = index.read_bytes()
    except FileNotFoundError:
        return False
    sums = (hashlib.sha1(data[:-20], usedforsecurity=False).digest(), hashlib.sha256(data[:-32]).digest(), bytes(20))
    return data.startswith(b"DIRC") and data.endswith(sums)


def repair_ref(workspace: Workspace, ref: str) -> bool:
    """Remove a ref's file that a crash has left empty, and restore its value; return whether the ref has one."""
    repository = workspace.repository
    file = repository.common_dir / ref
    if not file.is_file() or file.read_bytes().strip(b"\0"):
        return False
    file.unlink()
    packed = repository.resolve(ref)
    tip = _last_known(repository, repository.common_dir / "logs" / ref)
    log.warning("'%s' was empty; restored %s", ref, tip[:12] or packed[:12] or "no value")
    if tip:
        repository.update_refs(RefUpdate(ref, tip, packed or ZERO))
    return bool(repository.resolve(ref))


def recreate_ref(workspace: Workspace, ref: str, reflog: Path) -> str:
    """Create a missing ref at the newest commit of a reflog, or else at master, and return the commit."""
    tip = _last_known(workspace.repository, reflog) or workspace.master_commit()
    workspace.repository.update_refs(RefUpdate(ref, tip, ZERO))
    return tip


def _last_known(repository: Repository, reflog: Path) -> str:
    """Return the newest commit in a reflog, or '' if there is none or git does not have it."""
    try:
        lines = reflog.read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    words = [word for line in reversed(lines) for word in line.split()[1::-1]]
    newest = next((word for word in words if word.strip("0")), "")
    return repository.resolve(newest) if newest else ""


def restore_gitfile(repository: Repository, path: Path) -> None:
    """Write the ``.git`` file of a worktree that has lost it.

    `git worktree repair` would do so in every registered place, where something else may be by now.
    """
    if not path.is_dir() or path.is_symlink() or os.path.lexists(path / ".git"):
        return
    found = [git_dir for git_dir, place in all_worktrees(repository) if place == path.parent.resolve() / path.name]
    if len(found) == 1:
        (path / ".git").write_text(f"gitdir: {found[0]}\n", errors="surrogateescape")
