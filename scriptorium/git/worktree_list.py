"""The worktrees of a repository as git lists them: their branches, and how to add and remove one.

Sources: git-worktree(1), gitrepository-layout(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR
from typing import NamedTuple

from scriptorium.errors import is_resource_error
from scriptorium.git.discovery import gitfile
from scriptorium.git.environment import options_for
from scriptorium.git.errors import ErrorKind, GitError
from scriptorium.git.repository import Repository


def lock_reason(git_dir: Path) -> str | None:
    """Return the reason why a worktree is locked, or None if it is not locked (git-worktree, lock)."""
    try:
        return (git_dir / "locked").read_text(errors="replace").strip()
    except FileNotFoundError:
        return None


def is_half_made(git_dir: Path) -> bool:
    """Return whether a worktree is incomplete: `git worktree add` has not finished, or was killed."""
    return lock_reason(git_dir) == "initializing"


# -- branches -----------------------------------------------------------------------------------------------


class BranchWorktree(NamedTuple):
    """A worktree with a branch checked out, and its own git directory."""

    git_dir: Path
    path: Path
    is_missing_but_locked: bool
    """Whether its directory is missing, but the lock says that it will come back."""


def present_worktrees_on(repository: Repository, branch: str) -> list[Path]:
    """Return the worktrees that have a branch checked out, without the missing ones, the main one first."""
    return [holder.path for holder in worktrees_on(repository, branch) if not holder.is_missing_but_locked]


def worktrees_on(repository: Repository, branch: str) -> list[BranchWorktree]:
    """Return the worktrees that have a branch checked out, including those on a disk that is not mounted.

    Every transition needs this, and a process would double its cost. So this reads the HEAD files; only a reftable
    repository, which has none, takes a process.
    """
    heads = {place: _branch(repository, place[0]) for place in all_worktrees(repository)}
    if ".invalid" in heads.values():
        told = _worktrees_by_git(repository, branch)
        heads = {place: branch if place[1].resolve() in told else "" for place in heads}
    found = [_branch_worktree(repository, *place) for place, head in heads.items() if head == branch]
    return [holder for holder in found if holder]


def _branch(repository: Repository, git_dir: Path) -> str:
    """Return the branch of HEAD, or ''. With core.preferSymlinkRefs, HEAD is a symbolic link."""
    try:
        ref = os.fsencode((git_dir / "HEAD").readlink())
    except OSError:
        ref = read_git_file(git_dir / "HEAD").removeprefix(b"ref: ")
    return _branch_of_ref(repository, ref)


def _branch_of_ref(repository: Repository, ref: bytes) -> str:
    """Return the branch that a ref stands for, or ''."""
    name = os.fsdecode(ref).removeprefix("refs/heads/")
    return repository.resolve_branch(name) if ref.startswith(b"refs/heads/") else ""


def _worktrees_by_git(repository: Repository, branch: str) -> set[Path]:
    """Return the paths of the worktrees that have a branch checked out, as git lists them."""
    out = os.fsdecode(repository.git("worktree", "list", "--porcelain")[1])
    facts = [dict(line.partition(" ")[::2] for line in block.split("\n")) for block in out.strip("\n").split("\n\n")]
    return {Path(one["worktree"]).resolve() for one in facts if one.get("branch") == f"refs/heads/{branch}"}


def rebase_in_progress(repository: Repository, branch: str) -> Path | None:
    """Return the git directory of the worktree that rebases a branch, or None. HEAD is detached there meanwhile."""
    for git_dir, path in all_worktrees(repository):
        for kind in ("rebase-merge", "rebase-apply"):
            name = _branch_of_ref(repository, read_git_file(git_dir / kind / "head-name"))
            if name == branch and _branch_worktree(repository, git_dir, path):
                return git_dir
    return None


def all_worktrees(repository: Repository) -> Iterator[tuple[Path, Path]]:
    """Yield git directory and path of all worktrees, the main one first."""
    if not repository.is_bare:
        yield repository.common_dir, repository.root
    for git_dir in (repository.common_dir / "worktrees").glob("*"):
        if link := read_git_file(git_dir / "gitdir"):  # otherwise git is adding or removing it at this moment
            yield git_dir, worktree_path(git_dir, link)


def read_git_file(file: Path) -> bytes:
    """Return the content of one of git's files without the final newline, or nothing if it is missing."""
    try:
        return file.read_bytes().strip()
    except OSError as error:
        if is_resource_error(error):
            raise  # to report no worktree would let a branch move under its files
        return b""


def worktree_path(git_dir: Path, link: bytes) -> Path:
    """Return the path of a linked worktree, present or not. Since git 2.48, links may be relative
    (worktree.useRelativePaths).
    """
    return Path(os.path.normpath(git_dir / os.fsdecode(link))).parent


def _branch_worktree(repository: Repository, git_dir: Path, path: Path) -> BranchWorktree | None:
    """Return a worktree that is present or on an unmounted disk; None if it was removed or is another repository's.

    A copied repository still lists the worktrees of the original.
    """
    if git_dir == repository.common_dir:
        return BranchWorktree(git_dir, path, False) if _is_directory(path) else None
    try:
        named = path / gitfile(path / ".git")
        ours = not named.exists() or named.samefile(git_dir)  # it leads nowhere after the repository has moved
    except (FileNotFoundError, NotADirectoryError):
        # git-worktree(1): lock a worktree on a disk that is not always mounted
        is_away = lock_reason(git_dir) is not None and not is_half_made(git_dir)
        return BranchWorktree(git_dir, path, True) if is_away else None
    except ValueError:
        ours = False
    except OSError as error:
        if is_resource_error(error):
            raise
        ours = True  # to be safe
    return BranchWorktree(git_dir, path, False) if ours else None


def _is_directory(path: Path) -> bool:
    """Return whether a directory exists; True if that cannot be determined."""
    try:
        return S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if is_resource_error(error):
            raise
        return True


# -- add and remove -----------------------------------------------------------------------------------------


def add(repository: Repository, path: Path, branch: str = "", start: str = "") -> None:
    """Add a worktree with ``branch``, created at ``start`` if given; without a branch, with ``start`` detached."""
    if branch and start:
        # --no-track: concurrent calls would compete for the lock of the configuration file
        target = ["--no-track", "-b", branch, str(path), start]
    elif branch:
        target = [str(path), branch]
    else:
        target = ["--detach", str(path), start]
    # twice: an incomplete worktree is locked
    repository.git(*options_for(path), "worktree", "add", "--quiet", "--force", "--force", *target)


def remove(repository: Repository, path: Path) -> None:
    """Remove a worktree and everything in it. The caller must have kept its work."""
    repository.git("worktree", "remove", "--force", "--force", str(path))


def remove_if_clean(repository: Repository, path: Path) -> bool:
    """Remove a worktree if git finds it clean, and return whether it did."""
    whole = ("-c", "status.showUntrackedFiles=all", *options_for(path))
    try:
        repository.git(*whole, "worktree", "remove", str(path))
    except GitError as error:
        if error.kind is not ErrorKind.DIRTY:
            raise
        return False
    return True
