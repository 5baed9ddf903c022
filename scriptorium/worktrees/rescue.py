"""Keeping work that would otherwise be lost, by refs below ``refs/scriptorium/rescue/``."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.git import worktree_list
from scriptorium.git.command import lines_of
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate, Repository
from scriptorium.git.worktree import FileChange, Worktree
from scriptorium.plan.snapshot import ZERO
from scriptorium.plan.ticket import slug
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees import prune

log = logging.getLogger(__name__)

PREFIX = "refs/scriptorium/rescue/"
RENAMED_ASIDE = re.compile(r"\.(found|left)-[0-9a-f]{6}$")
"""The end of the name of a renamed directory; no ticket is named like it, because a slug has no dot."""

AUTOSTASHES = ("MERGE_AUTOSTASH", "rebase-merge/autostash", "rebase-apply/autostash")
"""Files in which git notes the commit of an autostash (merge.autoStash, rebase.autoStash)."""


@dataclass(frozen=True)
class Kept:
    """Rescued work: a commit, or a directory that git could not read."""

    name: str
    commit: str = ""
    subject: str = ""
    path: Path | None = None


# -- commits --------------------------------------------------------------------------------------


def keep_commit(workspace: Workspace, commit: str, subject: str, why: str) -> str:
    """Create a rescue ref for a commit, log it, and return the ref."""
    ref = create_ref(workspace, commit, subject)
    log_kept(why, ref)
    return ref


def log_kept(why: str, ref: str) -> None:
    """Log why work was kept, and by which ref."""
    log.warning("%s: kept as '%s'", why, ref)


def create_ref(workspace: Workspace, commit: str, subject: str) -> str:
    """Create a rescue ref for a commit without logging it, and return the ref."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    # a ticket's name may contain what a ref must not (git-check-ref-format)
    ref = f"{PREFIX}{slug(subject)}-{stamp}-{secrets.token_hex(2)}"
    if not workspace.repository.update_refs(RefUpdate(ref, commit, ZERO)):
        raise ScriptoriumError(f"cannot write '{ref}'", f"keep '{commit}' by hand: git branch rescue {commit}")
    return ref


def keep_detached_heads(workspace: Workspace) -> None:
    """Keep the commits of removed worktrees whose HEAD was detached, because no branch has them."""
    for path, git_dir in prune.prunable(workspace.repository, workspace.paths.home):
        if path.parts[-2:] == workspace.paths.health_worktree.parts[-2:]:
            continue  # commits of a gate are nobody's work
        keep_detached_head(workspace, git_dir, path.name, f"'{path}' was removed, but held commits of no branch")
    for git_dir in prune.without_gitdir(workspace.repository):
        if commit := prune.unreferenced_head(workspace.repository, git_dir):  # git's own clean-up deletes it
            keep_commit(
                workspace, commit, git_dir.name, f"'{git_dir}' has lost its path, but holds commits of no branch"
            )


def keep_detached_head(workspace: Workspace, git_dir: Path, ticket: str, why: str) -> None:
    """Keep what is lost with the git directory of a worktree: commits on a detached HEAD, and an autostash."""
    keep_autostash(workspace, git_dir, ticket)
    if commit := prune.unreferenced_head(workspace.repository, git_dir):
        keep_commit(workspace, commit, ticket, why)


