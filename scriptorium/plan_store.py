"""The branch `scriptorium/plan`, read as snapshots and changed by whole commits.

A change is written on top of the snapshot it was decided on, and accepted only if the ref still names that: who loses
the race reads again and decides again. No worktree is involved, and killing a writer anywhere leaves at most objects
that nothing refers to.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git.environment import IDENTITY
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate, Repository
from scriptorium.git.user_checkout import Checkout, tell_behind
from scriptorium.git.worktree_list import Holder, holders
from scriptorium.plan import ACTIVE, BRANCH, FORMAT, PENDING, PLACEHOLDER, REF, ZERO, Change, Plan
from scriptorium.ticket import State

MARK = "scriptorium-plan"
"""A file in the git directory of a checkout of the plan: the commit that it was last brought to, and while a git is at
it, the one that it is being brought to."""

TRIES = 200
"""How often a change is decided anew before giving up; writers let each other go first, so that one is usual."""

COURTESY = 5.0
"""Seconds that a writer lets others go first, before it tries against them."""


def pause(turn: int) -> None:
    """Wait a little after a try that was lost, which spreads the writers."""
    time.sleep(random.uniform(0, min(0.001 * 2 ** min(turn, 10), 0.1)))


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quote(path: str) -> bytes:
    """Quote a path as fast-import reads it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return b'"' + escaped.encode(errors="surrogateescape") + b'"'


def _stream(ref: str, parent: str, change: Change) -> bytes:
    message = change.message()
    name, email = IDENTITY
    out = [
        b"feature done\ncommit %s\nmark :1\n" % ref.encode(),
        b"committer %s <%s> %d +0000\n" % (name.encode(), email.encode(), int(time.time())),
        b"data %d\n%s" % (len(message), message),
    ]
    if parent:
        out.append(b"from %s\n" % parent.encode())
    out += [b"R %s %s\n" % (_quote(old), _quote(new)) for old, new in change.moves.items()]
    out += [b"D %s\n" % _quote(path) for path in change.removes]
    for path, data in change.writes.items():
        out.append(b"M 100644 inline %s\ndata %d\n%s\n" % (_quote(path), len(data), data))
    return b"".join(out)


