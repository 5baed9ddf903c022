"""The worktrees of tickets: made on assignment, settled after each run, removed when landed."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from scriptorium import leftlocks, locks, rescue
from scriptorium.errors import ScriptoriumError, is_wanting
from scriptorium.git import GitError
from scriptorium.plan import ZERO, Plan
from scriptorium.repository import RefUpdate
from scriptorium.ticket import BRANCH_PREFIX, State, branch_of, is_of_ticket
from scriptorium.working_tree import Change, WorkingTree
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)

MERGING = "scriptorium-merging"
"""A file in the git directory of a ticket's worktree while a merge is begun for the agent."""

AUTOSTASHES = ("MERGE_AUTOSTASH", "rebase-merge/autostash", "rebase-apply/autostash")
"""Where git notes the commit of what it puts by meanwhile (merge.autoStash, rebase.autoStash)."""

SETUP_WAIT = 600.0
"""Seconds to wait for neighbours that make a worktree; a big repository takes 20 s for one."""


def working_tree(workspace: Workspace, ticket: str) -> WorkingTree:
    """Return where the work on a ticket is done."""
    return WorkingTree(workspace.repository, workspace.paths.ticket_worktree(ticket))


def is_sound(workspace: Workspace, path: Path, branch: str) -> bool:
    """Tell whether a directory is our worktree with its branch checked out.

    Read from git's own files (gitrepository-layout), because it is asked several times a ticket.
    """
    try:
        git_dir = WorkingTree(workspace.repository, path).directory()
        head = (git_dir / "HEAD").read_bytes().strip()
        whole = (git_dir / "commondir").exists() and not _is_half_made(git_dir)
        return whole and head == os.fsencode(f"ref: refs/heads/{branch}")
    except (GitError, OSError) as error:
        if isinstance(error, OSError) and is_wanting(error):
            raise
        return False


def _is_half_made(git_dir: Path) -> bool:
    """Tell whether `git worktree add` is still at it, or was killed: until its end it holds this lock."""
    return _locked(git_dir) == "initializing"


def _locked(git_dir: Path) -> str | None:
    """Return why a worktree is locked, None when it is not (git-worktree, lock)."""
    try:
        return (git_dir / "locked").read_text(errors="replace").strip()
    except FileNotFoundError:
        return None


def _is_empty_link(file: Path) -> bool:
    """Tell whether a file is the first that git makes in a worktree, and that it came no further."""
    return file.name == ".git" and file.is_file() and not file.stat().st_size


def discard_half_made(workspace: Workspace, path: Path) -> None:
    """Remove what a killed `git worktree add` left in a place; nobody can have worked in there."""
    with suppress(OSError, GitError):
        if path.is_dir() and not path.is_symlink() and all(map(_is_empty_link, path.iterdir())):
            shutil.rmtree(path)
        elif _is_half_made(directory := WorkingTree(workspace.repository, path).directory()):
            shutil.rmtree(path)
            shutil.rmtree(directory)  # an empty file in there can end any git


def ensure(workspace: Workspace, ticket: str) -> Path:
    """Return a ticket's worktree with its branch checked out, made from master if there is none."""
    restore(workspace, ticket)
    return workspace.paths.ticket_worktree(ticket)


def restore(workspace: Workspace, ticket: str) -> str:
    """Make a ticket's worktree anew unless it is sound, and return where what it held is kept, or ''.

    A directory that is in the way is moved aside, never deleted; commits made with HEAD detached
    or on another branch are kept by a rescue ref.
    """
    path = workspace.paths.ticket_worktree(ticket)
    branch = branch_of(ticket)
    if is_sound(workspace, path, branch):
        revive(workspace, ticket)
        return ""
    workspace.paths.ensure(path.parent)
    lock = workspace.paths.ensure(workspace.paths.lock("worktrees").parent) / "worktrees.lock"
    # git worktree add fails when several run at once
    with locks.hold(lock, "worktrees", wait=SETUP_WAIT):
        if is_sound(workspace, path, branch):
            return ""  # made by a neighbour while this waited; an agent may be at work in it by now
        try:
            return _make(workspace, path, ticket)
        except GitError as error:
            if error.system:
                raise  # a full disk is no matter of this ticket
            raise WorktreeError(ticket, error.message, error.hint) from error