def keep_autostash(workspace: Workspace, git_dir: Path, ticket: str) -> None:
    """Keep the autostash of a merge or rebase in a worktree by a rescue ref, and take it away from git.

    It would be lost with the git directory. When the merge ends, git would apply it to the files, or move it to the
    stash, which is the user's.
    """
    for name in AUTOSTASHES:
        try:
            commit = (git_dir / name).read_text(errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if re.fullmatch(r"[0-9a-f]{40,64}", commit) and workspace.repository.resolve(commit):
            keep_commit(workspace, commit, ticket, f"git had stashed changes in the worktree of ticket '{ticket}'")
        (git_dir / name).unlink()


# -- directories and nested repositories ------------------------------------------------------------


def rename_aside(path: Path, why: str = "found") -> Path:
    """Rename a directory out of the way and return its new path; ``why`` is ``found``, or ``left`` by a removal."""
    aside = _aside_name(path, why)
    path.rename(aside)
    return aside


def _aside_name(path: Path, why: str) -> Path:
    return path.with_name(f"{path.name}.{why}-{secrets.token_hex(3)}")


def preserve_directories(worktree: Path, names: Iterable[str]) -> None:
    """Move directories of a worktree into a directory beside it, under the same names."""
    aside = _aside_name(worktree, "found")
    for name in names:
        if (worktree / name).is_dir():
            (aside / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (worktree / name).rename(aside / name)
            log.warning("'%s' is a repository of its own: kept in '%s'", name.rstrip("/"), aside)


def preserve_nested_repos(workspace: Workspace, worktree: Path, commit: str, becomes: str = "") -> None:
    """Move nested repositories out of a worktree before it is removed, or reset to ``becomes``.

    ``commit`` holds all files of the worktree; of a nested repository it holds the name alone. Submodules stay,
    because their repositories are elsewhere.
    """
    links = workspace.repository.links(commit)
    known = workspace.repository.links(becomes) if links and becomes else {}
    new = {path: oid for path, oid in links.items() if path not in known}
    preserve_directories(worktree, workspace.repository.embedded_repositories(commit, new))
    preserve_hidden_repos(workspace, worktree, commit)


def preserve_hidden_repos(workspace: Workspace, worktree: Path, commit: str) -> None:
    """Move nested repositories out of directories of a commit, where git does not report them."""
    repository = workspace.repository
    preserve_directories(worktree, list(_hidden_repos(repository, worktree, repository.tree_of(commit))))


def _hidden_repos(repository: Repository, place: Path, tree: str, prefix: str = "") -> Iterator[str]:
    for entry in repository.tree(tree).values():
        path = place / entry.name
        if entry.is_directory and path.is_dir() and not path.is_symlink():
            if (path / ".git").is_dir():
                yield f"{prefix}{entry.name}/.git"
            yield from _hidden_repos(repository, path, entry.oid, f"{prefix}{entry.name}/")


def preserve_untracked_repos(tree: Worktree) -> list[FileChange]:
    """Move untracked repositories out of a worktree and return the other changes.

    git fails on a nested repository without a commit.
    """
    changes = tree.changes()
    preserve_directories(tree.path, [change.path for change in changes if change.path.endswith("/")])
    return [change for change in changes if not change.path.endswith("/")]


# -- whole worktrees --------------------------------------------------------------------------------


def rescue_and_remove(workspace: Workspace, path: Path, subject: str, why: str, message: str = "") -> str:
    """Remove a worktree and return where its content is kept: a rescue ref, or a renamed directory.

    ``message`` is the message of the rescue commit. Returns '' if nothing is there. Raises GitError if the system
    lacks a resource, such as disk space; then the worktree stays.
    """
    if not path.exists() and not path.is_symlink():
        return ""
    tree = Worktree(workspace.repository, path)
    message = message or f"Work found in the worktree of ticket {subject}"
    try:
        _, head = tree.head()
        keep_autostash(workspace, tree.directory(), subject)
        tree.clear_hiding_flags()
        commit = tree.snapshot(preserve_untracked_repos(tree), head, message)
        kept = keep_commit(workspace, commit, subject, why)
        preserve_nested_repos(workspace, path, commit)
        worktree_list.remove(workspace.repository, path)
    except (GitError, NotADirectoryError, FileNotFoundError) as error:
        if isinstance(error, GitError) and error.system:
            raise
        return str(rename_aside(path))  # git cannot read it
    return kept


def rescue_and_reset(workspace: Workspace, tree: Worktree, subject: str, why: str, commit: str = "") -> str:
    """Reset a worktree to a commit, by default HEAD, and return the rescue ref that keeps the rest."""
    _, head = tree.head()
    held = tree.snapshot(preserve_untracked_repos(tree), head, why)
    kept = keep_commit(workspace, held, subject, why)
    preserve_nested_repos(workspace, tree.path, held, commit or head)
    tree.reset(commit or head)
    return kept


def list_kept(workspace: Workspace) -> list[Kept]:
    """Return all rescued work: the commits by name, then the renamed directories."""
    form = "--format=%(objectname)%00%(refname)%00%(contents:subject)"
    commits = [line.split("\0") for line in lines_of(workspace.repository.git("for-each-ref", form, PREFIX)[1])]
    top = workspace.paths.plan_worktree.parent
    places = (*top.glob("*"), *top.glob("tickets/*"), *top.glob("ask/*/*"))  # deeper are the files of worktrees
    directories = sorted(path for path in places if RENAMED_ASIDE.search(path.name))
    return [
        *(Kept(ref.removeprefix(PREFIX), commit, subject) for commit, ref, subject in commits),
        *(Kept(str(path.relative_to(top)), path=path) for path in directories),
    ]
