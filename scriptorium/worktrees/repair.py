"""What a killed git, or a crash of the machine, has left of a ticket's worktree and branch, is made whole again."""

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
from scriptorium.plan.ticket import branch_of
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees import rescue

log = logging.getLogger(__name__)

MERGING = "scriptorium-merging"
"""A file in the git directory of a ticket's worktree while a merge is begun for the agent."""


def _is_empty_link(file: Path) -> bool:
    """Tell whether a file is the first that git makes in a worktree, and that it came no further."""
    return file.name == ".git" and file.is_file() and not file.stat().st_size


def remove_half_made(workspace: Workspace, path: Path) -> None:
    """Remove what a killed `git worktree add` left in a place; nobody can have worked in there."""
    with suppress(OSError, GitError):
        if path.is_dir() and not path.is_symlink() and all(map(_is_empty_link, path.iterdir())):
            shutil.rmtree(path)
            return
        tree = Worktree(workspace.repository, path)
        directory = tree.directory()
        if is_half_made(directory):
            shutil.rmtree(path)
            shutil.rmtree(directory)  # an empty file in there can end any git


def remove_stale_locks(workspace: Workspace, path: Path, branch: str = "") -> None:
    """Remove the locks that a killed git left in a worktree, and on its branch.

    What the worktree is for must be locked and its leftovers ended, so that nobody holds them.
    """
    left = [workspace.repository.common_dir / "refs" / "heads" / f"{branch}.lock"] if branch else []
    with suppress(GitError):  # a worktree that is broken is found so by who works in it
        left += Worktree(workspace.repository, path).directory().glob("*.lock")
    for lock in left:
        lock.unlink(missing_ok=True)


def repair_worktree(workspace: Workspace, ticket: str) -> None:
    """Make a ticket's worktree one that git can work in: without locks and half a merge, with its branch and index.

    The ticket must be locked and its leftovers ended, so that nobody of ours is at it.
    """
    tree, branch = workspace.working_tree(ticket), branch_of(ticket)
    remove_stale_locks(workspace, tree.path, branch)
    if not tree.is_on_branch(branch):
        return  # found so by who works in it
    recreate_branch(workspace, ticket)
    rescue.keep_autostash(workspace, tree.directory(), ticket)
    index = tree.directory() / "index"
    if not _is_whole_index(index):
        log.warning("ticket '%s': the index of its worktree was broken, and is made anew", ticket)
        index.unlink(missing_ok=True)
        tree.read_index()
    mark = tree.directory() / MERGING
    if mark.exists():
        rescue.rescue_and_reset(
            workspace, ticket, f"merging '{workspace.master}' into ticket '{ticket}' was broken off"
        )
        mark.unlink()


def _is_whole_index(index: Path) -> bool:
    """Tell whether an index is what git wrote, by the checksum at its end (gitformat-index).

    A crash of the machine leaves it empty or torn. One without a checksum (index.skipHash) counts as whole.
    """
    try:
        data = index.read_bytes()
    except FileNotFoundError:
        return False
    sums = (hashlib.sha1(data[:-20], usedforsecurity=False).digest(), hashlib.sha256(data[:-32]).digest(), bytes(20))
    return data.startswith(b"DIRC") and data.endswith(sums)


def recreate_branch(workspace: Workspace, ticket: str) -> None:
    """Make a branch anew that somebody deleted, where its worktree remembers the commit that it was at."""
    repository, ref = workspace.repository, f"refs/heads/{branch_of(ticket)}"
    if repository.resolve(ref) or repair_ref(workspace, ref):
        return
    known = _last_commit(workspace.working_tree(ticket).directory() / "logs" / "HEAD")
    tip = repository.resolve(known) if known else ""
    log.warning(
        "ticket '%s': '%s' was gone, and is back at %s", ticket, branch_of(ticket), tip[:12] or workspace.master
    )
    repository.update_refs(RefUpdate(ref, tip or workspace.master_commit(), ZERO))


def repair_ref(workspace: Workspace, ref: str) -> bool:
    """Take a ref's file away that a crash of the machine has left empty, and tell whether the commit is known."""
    repository = workspace.repository
    file = repository.common_dir / ref
    if not file.is_file() or file.read_bytes().strip(b"\0"):
        return False
    file.unlink()
    packed = repository.resolve(ref)
    known = _last_commit(repository.common_dir / "logs" / ref)
    tip = repository.resolve(known) if known else ""
    log.warning("'%s' was empty, and is back at %s", ref, tip[:12] or packed[:12] or "nothing")
    if tip:
        repository.update_refs(RefUpdate(ref, tip, packed or ZERO))
    return bool(repository.resolve(ref))


def _last_commit(reflog: Path) -> str:
    """Return the newest commit in the log of a ref, or ''."""
    try:
        lines = reflog.read_text(errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    words = [word for line in reversed(lines) for word in line.split()[1::-1]]
    return next((word for word in words if word.strip("0")), "")


def restore_gitfile(repository: Repository, path: Path) -> None:
    """Write the .git file of a worktree anew that has lost it.

    `git worktree repair` would do so in all places that the repository knows, which others may have by now.
    """
    if not path.is_dir() or path.is_symlink() or os.path.lexists(path / ".git"):
        return
    found = [git_dir for git_dir, place in all_worktrees(repository) if place == path.parent.resolve() / path.name]
    if len(found) == 1:
        (path / ".git").write_text(f"gitdir: {found[0]}\n", errors="surrogateescape")
