"""The list that git keeps of a repository's worktrees: who has which branch, who is gone, who comes and goes.

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
    """Return why a worktree is locked, None when it is not (git-worktree, lock)."""
    try:
        return (git_dir / "locked").read_text(errors="replace").strip()
    except FileNotFoundError:
        return None


def is_half_made(git_dir: Path) -> bool:
    """Tell whether `git worktree add` is still at it, or was killed: until its end it holds this lock."""
    return lock_reason(git_dir) == "initializing"


# -- who has a branch ---------------------------------------------------------------------------------------


class BranchWorktree(NamedTuple):
    """A working tree that has a branch checked out, and the git directory of it alone."""

    git_dir: Path
    path: Path
    is_missing_but_locked: bool
    """Whether it is not in its place, and locked, so that it is to come back."""


def present_worktrees_on(repository: Repository, branch: str) -> list[Path]:
    """Return the working trees that have a branch checked out and are in their places, the main one first."""
    return [holder.path for holder in worktrees_on(repository, branch) if not holder.is_missing_but_locked]


def worktrees_on(repository: Repository, branch: str) -> list[BranchWorktree]:
    """Return the working trees that have a branch checked out, those included whose disk is away.

    Read from the HEAD files, because this is asked at every transition and a process each would double the cost; a
    reftable repository is asked by process.
    """
    heads = {place: _branch(repository, place[0]) for place in all_worktrees(repository)}
    if ".invalid" in heads.values():
        told = _worktrees_by_git(repository, branch)
        heads = {place: branch if place[1].resolve() in told else "" for place in heads}
    found = [_branch_worktree(repository, *place) for place, head in heads.items() if head == branch]
    return [holder for holder in found if holder]


def _branch(repository: Repository, git_dir: Path) -> str:
    """Return the branch that HEAD leads to, '' for none; core.preferSymlinkRefs makes it a link instead of a file."""
    try:
        ref = os.fsencode((git_dir / "HEAD").readlink())
    except OSError:
        ref = read_git_file(git_dir / "HEAD").removeprefix(b"ref: ")
    return _branch_of_ref(repository, ref)


def _branch_of_ref(repository: Repository, ref: bytes) -> str:
    """Return the branch that a ref stands for, '' for none."""
    name = os.fsdecode(ref).removeprefix("refs/heads/")
    return repository.resolve_branch(name) if ref.startswith(b"refs/heads/") else ""


def _worktrees_by_git(repository: Repository, branch: str) -> set[Path]:
    """Return the places of the working trees with a branch, as git tells them."""
    out = os.fsdecode(repository.git("worktree", "list", "--porcelain")[1])
    facts = [dict(line.partition(" ")[::2] for line in block.split("\n")) for block in out.strip("\n").split("\n\n")]
    return {Path(one["worktree"]).resolve() for one in facts if one.get("branch") == f"refs/heads/{branch}"}


def rebase_in_progress(repository: Repository, branch: str) -> Path | None:
    """Return the git directory in which a branch is being rebased; HEAD is detached there meanwhile."""
    for git_dir, path in all_worktrees(repository):
        for kind in ("rebase-merge", "rebase-apply"):
            name = _branch_of_ref(repository, read_git_file(git_dir / kind / "head-name"))
            if name == branch and _branch_worktree(repository, git_dir, path):
                return git_dir
    return None


def all_worktrees(repository: Repository) -> Iterator[tuple[Path, Path]]:
    """Yield git directory and place of all working trees, the main one first."""
    if not repository.is_bare:
        yield repository.common_dir, repository.root
    for git_dir in (repository.common_dir / "worktrees").glob("*"):
        if link := read_git_file(git_dir / "gitdir"):  # else it is being made, or removed, at this moment
            yield git_dir, worktree_path(git_dir, link)


def read_git_file(file: Path) -> bytes:
    """Return what is in one of git's files, without the end of its line; nothing where it is not there."""
    try:
        return file.read_bytes().strip()
    except OSError as error:
        if is_resource_error(error):
            raise  # to take it for none would move a branch under somebody's files
        return b""


def worktree_path(git_dir: Path, link: bytes) -> Path:
    """Return where a linked worktree is, or was; since git 2.48 it may be relative (worktree.useRelativePaths)."""
    return Path(os.path.normpath(git_dir / os.fsdecode(link))).parent


def _branch_worktree(repository: Repository, git_dir: Path, path: Path) -> BranchWorktree | None:
    """Return a working tree that is there, or away; None for what was removed by hand, or is another repository's.

    A repository that is a copy has a list of worktrees that are those of the one it was copied from.
    """
    if git_dir == repository.common_dir:
        return BranchWorktree(git_dir, path, False) if _is_directory(path) else None
    try:
        named = path / gitfile(path / ".git")
        ours = not named.exists() or named.samefile(git_dir)  # it leads nowhere since the repository was moved
    except (FileNotFoundError, NotADirectoryError):
        # git-worktree(1) says to lock one that is on a disk which is not always there
        is_away = lock_reason(git_dir) is not None and not is_half_made(git_dir)
        return BranchWorktree(git_dir, path, True) if is_away else None
    except ValueError:
        ours = False
    except OSError as error:
        if is_resource_error(error):
            raise
        ours = True  # as far as can be told
    return BranchWorktree(git_dir, path, False) if ours else None


def _is_directory(path: Path) -> bool:
    """Tell whether there is a directory, as far as can be told."""
    try:
        return S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if is_resource_error(error):
            raise
        return True


# -- who comes and goes -------------------------------------------------------------------------------------


def add(repository: Repository, path: Path, branch: str = "", start: str = "") -> None:
    """Check out ``branch``, made at ``start`` if that is given; without a branch, ``start`` detached."""
    if branch and start:
        # --no-track: several at once would fight over the configuration file
        target = ["--no-track", "-b", branch, str(path), start]
    elif branch:
        target = [str(path), branch]
    else:
        target = ["--detach", str(path), start]
    # forced twice, as one that was killed half way is locked
    repository.git(*options_for(path), "worktree", "add", "--quiet", "--force", "--force", *target)


def remove(repository: Repository, path: Path) -> None:
    """Remove a worktree whose work is kept elsewhere; what it still holds is gone."""
    repository.git("worktree", "remove", "--force", "--force", str(path))


def remove_if_clean(repository: Repository, path: Path) -> bool:
    """Remove a worktree that git finds clean; False, and nothing changed, where it does not."""
    whole = ("-c", "status.showUntrackedFiles=all", *options_for(path))
    try:
        repository.git(*whole, "worktree", "remove", str(path))
    except GitError as error:
        if error.kind is not ErrorKind.DIRTY:
            raise
        return False
    return True
