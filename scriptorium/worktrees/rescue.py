"""Keeps work that would otherwise be lost under ``refs/scriptorium/rescue/``."""

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

PREFIX = "refs/scriptorium/rescue/"
RENAMED_ASIDE = re.compile(r"\.(found|left)-[0-9a-f]{6}$")
"""The end of the name of a directory that was set aside; a slug has no dot, so no ticket is called like it."""

AUTOSTASHES = ("MERGE_AUTOSTASH", "rebase-merge/autostash", "rebase-apply/autostash")
"""Where git notes the commit of what it puts by meanwhile (merge.autoStash, rebase.autoStash)."""


@dataclass(frozen=True)
class Kept:
    """Something that was kept: a commit, or a directory that git could not read."""

    name: str
    commit: str = ""
    subject: str = ""
    path: Path | None = None


def keep_commit(workspace: Workspace, commit: str, subject: str, why: str) -> str:
    """Name a commit by a rescue ref, say so in the log, and return the ref."""
    ref = create_ref(workspace, commit, subject)
    log_kept(why, ref)
    return ref


def log_kept(why: str, ref: str) -> None:
    """Say in the log why something is kept, and where."""
    logging.getLogger(__name__).warning("%s: kept as '%s'", why, ref)


def create_ref(workspace: Workspace, commit: str, subject: str) -> str:
    """Name a commit by a rescue ref, which may be needed for moments only, and return the ref."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    # a ticket's name may hold what a ref's must not (git-check-ref-format)
    ref = f"{PREFIX}{slug(subject)}-{stamp}-{secrets.token_hex(2)}"
    if not workspace.repository.update_refs(RefUpdate(ref, commit, ZERO)):
        raise ScriptoriumError(f"'{ref}' cannot be written", f"keep '{commit}' by hand: git branch rescue {commit}")
    return ref


def rename_aside(path: Path, why: str = "found") -> Path:
    """Move a directory out of the way, and return where it is now: ``found`` there, or ``left`` after a removal."""
    aside = _aside_name(path, why)
    path.rename(aside)
    return aside


def _aside_name(path: Path, why: str) -> Path:
    return path.with_name(f"{path.name}.{why}-{secrets.token_hex(3)}")


def preserve_directories(worktree: Path, names: Iterable[str]) -> None:
    """Move directories of a worktree into one beside it, by the same names."""
    aside = _aside_name(worktree, "found")
    for name in names:
        if (worktree / name).is_dir():
            (aside / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (worktree / name).rename(aside / name)
            what = name.rstrip("/")
            logging.getLogger(__name__).warning("'%s' is a repository of its own: kept in '%s'", what, aside)


def preserve_nested_repos(workspace: Workspace, worktree: Path, commit: str, becomes: str = "") -> None:
    """Move the repositories beside a worktree that lie in it, and would go when that becomes another commit, or goes.

    ``commit`` is of all that it holds, and has their names alone. Submodules stay, as theirs is elsewhere.
    """
    links = workspace.repository.links(commit)
    known = workspace.repository.links(becomes) if links and becomes else {}
    new = {path: oid for path, oid in links.items() if path not in known}
    preserve_directories(worktree, workspace.repository.embedded_repositories(commit, new))
    preserve_hidden_repos(workspace, worktree, commit)


def preserve_hidden_repos(workspace: Workspace, worktree: Path, commit: str) -> None:
    """Move the repositories out that were made in directories of a commit, as git shows nothing of them there."""
    repository = workspace.repository
    preserve_directories(worktree, list(_hidden_repos(repository, worktree, repository.tree_of(commit))))


def _hidden_repos(repository: Repository, place: Path, tree: str, prefix: str = "") -> Iterator[str]:
    for entry in repository.tree(tree).values():
        path = place / entry.name
        if entry.is_directory and path.is_dir() and not path.is_symlink():
            if (path / ".git").is_dir():
                yield f"{prefix}{entry.name}/.git"
            yield from _hidden_repos(repository, path, entry.oid, f"{prefix}{entry.name}/")


def keep_detached_heads(workspace: Workspace) -> None:
    """Keep the commits of worktrees that somebody removed by hand, as those of a detached HEAD are on no branch."""
    for path, git_dir in prune.prunable(workspace.repository, workspace.paths.home):
        if path.parts[-2:] == workspace.paths.health_worktree.parts[-2:]:
            continue  # what a gate commits is nobody's work
        keep_detached_head(workspace, git_dir, path.name, f"'{path}' was removed, and held commits of no branch")
    for git_dir in prune.without_gitdir(workspace.repository):
        if commit := prune.unreferenced_head(workspace.repository, git_dir):  # git's own clean-up takes it
            keep_commit(workspace, commit, git_dir.name, f"'{git_dir}' names no place, and holds commits of no branch")


def keep_detached_head(workspace: Workspace, git_dir: Path, ticket: str, why: str) -> None:
    """Keep what goes with the git directory of a worktree: commits of a detached HEAD, and what was put by."""
    keep_autostash(workspace, git_dir, ticket)
    if commit := prune.unreferenced_head(workspace.repository, git_dir):
        keep_commit(workspace, commit, ticket, why)


def keep_autostash(workspace: Workspace, git_dir: Path, ticket: str) -> None:
    """Keep what git has put by for the time of a merge or rebase in a worktree.

    It goes with the worktree's git directory, and where that merge is undone or concluded, it is put into the files,
    or into the stash, which is the user's.
    """
    for name in AUTOSTASHES:
        try:
            commit = (git_dir / name).read_text(errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if re.fullmatch(r"[0-9a-f]{40,64}", commit) and workspace.repository.resolve(commit):
            keep_commit(workspace, commit, ticket, f"in the worktree of ticket '{ticket}' git had put changes by")
        (git_dir / name).unlink()


def rescue_and_remove(workspace: Workspace, path: Path, ticket: str, why: str) -> str:
    """Take away what is in a worktree's place, and return where it is kept: a rescue ref, or a directory beside."""
    if not path.exists() and not path.is_symlink():
        return ""
    tree = Worktree(workspace.repository, path)
    try:
        _, head = tree.head()
        keep_autostash(workspace, tree.directory(), ticket)
        tree.clear_hiding_flags()
        commit = tree.snapshot(preserve_untracked_repos(tree), head, f"Work found in the worktree of ticket {ticket}")
        kept = keep_commit(workspace, commit, ticket, why)
        preserve_nested_repos(workspace, path, commit)
        worktree_list.remove(workspace.repository, path)
    except (GitError, NotADirectoryError, FileNotFoundError) as error:
        if isinstance(error, GitError) and error.system:
            raise
        # not a worktree any more, so git cannot read it; a person can
        return str(rename_aside(path))
    return kept