def _make(workspace: Workspace, path: Path, ticket: str) -> str:
    """Make a ticket's worktree, with the lock held, and return where it is kept what was in its place."""
    branch = branch_of(ticket)
    _mend_ref(workspace, f"refs/heads/{branch}")
    discard_half_made(workspace, path)
    kept = vacate(workspace, path, ticket, f"the worktree of ticket '{ticket}' had left its branch")
    known = workspace.repository.resolve(f"refs/heads/{branch}")
    start = "" if known else workspace.master_commit()
    for checkout in workspace.repository.checkouts(branch):
        _reclaim(workspace, checkout, ticket)
    elsewhere = [checkout for checkout in workspace.repository.checkouts(branch) if checkout != path]
    if elsewhere:  # our commits would move it under them
        raise WorktreeError(ticket, f"'{branch}' is checked out in '{elsewhere[0]}'", "check out another branch there")
    keep_heads(workspace)
    workspace.repository.add_worktree(path, branch, start)
    return kept


def _reclaim(workspace: Workspace, path: Path, ticket: str) -> None:
    """Take a ticket's worktree away that is left from before the repository, or SCRIPTORIUM_ROOT, was moved."""
    lock = path.parent.parent.parent / "locks" / "tickets" / f"{ticket}.lock"
    if path.parts[-3:] != ("worktrees", "tickets", ticket) or not lock.exists() or locks.is_held(lock):
        return
    with locks.hold(lock, ticket):
        WorkingTree(workspace.repository, path).find_again()
        with suppress(GitError):
            if not workspace.repository.remove_clean_worktree(path):
                vacate(workspace, path, ticket, f"'{path}' is left from before a move")


def forget(workspace: Workspace) -> None:
    """Forget our worktrees whose directories are gone, and keep the commits that only they know."""
    keep_heads(workspace)
    workspace.repository.forget_worktrees(workspace.paths.home)


def keep_heads(workspace: Workspace) -> None:
    """Keep the commits of worktrees that somebody removed by hand, as those of a detached HEAD are on no branch."""
    for path, git_dir in workspace.repository.forgotten(workspace.paths.home):
        if path.parts[-2:] == workspace.paths.health_worktree.parts[-2:]:
            continue  # what a gate commits is nobody's work
        keep_autostash(workspace, git_dir, path.name)
        if commit := workspace.repository.nameless_head(git_dir):
            rescue.keep(workspace, commit, path.name, f"'{path}' was removed, and held commits of no branch")


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
            rescue.keep(workspace, commit, ticket, f"in the worktree of ticket '{ticket}' git had put changes by")
        (git_dir / name).unlink()


def vacate(workspace: Workspace, path: Path, ticket: str, why: str) -> str:
    """Take away what is in a worktree's place, and return where it is kept: a rescue ref, or a directory beside."""
    if not path.exists() and not path.is_symlink():
        return ""
    tree = WorkingTree(workspace.repository, path)
    try:
        _, head = tree.head()
        keep_autostash(workspace, tree.directory(), ticket)
        tree.unhide()
        commit = tree.snapshot(spare_untracked(tree), head, f"Work found in the worktree of ticket {ticket}")
        kept = rescue.keep(workspace, commit, ticket, why)
        rescue.spare(workspace, path, commit)
        workspace.repository.remove_worktree(path)
    except (GitError, NotADirectoryError, FileNotFoundError) as error:
        if isinstance(error, GitError) and error.system:
            raise
        # not a worktree any more, so git cannot read it; a person can
        return str(rescue.set_aside(path))
    return kept