class PlanStore:
    """The plan branch of a repository: read it, and change it by whole commits."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._newest: Plan | None = None

    def snapshot(self) -> Plan:
        """Return the plan as it stands now."""
        found = self.repository.objects.read(REF)
        if found is None:
            raise ScriptoriumError(
                f"there is no branch '{BRANCH}'", "run 'scriptorium --init' in this repository", ExitCode.CONFIG
            )
        if self._newest is not None and self._newest.commit == found.oid:
            return self._newest  # with all that was read from it
        if found.kind != "commit":
            raise ScriptoriumError(f"branch '{BRANCH}' is no commit", f"see 'git log {BRANCH}'")
        plan = Plan(self.repository, found.oid, found.data[5 : found.data.index(b"\n")].decode())
        number = plan.read("format").decode(errors="replace").strip()
        if number not in ("", str(FORMAT)):
            raise ScriptoriumError(
                f"branch '{BRANCH}' has format '{number[:20]}', and this is for format {FORMAT}",
                "install a newer scriptorium", ExitCode.CONFIG,
            )  # fmt: skip
        self._newest = plan
        return plan

    def create(self) -> None:
        """Make the plan branch, as one commit without a parent."""
        empty = ["areas", "decisions", PENDING, *(f"tickets/{state}" for state in State)]
        change = Change("initialize", "plan branch")
        change.writes = {f"{directory}/.gitkeep": b"" for directory in empty}
        change.writes |= {"spec.md": PLACEHOLDER.encode(), ACTIVE: b"", "format": b"%d\n" % FORMAT}
        parent = BRANCH.partition("/")[0]
        if self.repository.resolve(f"refs/heads/{parent}"):
            hint = f"git branch --move {parent} another-name"
            raise ScriptoriumError(f"the branch '{parent}' leaves no room for a branch '{BRANCH}'", hint)
        commit = self._write("", change)
        if not self.repository.update_refs(RefUpdate(REF, commit, ZERO)):
            raise ScriptoriumError(f"branch '{BRANCH}' exists already", "look at it with 'scriptorium status'")

    def commit(self, base: Plan, change: Change) -> Plan | None:
        """Write a change on top of a snapshot; None when the branch has moved on since."""
        self._check(base, change)
        self._note_checkouts(base)
        stream = _stream(REF, base.commit, change) + b"get-mark :1\ndone\n"
        commit = self.repository.fast_import(stream)
        if commit is None:
            return None
        self.follow(base.commit, commit)
        return Plan(self.repository, commit, self.repository.tree_of(commit))

    def prepare(self, base: Plan, change: Change) -> RefUpdate:
        """Write a change as a commit that no ref names yet, for a transaction with other refs."""
        self._check(base, change)
        self._note_checkouts(base)
        return RefUpdate(REF, self._write(base.commit, change), base.commit)

    def _write(self, parent: str, change: Change) -> str:
        # the branch is reset to nothing before the end, so that only the objects are written
        ref = "refs/scriptorium/unborn"
        # as many as the repository's hash has digits, which SHA-256 has more of
        zero = b"0" * len(parent or self.repository.git("hash-object", "--stdin")[1].strip())
        stream = _stream(ref, parent, change) + b"get-mark :1\nreset %s\nfrom %s\n\ndone\n" % (
            ref.encode(),
            zero,
        )
        commit = self.repository.fast_import(stream)
        if commit is None:
            raise ScriptoriumError(f"'{ref}' is in the way", f"run 'git update-ref -d {ref}'")
        return commit

    def transact(self, decide: Callable[[Plan], Change | None]) -> Plan | None:
        """Decide on the newest snapshot and write the change, again and again until it holds.

        ``decide`` returns None when there is nothing to do (any more); then so does this.
        """
        what = ""
        with self.turn():
            for turn in range(TRIES):
                plan = self.snapshot()
                change = decide(plan)
                if change is None:
                    return None
                written = self.commit(plan, change)
                if written is not None:
                    return written
                what = f"{change.verb} {change.subject}"
                pause(turn)
        lock = self.repository.lock_of(REF)
        # a lock that has outlasted all that is nobody at work, and would be waited for in silence
        hint, code = (
            (f"if no git is at work, remove '{lock}'", ExitCode.FAILED) if lock else ("try again", ExitCode.LOCKED)
        )
        raise ScriptoriumError(f"'{what}' could not be written to '{BRANCH}' in {TRIES} tries", hint, code)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let the writers who were here first finish, for a while.

        A courtesy, so that few of many write in vain: what holds is decided by the compare-and-swap alone.
        """
        handle = os.open(self.repository.common_dir, os.O_RDONLY)
        try:
            deadline = time.monotonic() + COURTESY
            with suppress(OSError):  # a file system without such locks
                while not _locked(handle) and time.monotonic() < deadline:
                    time.sleep(random.uniform(0.001, 0.02))
            yield
        finally:
            os.close(handle)

    def follow(self, old: str, new: str) -> None:
        """Take along a checkout of the plan branch, which would otherwise show our change reversed."""
        for holder in holders(self.repository, BRANCH):
            if holder.is_away:
                continue
            try:
                if not self._take_along(holder, old, new):
                    tell_behind(holder.path, BRANCH)
            except GitError as error:
                tell_behind(holder.path, BRANCH, error.message)

    def catch_up(self) -> None:
        """Take along what a command that was killed has left behind."""
        if holders(self.repository, BRANCH):
            newest = self.snapshot().commit
            self.follow(newest, newest)

    def _note_checkouts(self, base: Plan) -> None:
        """Note where each checkout is before the branch moves on: it may be away, or this killed before it follows."""
        for holder in holders(self.repository, BRANCH):
            known, begun = self._noted(holder, base.commit)
            mark, text = holder.git_dir / MARK, f"{known}\n"
            if not begun and not (mark.exists() and mark.read_text(errors="replace") == text):
                mark.write_text(text)

    def _noted(self, holder: Holder, now: str) -> tuple[str, str]:
        """Return where a checkout was brought to, and where a git that was killed, or is at it, was to bring it."""
        mark = holder.git_dir / MARK
        known, begun = (*(mark.read_text(errors="replace").split() if mark.exists() else ()), "", "")[:2]
        if not (known and self.repository.resolve(known)):
            return now, ""
        if begun and self.repository.resolve(begun):
            return known, begun
        return self._made_there(holder, known, now) or known, ""

    def _made_there(self, holder: Holder, known: str, now: str) -> str:
        """Return the newest commit since another that a person made in a checkout, '' where one of ours is among them.

        That brought its index along, and what has been taken back there since is an edit.
        """
        ours = "{} <{}> ".format(*IDENTITY)
        log, since = holder.git_dir / "logs" / "HEAD", []
        for commit in takewhile(lambda commit: commit.oid != known, self.repository.history(now)):
            if commit.committer.startswith(ours):
                return ""
            since.append(commit.oid)
        moves = log.read_text(errors="replace") if since and log.exists() else ""
        return next((oid for oid in since if f" {oid} " in moves), "")

    def _take_along(self, holder: Holder, old: str, new: str) -> bool:
        checkout, mark = Checkout(self.repository, holder.path), holder.git_dir / MARK
        known, begun = self._noted(holder, old)
        if begun:
            if not self._bring(checkout, mark, known, begun, was_killed=True):
                return False
            known = begun
        # not back, where a neighbour has brought it further already
        behind = known != old and self.repository.is_ancestor(known, old)
        if behind and not self._bring(checkout, mark, known, old):  # moves nothing where a person has moved it since
            return False
        return self._bring(checkout, mark, old, new)

    @staticmethod
    def _bring(checkout: Checkout, mark: Path, old: str, new: str, *, was_killed: bool = False) -> bool:
        """Bring a checkout on, and note where it is; as long as a git is at it, where it is to be as well."""
        if not was_killed:
            mark.write_text(f"{old}\n{new}\n")
        try:
            done = checkout.bring(old, new, mark.stat().st_ctime_ns, was_killed=was_killed)
        except GitError:
            if not was_killed:  # else the lock is still to be removed
                mark.write_text(f"{old}\n")
            raise
        mark.write_text(f"{new if done else old}\n")
        return done

    @staticmethod
    def _check(base: Plan, change: Change) -> None:
        # fast-import dies of a missing path, and overwrites an existing one in silence
        for old, new in change.moves.items():
            if not base.blob(old):
                raise ScriptoriumError(f"'{old}' is not on the plan branch")
            if base.blob(new):
                raise ScriptoriumError(f"'{new}' is on the plan branch already", "see 'scriptorium fsck'")
