"""Restoring and dropping rescued work."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from scriptorium.errors import ScriptoriumError
from scriptorium.git.repository import RefUpdate
from scriptorium.plan.snapshot import ZERO
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees.rescue import PREFIX, Kept

BRANCHES = "rescue/"
"""The prefix of the branches of restored work."""


def find(kept: Iterable[Kept], names: Iterable[str]) -> list[Kept]:
    """Return the rescued items with some names, which may be full refs. Raises if a name is unknown. Pure."""
    known = {item.name: item for item in kept}
    wanted = [name.removeprefix(PREFIX) for name in names]
    for name in wanted:
        if name not in known:
            raise ScriptoriumError(f"nothing is kept as '{name}'", "see 'scriptorium rescue list'")
    return [known[name] for name in dict.fromkeys(wanted)]


def restore(workspace: Workspace, kept: Kept) -> str:
    """Create a branch for a rescued commit and return its name. No checkout changes."""
    if kept.path:
        raise ScriptoriumError(f"'{kept.name}' is a directory, which git could not read", f"look into '{kept.path}'")
    branch, parent = BRANCHES + kept.name, BRANCHES.rstrip("/")
    ref = f"refs/heads/{branch}"
    if workspace.repository.resolve(f"refs/heads/{parent}"):  # a branch is a file, and cannot also be a directory
        hint = f"rename it: git branch -m {parent} NEW"
        raise ScriptoriumError(f"branch '{parent}' is in the way of '{branch}'", hint)
    created = workspace.repository.update_refs(RefUpdate(ref, kept.commit, ZERO))
    if not created and workspace.repository.resolve(ref) != kept.commit:
        raise ScriptoriumError(f"branch '{branch}' exists already at another commit", f"rename '{branch}'")
    return branch


def drop(workspace: Workspace, kept: Kept) -> str:
    """Delete a rescued item and return its commit, which git keeps until it prunes it, or its directory."""
    if kept.path:
        if kept.path.is_dir() and not kept.path.is_symlink():
            shutil.rmtree(kept.path)
        else:
            kept.path.unlink()  # an agent replaced its worktree by a file or a link
        return str(kept.path)
    if not workspace.repository.update_refs(RefUpdate(PREFIX + kept.name, "", kept.commit)):
        hint = "see whether a git is at work, and try again"
        raise ScriptoriumError(f"'{PREFIX}{kept.name}' cannot be deleted", hint)
    return kept.commit