def rescue_and_reset(workspace: Workspace, ticket: str, why: str, commit: str = "") -> str:
    """Take a ticket's worktree back to its branch, or to a commit; the rest is kept by the rescue ref returned."""
    tree = workspace.working_tree(ticket)
    _, head = tree.head()
    held = tree.snapshot(preserve_untracked_repos(tree), head, why)
    kept = keep_commit(workspace, held, ticket, why)
    preserve_nested_repos(workspace, tree.path, held, commit or head)
    tree.reset(commit or head)
    return kept


def preserve_untracked_repos(tree: Worktree) -> list[FileChange]:
    """Move repositories out that lie in a worktree and in no commit, and return the other changes.

    One without a commit of its own stops git.
    """
    changes = tree.changes()
    preserve_directories(tree.path, [change.path for change in changes if change.path.endswith("/")])
    return [change for change in changes if not change.path.endswith("/")]


def list_kept(workspace: Workspace) -> list[Kept]:
    """Return all that is kept: the commits by name, then the directories that were set aside."""
    form = "--format=%(objectname)%00%(refname)%00%(contents:subject)"
    commits = [line.split("\0") for line in lines_of(workspace.repository.git("for-each-ref", form, PREFIX)[1])]
    top = workspace.paths.plan_worktree.parent
    places = (*top.glob("*"), *top.glob("tickets/*"), *top.glob("ask/*/*"))  # no deeper: there are whole worktrees
    directories = sorted(path for path in places if RENAMED_ASIDE.search(path.name))
    return [
        *(Kept(ref.removeprefix(PREFIX), commit, subject) for commit, ref, subject in commits),
        *(Kept(str(path.relative_to(top)), path=path) for path in directories),
    ]