class WorktreeError(ScriptoriumError):
    """A ticket's worktree cannot be made; those of others may be."""

    def __init__(self, ticket: str, why: str, hint: str) -> None:
        super().__init__(f"ticket '{ticket}' gets no worktree: {why}", hint)
        self.ticket = ticket


class Unresolved(ScriptoriumError):
    """A worktree holds a merge that nobody has finished."""


def settle(workspace: Workspace, ticket: str, message: str, *, resolved: bool = False) -> str:
    """Commit whatever a run left uncommitted to the ticket's branch and return the branch's tip.

    An agent that hands in says by it that its conflicts are ``resolved``, where no markers tell otherwise. Raises
    GitError when the worktree is broken, or its HEAD is not on the ticket's branch, and `Unresolved` while a merge
    in it has conflicts.
    """
    path = workspace.paths.ticket_worktree(ticket)
    branch = branch_of(ticket)
    if not is_sound(workspace, path, branch):
        raise GitError(("status",), 1, f"error: the worktree '{path}' is not on branch '{branch}'")
    revive(workspace, ticket)  # or the commit would begin a history of its own
    # a merge that was resolved to our side changes no file, and is to be concluded all the same
    tree = working_tree(workspace, ticket)
    keep_autostash(workspace, tree.directory(), ticket)
    tree.unhide()
    changes = tree.changes()
    if changes or _merges(tree):
        unmerged = [change.path for change in changes if change.is_unmerged]
        left = [name for name in unmerged if not resolved or _has_markers(path / name)]
        if left:
            raise Unresolved(f"'{left[0]}' still holds conflict markers", "resolve it, then hand in again")
        tree.commit(changes, message)
    return workspace.repository.resolve(f"refs/heads/{branch}")


def begin_merge(workspace: Workspace, ticket: str) -> list[str]:
    """Merge master into a ticket's branch and return the conflicting paths, left in the worktree to be resolved.

    The worktree must be settled. Until git is done a mark says so: half of a merge would pass for the agent's work.
    """
    tree = working_tree(workspace, ticket)
    mark = tree.directory() / MERGING
    mark.touch()
    message = f"Merge branch '{workspace.master}' into {branch_of(ticket)}"
    conflicts = tree.merge(workspace.master_commit(), message, undo=False)
    mark.unlink()
    return conflicts


def _merges(tree: WorkingTree) -> bool:
    return (tree.directory() / "MERGE_HEAD").exists()


def _has_markers(file: Path) -> bool:
    if file.is_symlink() or not file.is_file():
        return False  # removed, which resolves it, or nothing that could hold any
    # seven of them, or as many as the attribute conflict-marker-size says
    return bool(re.search(rb"^(<{7,}|>{7,}) ", file.read_bytes(), re.MULTILINE))


def clear(workspace: Workspace, ticket: str) -> None:
    """Take a ticket's worktree back to its branch.

    What it held beyond that was not handed in: a gate that was killed left it, or a person. It is
    kept by a rescue ref.
    """
    tree = working_tree(workspace, ticket)
    mend(workspace, ticket)
    tree.unhide()
    # a merge that was killed may have changed no file, and git begins none beside it
    if tree.changes() or _merges(tree):
        put_aside(workspace, ticket, f"the worktree of ticket '{ticket}' held changes that were not handed in")


def unlock(workspace: Workspace, path: Path, branch: str = "") -> None:
    """Remove the locks that a killed git left in a worktree, and on its branch.

    What the worktree is for must be locked and its leftovers ended, so that nobody holds them.
    """
    left = [workspace.repository.common_dir / "refs" / "heads" / f"{branch}.lock"] if branch else []
    with suppress(GitError):  # a worktree that is broken is found so by who works in it
        left += WorkingTree(workspace.repository, path).directory().glob("*.lock")
    for lock in left:
        lock.unlink(missing_ok=True)


