"""The branch `scriptorium/plan`: read as snapshots, changed by commits.

A change is committed on top of the snapshot it was decided on. A compare-and-swap moves the ref only if it still names
that snapshot; a writer that loses the race reads the new snapshot and decides again. No worktree is involved. A killed
writer leaves at most unreachable objects.
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
"""The number of tries to write a change. One usually suffices, because writers wait for each other."""

MAX_TURN_WAIT = 5.0
"""The longest time in seconds that a writer waits for others before it competes with them."""


def wait_before_retry(turn: int) -> None:
    """Back off for a random time after a lost race."""
    time.sleep(random.uniform(0, min(0.001 * 2 ** min(turn, 10), 0.1)))


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _quote(path: str) -> bytes:
    """Return a path in the quotes of fast-import."""
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
    """Reads and changes the plan branch of a repository."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.checkouts = PlanCheckouts(repository)
        self._newest: Plan | None = None
        self._parsed = ParsedFiles()

    def snapshot(self) -> Plan:
        """Return the newest plan. Raises if there is no plan branch or its format is newer."""
        found = self.repository.objects.read(REF)
        if found is None:
            raise ScriptoriumError(
                f"there is no branch '{BRANCH}'", "run 'scriptorium --init' in this repository", ExitCode.CONFIG
            )
        if self._newest is not None and self._newest.commit == found.oid:
            return self._newest  # it keeps the trees that were read
        if found.kind != "commit":
            raise ScriptoriumError(f"branch '{BRANCH}' is not a commit", f"see 'git log {BRANCH}'")
        plan = Plan(self.repository, found.oid, found.data[5 : found.data.index(b"\n")].decode(), self._parsed)
        number = plan.read("format").decode(errors="replace").strip()
        if number not in ("", str(FORMAT)):
            raise ScriptoriumError(
                f"branch '{BRANCH}' has format '{number[:20]}', but this version reads format {FORMAT}",
                "install a newer scriptorium", ExitCode.CONFIG,
            )  # fmt: skip
        self._newest = plan
        return plan

    def next_id(self, plan: Plan) -> int:
        """Return the number for the next ticket of a snapshot; it is above every id that was ever used."""
        return next_id(self.repository, plan)

    def create(self) -> None:
        """Create the plan branch with one commit. Raises if the branch exists."""
        empty = ["areas", "decisions", PENDING, *(f"tickets/{state}" for state in State)]
        change = PlanChange("initialize", "plan branch")
        change.writes = {f"{directory}/.gitkeep": b"" for directory in empty}
        change.writes |= {"spec.md": PLACEHOLDER.encode(), ACTIVE: b"", "format": b"%d\n" % FORMAT}
        parent = BRANCH.partition("/")[0]
        if self.repository.resolve(f"refs/heads/{parent}"):
            hint = f"git branch --move {parent} another-name"
            raise ScriptoriumError(f"branch '{parent}' conflicts with the name of branch '{BRANCH}'", hint)
        commit = self._write("", change)
        if not self.repository.update_refs(RefUpdate(REF, commit, ZERO)):
            raise ScriptoriumError(f"branch '{BRANCH}' already exists", "look at it with 'scriptorium status'")

    def commit(self, base: Plan, change: PlanChange) -> Plan | None:
        """Commit a change on top of a snapshot; return None if the branch has moved since."""
        self._check(base, change)
        self.checkouts.record(base.commit)
        stream = _stream(REF, base.commit, change) + b"get-mark :1\ndone\n"
        commit = self.repository.fast_import(stream)
        if commit is None:
            return None
        self.checkouts.follow(base.commit, commit)
        return Plan(self.repository, commit, self.repository.tree_of(commit), self._parsed)

    def prepare(self, base: Plan, change: PlanChange) -> RefUpdate:
        """Write a change as an unreferenced commit; return the ref update for a transaction with other refs."""
        self._check(base, change)
        self.checkouts.record(base.commit)
        return RefUpdate(REF, self._write(base.commit, change), base.commit)

    def _write(self, parent: str, change: PlanChange) -> str:
        # the temporary ref is deleted in the same stream, so that fast-import writes objects only
        ref = "refs/scriptorium/unborn"
        # an id of SHA-256 has more digits than an id of SHA-1
        zero = b"0" * len(parent or self.repository.git("hash-object", "--stdin")[1].strip())
        stream = _stream(ref, parent, change) + b"get-mark :1\nreset %s\nfrom %s\n\ndone\n" % (
            ref.encode(),
            zero,
        )
        commit = self.repository.fast_import(stream)
        if commit is None:
            raise ScriptoriumError(f"the temporary ref '{ref}' exists", f"run 'git update-ref -d {ref}'")
        return commit

    def transact(self, decide: Callable[[Plan], PlanChange | None]) -> Plan | None:
        """Decide on the newest snapshot and commit the change; repeat both if another writer was faster.

        Returns the new plan, or None if ``decide`` returns None because there is nothing to do. Raises after
        MAX_TRIES lost races.
        """
        subject = ""
        with self.turn():
            for turn in range(MAX_TRIES):
                plan = self.snapshot()
                change = decide(plan)
                if change is None:
                    return None
                written = self.commit(plan, change)
                if written is not None:
                    return written
                subject = f"{change.verb} {change.subject}"
                wait_before_retry(turn)
        lock = self.repository.ref_lock(REF)
        # a lock that still exists after so many tries is probably stale, and waiting would never end
        hint, code = (
            (f"if no git is at work, remove '{lock}'", ExitCode.FAILED) if lock else ("try again", ExitCode.LOCKED)
        )
        raise ScriptoriumError(f"'{subject}' could not be written to '{BRANCH}' in {MAX_TRIES} tries", hint, code)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait at most MAX_TURN_WAIT seconds for earlier writers, then hold a lock for a block.

        The lock only reduces contention. The compare-and-swap alone decides which change is accepted.
        """
        handle = os.open(self.repository.common_dir, os.O_RDONLY)
        try:
            deadline = time.monotonic() + MAX_TURN_WAIT
            with suppress(OSError):  # the file system has no such locks
                while not _try_lock(handle) and time.monotonic() < deadline:
                    time.sleep(random.uniform(0.001, 0.02))
            yield
        finally:
            os.close(handle)

    def catch_up(self) -> None:
        """Move checkouts of the plan branch that a killed command did not move."""
        if worktrees_on(self.repository, BRANCH):
            newest = self.snapshot().commit
            self.checkouts.follow(newest, newest)

    @staticmethod
    def _check(base: Plan, change: PlanChange) -> None:
        # fast-import fails on a missing path and overwrites an existing path silently
        for old, new in change.moves.items():
            if not base.blob(old):
                raise ScriptoriumError(f"'{old}' is not on the plan branch")
            if base.blob(new):
                raise ScriptoriumError(f"'{new}' is already on the plan branch", "see 'scriptorium fsck'")
