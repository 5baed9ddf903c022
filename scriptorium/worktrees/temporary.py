"""Detached checkouts for the length of a block: a question, a planning run, the gate on master."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium.git import worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.worktree import Worktree
from scriptorium.project.workspace import Workspace
from scriptorium.system import process
from scriptorium.worktrees import repair, rescue
from scriptorium.worktrees.tickets import MAX_SETUP_WAIT, prune_worktrees

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Purpose:
    """The purpose of a temporary checkout, and how work that is left in it is kept by a rescue ref."""

    subject: str
    """The subject of the rescue ref; '' if nothing in the checkout can be work."""
    message: str = ""
    """The message of the commit that keeps the work."""
    why: str = ""
    """The reason that is logged."""


@contextmanager
def temporary_checkout(workspace: Workspace, path: Path, commit: str, purpose: Purpose) -> Iterator[Path]:
    """Check out a commit at a path, detached, for a block; the caller must hold a lock for the path.

    A checkout that an interrupted command has left there is discarded first, its processes terminated. Work that
    is left in either is kept as ``purpose`` says.
    """
    process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={path}")
    discard_checkout(workspace, path, purpose)
    workspace.paths.ensure(path.parent)
    # `git worktree add` fails when several run at once
    with workspace.hold("worktrees", wait=MAX_SETUP_WAIT):
        rescue.keep_detached_heads(workspace)
        worktree_list.add(workspace.repository, path, start=commit)
    try:
        yield path
    finally:
        try:
            discard_checkout(workspace, path, purpose)
        except GitError as error:
            log.warning("%s; '%s' stays until the next run", error.message, path)


def discard_checkout(workspace: Workspace, path: Path, purpose: Purpose) -> None:
    """Remove a temporary checkout, if there is one, and keep its work as ``purpose`` says.

    A directory that git cannot read is renamed. Raises GitError if the system lacks a resource, such as disk space;
    then the checkout stays.
    """
    if not os.path.lexists(path):
        return
    repair.remove_half_made(workspace, path)
    repair.remove_stale_locks(workspace, path)
    if not purpose.subject:
        _delete(workspace, path)
    elif _holds_work(workspace, path):
        rescue.rescue_and_remove(workspace, path, purpose.subject, purpose.why, purpose.message)
        prune_worktrees(workspace)
    elif os.path.lexists(path):
        with suppress(FileNotFoundError):  # another process may remove it at the same time
            worktree_list.remove(workspace.repository, path)


def _holds_work(workspace: Workspace, path: Path) -> bool:
    """Return whether a checkout holds more than a commit of master or of the plan; True if git cannot read it."""
    if path.is_symlink():
        return True
    repository, tree = workspace.repository, Worktree(workspace.repository, path)
    try:
        _, head = tree.head()
        tips = (workspace.master_commit(), workspace.plan.snapshot().commit)
        return bool(tree.changes()) or not any(repository.is_ancestor(head, tip) for tip in tips)
    except (GitError, NotADirectoryError, FileNotFoundError) as error:
        if isinstance(error, GitError) and error.system:
            raise
        return os.path.lexists(path)


def _delete(workspace: Workspace, path: Path) -> None:
    """Delete a checkout in which nobody works; rename it if files cannot be deleted."""
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        left = rescue.rename_aside(path, "left")
        log.warning("the gate left files that cannot be deleted: they are in '%s'", left)
    prune_worktrees(workspace)
