"""Warns when something changed during an agent's run that no agent may change.

Two fingerprints, before and after the run, cover the refs, the stash, the HEAD and the index of the user's checkout,
the HEADs of the user's other worktrees, the repository's configuration and hooks, and the run's own worktree. They are
read from git's files (gitrepository-layout, gitformat-index), which starts no git process; reftables are read by git.
Changes by scriptorium's own steps are left out. The user may have made the others, so nothing is undone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scriptorium.errors import ScriptoriumError, as_user_error, is_resource_error
from scriptorium.gate.results import Colour, recall_verdict
from scriptorium.git.command import lines_of
from scriptorium.git.index import index_entries
from scriptorium.git.repository import Repository
from scriptorium.git.worktree import Worktree
from scriptorium.git.worktree_list import all_worktrees
from scriptorium.plan.snapshot import REF, Plan
from scriptorium.plan.ticket import BRANCH_PREFIX, State, branch_of, ticket_path
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees import rescue

log = logging.getLogger(__name__)

TEMPORARY_REFS = ("refs/bisect/", "refs/worktree/", "refs/rewritten/")
"""Refs that git moves during a command."""


@dataclass(frozen=True)
class Fingerprint:
    """Refs and HEAD by name, files by path; two values are equal if the ref or file has not changed."""

    refs: Mapping[str, str]
    files: Mapping[str, str]


@contextmanager
def watch_for_changes(workspace: Workspace, worktree: Path, role: str, ticket: str = "") -> Iterator[None]:
    """Log a warning, after a block in which an agent runs, about all unexpected changes during it."""
    who = f"agent of ticket '{ticket}'" if ticket else f"{role} agent"
    before = take_fingerprint(workspace)
    try:
        yield
    finally:
        try:
            moved = _changed(workspace, before, take_fingerprint(workspace)) + _worktree_problems(
                workspace, worktree, ticket
            )
            if moved:
                hint = "nothing is undone: check whether you did it"
                log.warning("while the %s ran, these moved: %s; %s", who, ", ".join(moved), hint)
        except (ScriptoriumError, OSError) as error:
            log.warning("cannot tell what moved while the %s ran: %s", who, as_user_error(error).message)


def take_fingerprint(workspace: Workspace) -> Fingerprint:
    """Return the fingerprint of the repository."""
    repository, common = workspace.repository, workspace.repository.common_dir
    reftable = (common / "reftable").is_dir()
    refs = refs_by_git(repository) if reftable else refs_in_files(common)
    watched = [
        common / "config",
        common / "config.worktree",
        common / "logs" / "refs" / "stash",  # all entries; the ref holds the newest only
        *(common / "hooks").glob("*"),
        *(file for file in (common / "info").glob("*") if file.name != "refs"),  # written by git gc
    ]
    files = {os.path.relpath(file, repository.root): _digest(_read(file)) for file in watched}
    if repository.root != common:
        raw = len(next((oid for oid in refs.values() if re.fullmatch(r"[0-9a-f]{40,64}", oid)), "0" * 40)) // 2
        files[os.path.relpath(common / "index", repository.root)] = _digest(_staged(_read(common / "index"), raw))
    files |= {f"{path} (HEAD)": _digest(_read(git_dir / "HEAD")) for git_dir, path in user_worktrees(workspace)}
    return Fingerprint({ref: oid for ref, oid in refs.items() if not ref.startswith(TEMPORARY_REFS)}, files)


def user_worktrees(workspace: Workspace) -> list[tuple[Path, Path]]:
    """Return git directory and path of the linked worktrees outside of the state directory."""
    homes = {workspace.paths.home, workspace.paths.home.resolve()}
    linked = [place for place in all_worktrees(workspace.repository) if place[0] != workspace.repository.common_dir]
    return [(git_dir, path) for git_dir, path in linked if homes.isdisjoint(path.parents)]


def refs_in_files(common: Path) -> dict[str, str]:
    """Return HEAD and all refs from their files: an object id, or the target of a symbolic ref."""
    found = {"HEAD": _read(common / "HEAD").decode(errors="surrogateescape").removeprefix("ref: ").strip()}
    for directory, _, names in os.walk(common / "refs"):
        for name in names:
            file = Path(directory, name)
            if text := _read(file).decode(errors="replace").removeprefix("ref: ").strip():
                found[os.path.relpath(file, common)] = text
    # after the loose refs: a ref that is packed meanwhile would be missed otherwise
    for line in _read(common / "packed-refs").decode(errors="surrogateescape").split("\n"):
        oid, _, ref = line.partition(" ")
        if ref and oid[:1] not in "#^":
            found.setdefault(ref, oid)
    return {ref: oid for ref, oid in found.items() if not ref.endswith(".lock")}


def refs_by_git(repository: Repository) -> dict[str, str]:
    """Return HEAD and all refs from git; a detached HEAD is ''."""
    out = repository.git("for-each-ref", "--format=%(HEAD) %(objectname) %(refname) %(symref)")[1]
    facts = [(line[0], *line[2:].split(" ")) for line in lines_of(out)]
    head = next((ref for mark, _, ref, _ in facts if mark == "*"), "")
    return {"HEAD": head, **{ref: symref or oid for _, oid, ref, symref in facts}}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        if is_resource_error(error):
            raise
        return b""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if data else ""


def _staged(data: bytes, raw: int) -> bytes:
    """Return the entries of an index without the times, which every `git status` may refresh.

    An index that cannot be parsed is returned whole.
    """
    try:
        return b"\0".join(mode + entry for mode, entry in index_entries(data, raw))
    except ValueError:
        return data


def _changed(workspace: Workspace, before: Fingerprint, after: Fingerprint) -> list[str]:
    """Return descriptions of the changes that scriptorium did not make itself."""
    repository = workspace.repository
    refs, files = _differences(before.refs, after.refs), _differences(before.files, after.files)
    # scriptorium creates rescue refs, but only the user drops one
    refs = {ref: pair for ref, pair in refs.items() if not ref.startswith("refs/scriptorium/") or _is_lost(ref, *pair)}
    commits = _since(repository, *refs[REF]) if REF in refs else []
    if commits is not None:
        refs.pop(REF, None)  # scriptorium's own commits have this trailer
    foreign = [name for name, message in commits or [] if "\nTransaction: " not in message]
    if workspace.master_ref in refs and _is_landed(workspace, refs[workspace.master_ref][1], commits or [], after):
        del refs[workspace.master_ref]
        if after.refs["HEAD"] == workspace.master_ref:
            files.pop(os.path.relpath(repository.common_dir / "index", repository.root), None)
    ours = any(ref.startswith(f"refs/heads/{BRANCH_PREFIX}") for ref in refs)
    at_work = _branches_at_work(repository, before.refs.get(REF, ""), after.refs.get(REF, "")) if ours else set()
    found = [f"'{REF}' by the commit {name[:12]}" for name in foreign]
    found += [_ref(ref, _short(old), _short(new)) for ref, (old, new) in refs.items() if ref not in at_work]
    return found + [f"'{file}'" for file in files]


def _is_lost(ref: str, old: str, new: str) -> bool:
    return ref.startswith(rescue.PREFIX) and bool(old) and old != new


def _since(repository: Repository, old: str, new: str) -> list[tuple[str, str]] | None:
    """Return id and message of the commits after ``old``, newest first; None if ``new`` does not descend from it."""
    found: list[tuple[str, str]] = []
    for commit in repository.history(new):
        if commit.oid == old:
            return found
        found.append((commit.oid, commit.message))
    return None


def _is_landed(workspace: Workspace, master: str, commits: list[tuple[str, str]], after: Fingerprint) -> bool:
    """Return whether the merge queue moved master."""
    if any(f"\nLanded: {master}\n" in f"{message}\n" for _, message in commits):
        return True
    # before the plan moves, master is at the tip of a ticket that the gate has passed
    tips = {oid for ref, oid in after.refs.items() if ref.startswith(f"refs/heads/{BRANCH_PREFIX}")}
    return master in tips and recall_verdict(workspace, workspace.repository.tree_of(master)) is Colour.GREEN


def _branches_at_work(repository: Repository, old: str, new: str) -> set[str]:
    """Return the branches of tickets that were in progress at either commit of the plan, or moved in between."""
    before, after = _ticket_states(repository, old), _ticket_states(repository, new)
    in_progress = {item for item in before | after if item[1] is State.IN_PROGRESS}
    return {f"refs/heads/{branch_of(name)}" for name, _, _ in in_progress | (before ^ after)}


def _ticket_states(repository: Repository, commit: str) -> set[tuple[str, State, str]]:
    """Return each ticket of a plan with its state and the id of its file."""
    if not commit:
        return set()
    plan = Plan(repository, commit, repository.tree_of(commit))
    return {(name, state, plan.blob(ticket_path(state, name))) for state in State for name in plan.tickets(state)}


def _worktree_problems(workspace: Workspace, worktree: Path, ticket: str) -> list[str]:
    """Return descriptions of what is wrong with the run's own worktree."""
    if not (worktree / ".git").exists():
        return [f"'{worktree}' (gone)"]
    if ticket and not Worktree(workspace.repository, worktree).is_on_branch(branch_of(ticket)):
        return [f"'{worktree}' (not on '{branch_of(ticket)}')"]
    return []


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    pairs = {name: (before.get(name, ""), after.get(name, "")) for name in sorted({*before, *after})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _ref(ref: str, old: str, new: str) -> str:
    back = f" (to restore it: git update-ref {REF} {old})" if ref == REF else ""  # all steps need the plan
    return f"'{ref}' {old} -> {new}{back}"


def _short(value: str) -> str:
    return value[:12] if re.fullmatch(r"[0-9a-f]{40,64}", value) else value or "none"
