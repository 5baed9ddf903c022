"""Keeps work that would otherwise be lost under ``refs/scriptorium/rescue/``."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.git import RefUpdate, run
from scriptorium.plan import ZERO
from scriptorium.ticket import slug
from scriptorium.workspace import Workspace

PREFIX = "refs/scriptorium/rescue/"


def keep(workspace: Workspace, commit: str, subject: str, why: str) -> str:
    """Name a commit by a rescue ref, say so in the log, and return the ref."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    # a ticket's name may hold what a ref's must not (git-check-ref-format)
    ref = f"{PREFIX}{slug(subject)}-{stamp}-{secrets.token_hex(2)}"
    if not workspace.repository.update_refs(RefUpdate(ref, commit, ZERO)):
        raise ScriptoriumError(f"'{ref}' cannot be written", f"keep '{commit}' by hand: git branch rescue {commit}")
    logging.getLogger(__name__).warning("%s: kept as '%s'", why, ref)
    return ref


def snapshot(worktree: Path, parent: str, message: str) -> str:
    """Return a commit of all that a worktree holds, ignored files left out; its HEAD stays where it is."""
    run("add", "--all", cwd=worktree)
    tree = run("write-tree", cwd=worktree)[1].decode().strip()
    return run("commit-tree", tree, "-p", parent, "-m", message, cwd=worktree)[1].decode().strip()
