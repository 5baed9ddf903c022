"""Pruning registrations of our worktrees whose directories are gone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from time import time

from scriptorium.errors import is_resource_error
from scriptorium.git.repository import Repository
from scriptorium.git.worktree_list import is_half_made, read_git_file, worktree_path
from scriptorium.plan.ticket import BRANCH_PREFIX

_OF_TICKET = os.fsencode(f"ref: refs/heads/{BRANCH_PREFIX}")

_OURS = re.compile(r"(plan|health|source)\d*")
"""The names that git gives to our worktrees without a branch."""

CREATION_TIME = 60.0
"""Seconds within which git writes the path of a new worktree, unless it was killed."""


def prunable(repository: Repository, home: Path) -> Iterator[tuple[Path, Path]]:
    """Yield path and git directory of missing worktrees below ``home``, and of incomplete registrations.

    An incomplete registration has no path; its git directory stands for it.
    """
    for directory, link in _links(repository):
        place = worktree_path(directory, link) if link else directory
        if _is_gone(place, home) if link else not _is_whole(directory):
            yield place, directory


def without_gitdir(repository: Repository) -> Iterator[Path]:
    """Yield complete registrations that have lost their path in a crash; the user may be able to repair them."""
    return (directory for directory, link in _links(repository) if not link and _is_whole(directory))


def _links(repository: Repository) -> Iterator[tuple[Path, bytes]]:
    """Yield the git directories of linked worktrees, and their ``gitdir`` link; skip worktrees that git is creating."""
    for directory in (repository.common_dir / "worktrees").glob("*"):
        try:
            link = (directory / "gitdir").read_bytes().strip()
        except FileNotFoundError:
            link = b""
        except OSError as error:
            if is_resource_error(error):
                raise
            continue  # it is there, but cannot be read now
        if link or not _is_being_made(directory):
            yield directory, link


def unreferenced_head(repository: Repository, git_dir: Path) -> str:
    """Return the commit of a detached HEAD that no ref contains, or ''."""
    try:
        head = (git_dir / "HEAD").read_text(errors="replace").strip()
    except OSError:
        return ""
    known = not repository.resolve(head) or repository.git("for-each-ref", "--count=1", f"--contains={head}")[1]
    return "" if known else head


def prune(repository: Repository, home: Path) -> None:
    """Remove the registrations of missing worktrees below ``home``.

    `git worktree prune` would also remove those of the user, whose disk may be missing for a while.
    """
    for place, directory in list(prunable(repository, home)):
        if _is_being_made(directory):
            continue
        remnant = place == directory
        if remnant or repository.git("worktree", "remove", "--force", "--force", str(place), accept=(0, 128))[0]:
            rmtree(directory, ignore_errors=True)  # incomplete; git's own clean-up does the same


def _is_whole(directory: Path) -> bool:
    """Return whether a registration without a path is complete otherwise; an interrupted removal leaves ours so."""
    head = read_git_file(directory / "HEAD")
    is_ours = head.startswith(_OF_TICKET) or (not head.startswith(b"ref: ") and _OURS.fullmatch(directory.name))
    whole = head and read_git_file(directory / "index") and read_git_file(directory / "commondir")
    return bool(whole) and not is_ours and not is_half_made(directory)


def _is_being_made(directory: Path) -> bool:
    """Return whether git is creating a worktree now and will write its path in a moment."""
    try:
        return time() - (directory / "locked").stat().st_mtime < CREATION_TIME
    except OSError:
        return False


def _is_gone(place: Path, home: Path) -> bool:
    """Return whether a worktree below ``home`` is missing; git records paths with symbolic links resolved."""
    with suppress(OSError):  # a path that we may not look at counts as present
        return not {home, home.resolve()}.isdisjoint(place.parents) and not place.exists()
    return False
