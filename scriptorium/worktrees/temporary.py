"""Detached checkouts for the length of a block, discarded afterwards."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scriptorium.git import worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.worktree import Worktree
from scriptorium.plan.snapshot import Plan
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks, process
from scriptorium.worktrees import repair, rescue
from scriptorium.worktrees import tickets as worktrees
from scriptorium.worktrees.tickets import MAX_SETUP_WAIT

log = logging.getLogger(__name__)


@contextmanager
def temporary_checkout(workspace: Workspace, plan: Plan) -> Iterator[Path]:
    """Check out master as ``source`` and a plan as ``plan``, detached, for the length of a block."""
    others = workspace.paths.ensure(workspace.paths.ask_directory("x").parent)
    workspace.paths.ensure(workspace.paths.ask_lock("x").parent)
    for directory in others.iterdir():
        if not locks.is_held(workspace.paths.ask_lock(directory.name)):
            process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={directory / 'source'}")  # of a command that was killed
            _clear(workspace, directory)
    directory = workspace.paths.ask_directory(secrets.token_hex(4))
    with locks.hold(workspace.paths.ask_lock(directory.name), directory.name):
        try:
            with locks.hold(workspace.paths.lock("worktrees"), "worktrees", wait=MAX_SETUP_WAIT):
                worktree_list.add(workspace.repository, directory / "source", start=workspace.master_commit())
                worktree_list.add(workspace.repository, directory / "plan", start=plan.commit)
            yield directory
        finally:
            _clear(workspace, directory)


def _clear(workspace: Workspace, directory: Path) -> None:
    """Remove what was checked out for a question."""
    for path in (directory / "source", directory / "plan"):
        if path.exists():
            _remove(workspace, path)
    with suppress(OSError):  # something was moved aside in there
        directory.rmdir()
    workspace.paths.ask_lock(directory.name).unlink(missing_ok=True)


def _remove(workspace: Workspace, path: Path) -> None:
    """Remove a worktree, and keep what was written there; one that git cannot read any more is moved aside."""
    repository, tree = workspace.repository, Worktree(workspace.repository, path)
    repair.remove_stale_locks(workspace, path)
    try:
        _, head = tree.head()
        tips = (workspace.master_commit(), workspace.plan.snapshot().commit)
        changes = tree.changes()
        if changes or not any(repository.is_ancestor(head, tip) for tip in tips):
            commit = tree.snapshot(changes, head, "Files that an agent wrote when it was asked a question")
            rescue.keep_commit(workspace, commit, "question", "the agent wrote files, and was only to answer")
            rescue.preserve_nested_repos(workspace, path, commit)
        worktree_list.remove(repository, path)
    except (GitError, NotADirectoryError, FileNotFoundError) as error:
        if isinstance(error, GitError) and error.system:
            log.warning("%s; '%s' stays until the next question", error.message, path)
            return
        with suppress(FileNotFoundError):  # a neighbour may have removed it meanwhile
            rescue.rename_aside(path)
        worktrees.prune_worktrees(workspace)