def mend(workspace: Workspace, ticket: str) -> None:
    """Make a ticket's worktree one that git can work in: without locks and half a merge, with its branch and index.

    The ticket must be locked and its leftovers ended, so that nobody of ours is at it.
    """
    path, branch = workspace.paths.ticket_worktree(ticket), branch_of(ticket)
    unlock(workspace, path, branch)
    if not is_sound(workspace, path, branch):
        return  # found so by who works in it
    revive(workspace, ticket)
    tree = working_tree(workspace, ticket)
    keep_autostash(workspace, tree.directory(), ticket)
    index = tree.directory() / "index"
    if not _is_whole(index):
        log.warning("ticket '%s': the index of its worktree was broken, and is made anew", ticket)
        index.unlink(missing_ok=True)
        tree.read_index()
    mark = tree.directory() / MERGING
    if mark.exists():
        put_aside(workspace, ticket, f"merging '{workspace.master}' into ticket '{ticket}' was broken off")
        mark.unlink()


def _is_whole(index: Path) -> bool:
    """Tell whether an index is what git wrote, by the checksum at its end (gitformat-index).

    A crash of the machine leaves it empty or torn. One without a checksum (index.skipHash) counts as whole.
    """
    try:
        data = index.read_bytes()
    except FileNotFoundError:
        return False
    sums = (hashlib.sha1(data[:-20], usedforsecurity=False).digest(), hashlib.sha256(data[:-32]).digest(), bytes(20))
    return data.startswith(b"DIRC") and data.endswith(sums)


def revive(workspace: Workspace, ticket: str) -> None:
    """Make a branch anew that somebody deleted, where its worktree remembers the commit that it was at."""
    repository, ref = workspace.repository, f"refs/heads/{branch_of(ticket)}"
    if repository.resolve(ref) or _mend_ref(workspace, ref):
        return
    known = _last_commit(working_tree(workspace, ticket).directory() / "logs" / "HEAD")
    tip = repository.resolve(known) if known else ""
    log.warning(
        "ticket '%s': '%s' was gone, and is back at %s", ticket, branch_of(ticket), tip[:12] or workspace.master
    )
    repository.update_refs(RefUpdate(ref, tip or workspace.master_commit(), ZERO))


def _mend_ref(workspace: Workspace, ref: str) -> bool:
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


def put_aside(workspace: Workspace, ticket: str, why: str, commit: str = "") -> str:
    """Take a ticket's worktree back to its branch, or to a commit; the rest is kept by the rescue ref returned."""
    tree = working_tree(workspace, ticket)
    _, head = tree.head()
    held = tree.snapshot(spare_untracked(tree), head, why)
    kept = rescue.keep(workspace, held, ticket, why)
    rescue.spare(workspace, tree.path, held, commit or head)
    tree.reset(commit or head)
    return kept


def take_back(workspace: Workspace, ticket: str, why: str, commit: str) -> None:
    """Take a ticket's branch back to a commit, its worktree as well; the rest is kept by a rescue ref."""
    branch = branch_of(ticket)
    if is_sound(workspace, workspace.paths.ticket_worktree(ticket), branch):
        mend(workspace, ticket)
        put_aside(workspace, ticket, why, commit)
        return
    ref = f"refs/heads/{branch}"
    tip = workspace.repository.resolve(ref)
    rescue.keep(workspace, tip, ticket, why)
    workspace.repository.update_refs(RefUpdate(ref, commit, tip))


def spare_untracked(tree: WorkingTree) -> list[Change]:
    """Move repositories out that lie in a worktree and in no commit, and return the other changes.

    One without a commit of its own stops git.
    """
    changes = tree.changes()
    rescue.move_out(tree.path, [change.path for change in changes if change.path.endswith("/")])
    return [change for change in changes if not change.path.endswith("/")]


