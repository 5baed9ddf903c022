"""Tells when something moved while an agent ran that no agent should move.

Looked at before and after a run: refs, the stash, the HEAD and the index of the user's checkout, the HEADs of their
other worktrees, the repository's configuration and hooks, and the run's own worktree. Read from git's own files
(gitrepository-layout, gitformat-index), because a run is to cost no further git process; what is kept in reftables is
asked of git. What our own steps move is left out. A person may have moved the rest, so it is told and never undone.
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
"""Refs that git moves in the midst of a command."""


@dataclass(frozen=True)
class Fingerprint:
    """What a look has found: refs and HEAD by name, files by path; the values only tell whether they moved."""

    refs: Mapping[str, str]
    files: Mapping[str, str]


@contextmanager
def watch_for_changes(workspace: Workspace, worktree: Path, role: str, ticket: str = "") -> Iterator[None]:
    """Warn, after a block in which an agent runs, of all that moved meanwhile and should not have."""
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
                hint = "nothing of it is undone: look whether it was you"
                log.warning("while the %s ran, these moved: %s; %s", who, ", ".join(moved), hint)
        except (ScriptoriumError, OSError) as error:
            log.warning("what moved while the %s ran cannot be told: %s", who, as_user_error(error).message)


def take_fingerprint(workspace: Workspace) -> Fingerprint:
    """Return how everything stands now."""
    repository, common = workspace.repository, workspace.repository.common_dir
    reftable = (common / "reftable").is_dir()
    refs = refs_by_git(repository) if reftable else refs_in_files(common)
    watched = [
        common / "config",
        common / "config.worktree",
        common / "logs" / "refs" / "stash",  # all of them; the ref is the last
        *(common / "hooks").glob("*"),
        *(file for file in (common / "info").glob("*") if file.name != "refs"),  # which git's own clean-up writes
    ]
    files = {os.path.relpath(file, repository.root): _digest(_read(file)) for file in watched}
    if repository.root != common:
        raw = len(next((oid for oid in refs.values() if re.fullmatch(r"[0-9a-f]{40,64}", oid)), "0" * 40)) // 2
        files[os.path.relpath(common / "index", repository.root)] = _digest(_staged(_read(common / "index"), raw))
    files |= {f"{path} (HEAD)": _digest(_read(git_dir / "HEAD")) for git_dir, path in user_worktrees(workspace)}
    return Fingerprint({ref: oid for ref, oid in refs.items() if not ref.startswith(TEMPORARY_REFS)}, files)


def user_worktrees(workspace: Workspace) -> list[tuple[Path, Path]]:
    """Return git directory and place of the linked worktrees that are not ours."""
    homes = {workspace.paths.home, workspace.paths.home.resolve()}
    linked = [place for place in all_worktrees(workspace.repository) if place[0] != workspace.repository.common_dir]
    return [(git_dir, path) for git_dir, path in linked if homes.isdisjoint(path.parents)]


def refs_in_files(common: Path) -> dict[str, str]:
    """Return HEAD and all refs as their files have them: an object id, or the ref that one stands for."""
    found = {"HEAD": _read(common / "HEAD").decode(errors="surrogateescape").removeprefix("ref: ").strip()}
    for directory, _, names in os.walk(common / "refs"):
        for name in names:
            file = Path(directory, name)
            if text := _read(file).decode(errors="replace").removeprefix("ref: ").strip():
                found[os.path.relpath(file, common)] = text
    # after the loose ones, or a ref that is packed meanwhile would be in neither
    for line in _read(common / "packed-refs").decode(errors="surrogateescape").split("\n"):
        oid, _, ref = line.partition(" ")
        if ref and oid[:1] not in "#^":
            found.setdefault(ref, oid)
    return {ref: oid for ref, oid in found.items() if not ref.endswith(".lock")}


def refs_by_git(repository: Repository) -> dict[str, str]:
    """Return the same by asking git; a detached HEAD is '', wherever it is."""
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
    """Return what an index says of its files, their times left out: every `git status` may refresh those.

    One that cannot be read is returned whole.
    """
    try:
        return b"\0".join(mode + said for mode, said in index_entries(data, raw))
    except ValueError:
        return data


def _changed(workspace: Workspace, before: Fingerprint, after: Fingerprint) -> list[str]:
    """Return what moved and is not our own doing, in words."""
    repository = workspace.repository
    refs, files = _differences(before.refs, after.refs), _differences(before.files, after.files)
    # we name what is to be kept, and nobody but a person lets go of it
    refs = {ref: pair for ref, pair in refs.items() if not ref.startswith("refs/scriptorium/") or _is_lost(ref, *pair)}
    commits = _since(repository, *refs[REF]) if REF in refs else []
    if commits is not None:
        refs.pop(REF, None)  # it is to move by our own commits, which have this trailer
    foreign = [name for name, message in commits or [] if "\nTransaction: " not in message]
    if workspace.master_ref in refs and _is_landed(workspace, refs[workspace.master_ref][1], commits or [], after):
        del refs[workspace.master_ref]
        if after.refs["HEAD"] == workspace.master_ref:
            files.pop(os.path.relpath(repository.common_dir / "index", repository.root), None)
    ours = any(ref.startswith(f"refs/heads/{BRANCH_PREFIX}") for ref in refs)
    at_work = _branches_at_work(repository, before.refs.get(REF, ""), after.refs.get(REF, "")) if ours else set()
    told = [f"'{REF}' by the commit {name[:12]}" for name in foreign]
    told += [_ref(ref, _short(old), _short(new)) for ref, (old, new) in refs.items() if ref not in at_work]
    return told + [f"'{file}'" for file in files]


def _is_lost(ref: str, old: str, new: str) -> bool:
    return ref.startswith(rescue.PREFIX) and bool(old) and old != new


def _since(repository: Repository, old: str, new: str) -> list[tuple[str, str]] | None:
    """Return id and message of the commits after ``old``, the newest first; None when ``new`` does not descend."""
    found: list[tuple[str, str]] = []
    for commit in repository.history(new):
        if commit.oid == old:
            return found
        found.append((commit.oid, commit.message))
    return None


def _is_landed(workspace: Workspace, master: str, commits: list[tuple[str, str]], after: Fingerprint) -> bool:
    """Tell whether it was the merge queue that moved master."""
    if any(f"\nLanded: {master}\n" in f"{message}\n" for _, message in commits):
        return True
    # between master's move and the plan's it is the tip of a ticket that the gate has passed
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
    """Return how the run's own worktree is not what it was, in words."""
    if not (worktree / ".git").exists():
        return [f"'{worktree}' (gone)"]
    if ticket and not Worktree(workspace.repository, worktree).is_on_branch(branch_of(ticket)):
        return [f"'{worktree}' (not on '{branch_of(ticket)}')"]
    return []


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    pairs = {name: (before.get(name, ""), after.get(name, "")) for name in sorted({*before, *after})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _ref(ref: str, old: str, new: str) -> str:
    back = f" (back by: git update-ref {REF} {old})" if ref == REF else ""  # without it nothing goes on
    return f"'{ref}' {old} -> {new}{back}"


def _short(value: str) -> str:
    return value[:12] if re.fullmatch(r"[0-9a-f]{40,64}", value) else value or "none"
