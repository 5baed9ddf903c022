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

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git.environment import IDENTITY
from scriptorium.git.repository import RefUpdate, Repository
from scriptorium.git.worktree_list import worktrees_on
from scriptorium.plan.change import PlanChange
from scriptorium.plan.checkouts import PlanCheckouts
from scriptorium.plan.ids import next_id
from scriptorium.plan.snapshot import ACTIVE, BRANCH, FORMAT, PENDING, PLACEHOLDER, REF, ZERO, ParsedFiles, Plan
from scriptorium.plan.ticket import State

MAX_TRIES = 200
"""How often a change is decided anew before giving up; writers let each other go first, so that one is usual."""

MAX_TURN_WAIT = 5.0
"""Seconds that a writer lets others go first, before it tries against them."""


def wait_before_retry(turn: int) -> None:
    """Wait a little after a try that was lost, which spreads the writers."""
    time.sleep(random.uniform(0, min(0.001 * 2 ** min(turn, 10), 0.1)))


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quote(path: str) -> bytes:
    """Quote a path as fast-import reads it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return b'"' + escaped.encode(errors="surrogateescape") + b'"'


def _stream(ref: str, parent: str, change: PlanChange) -> bytes:
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
        self.checkouts = PlanCheckouts(repository)
        self._newest: Plan | None = None
        self._parsed = ParsedFiles()

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
        plan = Plan(self.repository, found.oid, found.data[5 : found.data.index(b"\n")].decode(), self._parsed)
        number = plan.read("format").decode(errors="replace").strip()
        if number not in ("", str(FORMAT)):
            raise ScriptoriumError(
                f"branch '{BRANCH}' has format '{number[:20]}', and this is for format {FORMAT}",
                "install a newer scriptorium", ExitCode.CONFIG,
            )  # fmt: skip
        self._newest = plan
        return plan

    def next_id(self, plan: Plan) -> int:
        """Return the number for the next ticket of a snapshot; it is above every id that was ever used."""
        return next_id(self.repository, plan)

    def create(self) -> None:
        """Make the plan branch, as one commit without a parent."""
        empty = ["areas", "decisions", PENDING, *(f"tickets/{state}" for state in State)]
        change = PlanChange("initialize", "plan branch")
        change.writes = {f"{directory}/.gitkeep": b"" for directory in empty}
        change.writes |= {"spec.md": PLACEHOLDER.encode(), ACTIVE: b"", "format": b"%d\n" % FORMAT}
        parent = BRANCH.partition("/")[0]
        if self.repository.resolve(f"refs/heads/{parent}"):
            hint = f"git branch --move {parent} another-name"
            raise ScriptoriumError(f"the branch '{parent}' leaves no room for a branch '{BRANCH}'", hint)
        commit = self._write("", change)
        if not self.repository.update_refs(RefUpdate(REF, commit, ZERO)):
            raise ScriptoriumError(f"branch '{BRANCH}' exists already", "look at it with 'scriptorium status'")

    def commit(self, base: Plan, change: PlanChange) -> Plan | None:
        """Write a change on top of a snapshot; None when the branch has moved on since."""
        self._check(base, change)
        self.checkouts.note(base.commit)
        stream = _stream(REF, base.commit, change) + b"get-mark :1\ndone\n"
        commit = self.repository.fast_import(stream)
        if commit is None:
            return None
        self.checkouts.follow(base.commit, commit)
        return Plan(self.repository, commit, self.repository.tree_of(commit), self._parsed)

    def prepare(self, base: Plan, change: PlanChange) -> RefUpdate:
        """Write a change as a commit that no ref names yet, for a transaction with other refs."""
        self._check(base, change)
        self.checkouts.note(base.commit)
        return RefUpdate(REF, self._write(base.commit, change), base.commit)

    def _write(self, parent: str, change: PlanChange) -> str:
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

    def transact(self, decide: Callable[[Plan], PlanChange | None]) -> Plan | None:
        """Decide on the newest snapshot and write the change, again and again until it holds.

        ``decide`` returns None when there is nothing to do (any more); then so does this.
        """
        what = ""
        with self.turn():
            for turn in range(MAX_TRIES):
                plan = self.snapshot()
                change = decide(plan)
                if change is None:
                    return None
                written = self.commit(plan, change)
                if written is not None:
                    return written
                what = f"{change.verb} {change.subject}"
                wait_before_retry(turn)
        lock = self.repository.ref_lock(REF)
        # a lock that has outlasted all that is nobody at work, and would be waited for in silence
        hint, code = (
            (f"if no git is at work, remove '{lock}'", ExitCode.FAILED) if lock else ("try again", ExitCode.LOCKED)
        )
        raise ScriptoriumError(f"'{what}' could not be written to '{BRANCH}' in {MAX_TRIES} tries", hint, code)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let the writers who were here first finish, for a while.

        A courtesy, so that few of many write in vain: what holds is decided by the compare-and-swap alone.
        """
        handle = os.open(self.repository.common_dir, os.O_RDONLY)
        try:
            deadline = time.monotonic() + MAX_TURN_WAIT
            with suppress(OSError):  # a file system without such locks
                while not _try_lock(handle) and time.monotonic() < deadline:
                    time.sleep(random.uniform(0.001, 0.02))
            yield
        finally:
            os.close(handle)

    def catch_up(self) -> None:
        """Take along what a command that was killed has left behind."""
        if worktrees_on(self.repository, BRANCH):
            newest = self.snapshot().commit
            self.checkouts.follow(newest, newest)

    @staticmethod
    def _check(base: Plan, change: PlanChange) -> None:
        # fast-import dies of a missing path, and overwrites an existing one in silence
        for old, new in change.moves.items():
            if not base.blob(old):
                raise ScriptoriumError(f"'{old}' is not on the plan branch")
            if base.blob(new):
                raise ScriptoriumError(f"'{new}' is on the plan branch already", "see 'scriptorium fsck'")