def sweep(workspace: Workspace, plan: Plan) -> None:
    """Remove what a crash between a landing and its clean-up left: worktrees of done tickets, their work in master."""
    for path in workspace.paths.ticket_worktree("x").parent.glob("*"):
        ticket = path.name
        if ticket not in plan.tickets(State.DONE) or locks.is_held(workspace.paths.ticket_lock(ticket)):
            continue
        if not (path / ".git").exists():
            workspace.repository.repair_worktrees()  # a removal that was killed has taken that file first
        tip = workspace.repository.resolve(f"refs/heads/{branch_of(ticket)}")
        sound = is_sound(workspace, path, branch_of(ticket)) and not _holds_more(
            WorkingTree(workspace.repository, path)
        )
        landed = sound and workspace.repository.is_ancestor(tip, workspace.master_commit())
        if landed and not _kept_by_lock(workspace, path):
            remove(workspace, ticket, tip)


def _holds_more(tree: WorkingTree) -> bool:
    """Tell whether a worktree has anything that its branch has not; what is missing was removed from it."""
    return any(change.code[0] not in " D?" or os.path.lexists(tree.path / change.path) for change in tree.changes())


def sweep_branches(workspace: Workspace, plan: Plan) -> None:
    """Remove the branches of done tickets that lie in master and are checked out nowhere, which a crash left."""
    forget(workspace)
    common = workspace.repository.common_dir
    leftlocks.discard_all((common / "refs" / "heads").glob(f"{BRANCH_PREFIX}*.lock"))
    leftlocks.discard_all((common / rescue.PREFIX).glob("*.lock"))
    leftlocks.discard_all([common / "packed-refs.lock"])  # in the way of a person's, if of nobody else's
    for ref, tip in workspace.repository.refs(f"refs/heads/{BRANCH_PREFIX}*").items():
        branch = ref.removeprefix("refs/heads/")
        done = is_of_ticket(branch) and branch.removeprefix(BRANCH_PREFIX) in plan.ids[State.DONE]
        free = done and not workspace.repository.checkouts(branch)
        if free and workspace.repository.is_ancestor(tip, workspace.master_commit()):
            with suppress(GitError):  # a lock on the packed refs holds nobody up
                workspace.repository.update_refs(RefUpdate(ref, "", tip))


def _kept_by_lock(workspace: Workspace, path: Path) -> bool:
    """Tell whether a person has locked a worktree, so that it stays."""
    try:
        return _locked(WorkingTree(workspace.repository, path).directory()) is not None
    except GitError:
        return False


def _keep_late(workspace: Workspace, ticket: str) -> None:
    """Keep what has come into a worktree since its work was tested."""
    tree = working_tree(workspace, ticket)
    if is_sound(workspace, tree.path, branch_of(ticket)) and _holds_more(tree):
        clear(workspace, ticket)


def remove(workspace: Workspace, ticket: str, landed: str) -> None:
    """Remove the worktree and the branch of a ticket whose tip ``landed`` is in master."""
    path = workspace.paths.ticket_worktree(ticket)
    if _kept_by_lock(workspace, path):
        log.warning("the worktree of ticket '%s' is locked, and stays", ticket)
        return
    if path.exists():
        try:
            if not workspace.repository.remove_clean_worktree(path):
                _keep_late(workspace, ticket)
                workspace.repository.remove_worktree(path)
        except GitError as error:
            # files of the gate's that we may not delete, as a container leaves them; the work is in master
            left = rescue.set_aside(path, "left")
            forget(workspace)
            log.warning("%s; what is left of the worktree of ticket '%s' is in '%s'", error.message, ticket, left)
    branch = f"refs/heads/{branch_of(ticket)}"
    # one that a person looks at in a checkout of theirs stays, or they would be on a branch without commits
    if workspace.repository.resolve(branch) and not workspace.repository.checkouts(branch_of(ticket)):
        try:
            # only if it is still that commit: whatever came on top is not in master
            workspace.repository.update_refs(RefUpdate(branch, "", landed))
        except GitError as error:
            log.warning("the branch '%s' stays, as %s", branch_of(ticket), error.message)
