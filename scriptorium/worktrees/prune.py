"""Worktree registrations whose directories are gone: which are ours, and forgetting them."""

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
"""What git calls the worktrees of ours that have no branch."""

CREATION_TIME = 60.0
"""Seconds after which a worktree that still has no place was left so by a git that was killed."""


def prunable(repository: Repository, home: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the worktrees below a directory that are gone, and remnants: where they were, and what git keeps of them.

    A remnant names no place, and stands for it itself.
    """
    for directory, link in _links(repository):
        place = worktree_path(directory, link) if link else directory
        if _is_gone(place, home) if link else not _is_whole(directory):
            yield place, directory


def without_gitdir(repository: Repository) -> Iterator[Path]:
    """Yield what git keeps of worktrees that have lost their place by a crash; a person may be able to mend it."""
    return (directory for directory, link in _links(repository) if not link and _is_whole(directory))


def _links(repository: Repository) -> Iterator[tuple[Path, bytes]]:
    """Yield the git directories of linked worktrees, and what they name as their place; nothing while being made."""
    for directory in (repository.common_dir / "worktrees").glob("*"):
        try:
            link = (directory / "gitdir").read_bytes().strip()
        except FileNotFoundError:
            link = b""
        except OSError as error:
            if is_resource_error(error):
                raise
            continue  # it is there, and cannot be read for now
        if link or not _is_being_made(directory):
            yield directory, link


def unreferenced_head(repository: Repository, git_dir: Path) -> str:
    """Return the commit at which a worktree's HEAD is detached, '' where a ref contains it or there is none."""
    try:
        head = (git_dir / "HEAD").read_text(errors="replace").strip()
    except OSError:
        return ""
    known = not repository.resolve(head) or repository.git("for-each-ref", "--count=1", f"--contains={head}")[1]
    return "" if known else head


def prune(repository: Repository, home: Path) -> None:
    """Forget the worktrees below a directory that are gone.

    `git worktree prune` would forget a person's as well, whose disk may be away for a while.
    """
    for place, directory in list(prunable(repository, home)):
        if _is_being_made(directory):
            continue
        remnant = place == directory
        if remnant or repository.git("worktree", "remove", "--force", "--force", str(place), accept=(0, 128))[0]:
            rmtree(directory, ignore_errors=True)  # half made, or half forgotten; git's own clean-up does so


def _is_whole(directory: Path) -> bool:
    """Tell whether a git directory that names no place has all else; of ours it is what a killed removal has left."""
    head = read_git_file(directory / "HEAD")
    is_ours = head.startswith(_OF_TICKET) or (not head.startswith(b"ref: ") and _OURS.fullmatch(directory.name))
    whole = head and read_git_file(directory / "index") and read_git_file(directory / "commondir")
    return bool(whole) and not is_ours and not is_half_made(directory)


def _is_being_made(directory: Path) -> bool:
    """Tell whether a worktree's git directory that names no place yet is to get one: within moments, or never."""
    try:
        return time() - (directory / "locked").stat().st_mtime < CREATION_TIME
    except OSError:
        return False


def _is_gone(place: Path, home: Path) -> bool:
    """Tell whether a worktree below a directory is not there any more; git names places by what links lead to."""
    with suppress(OSError):  # one that we may not look at counts as there
        return not {home, home.resolve()}.isdisjoint(place.parents) and not place.exists()
    return False
