"""A repository with its plan, configuration and places: what every step works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git.repository import Repository
from scriptorium.git.worktree import Worktree
from scriptorium.plan.snapshot import BRANCH, REF
from scriptorium.plan.store import PlanStore
from scriptorium.project import config, config_reader
from scriptorium.project.config import Config
from scriptorium.project.held import MergeLock, PlanningLock, TicketLock
from scriptorium.project.paths import Paths
from scriptorium.system import locks
from scriptorium.system.files import replace_file
from scriptorium.system.redact import Secrets

BRANCH_FILE = "scriptorium-branch"
"""A file in the git directory: the branch that work landed on the last time."""


@dataclass
class Workspace:
    """Everything is found or read when it is first asked for."""

    repository: Repository

    @classmethod
    def open(cls, start: Path | None = None) -> Workspace:
        """Open the repository around a directory, the current one by default."""
        try:
            return cls(Repository.discover(start or Path.cwd()))
        except FileNotFoundError as error:
            if error.filename:
                raise
            # only the current directory has no name, as it cannot be told any more
            hint = "it was removed or made anew: go to one that is there"
            raise ScriptoriumError("the current directory is gone", hint) from error

    @cached_property
    def plan(self) -> PlanStore:
        if not self.repository.resolve(REF):
            self._require_own_plan()
        return PlanStore(self.repository)

    def _require_own_plan(self) -> None:
        """Raise in a clone of a project that has a plan: another one, made here, could never be brought together."""
        found = [ref.removeprefix("refs/remotes/") for ref in self.repository.refs(f"refs/remotes/*/{BRANCH}")]
        if found:
            theirs = f"origin/{BRANCH}" if f"origin/{BRANCH}" in found else found[0]
            hint = f"git branch {BRANCH} {theirs}"
            raise ScriptoriumError(f"there is no branch '{BRANCH}', but '{theirs}'", hint, ExitCode.CONFIG)

    @cached_property
    def paths(self) -> Paths:
        return Paths.of(self.repository.common_dir, self.repository.root)

    def working_tree(self, ticket: str) -> Worktree:
        """Return where the work on a ticket is done."""
        return Worktree(self.repository, self.paths.ticket_worktree(ticket))

    @contextmanager
    def hold(self, name: str, subject: str = "", *, wait: float = locks.PROBE_GRACE) -> Iterator[None]:
        """Hold a lock of the repository for a block, after waiting at most ``wait`` seconds.

        Raises with exit code 75 if another process has it; the message names ``subject``, by default the lock.
        """
        path = self.paths.ensure(self.paths.lock(name).parent) / self.paths.lock(name).name
        with locks.hold(path, subject or name, wait=wait):
            yield

    def is_held(self, name: str) -> bool:
        """Return whether any process holds a lock of the repository."""
        return locks.is_held(self.paths.lock(name))

    @contextmanager
    def hold_ticket(self, ticket: str) -> Iterator[TicketLock]:
        """Hold the lock of a ticket for a block; raises with exit code 75 if another process has it."""
        path = self.paths.ticket_lock(ticket)
        self.paths.ensure(path.parent)
        with locks.hold(path, ticket):
            yield TicketLock(ticket)

    def is_ticket_held(self, ticket: str) -> bool:
        """Return whether any process holds the lock of a ticket."""
        return locks.is_held(self.paths.ticket_lock(ticket))

    @contextmanager
    def hold_merge(self) -> Iterator[MergeLock]:
        """Hold the lock of the merge queue for a block; raises with exit code 75 if another process has it."""
        with self.hold("merge"):
            yield MergeLock()

    @contextmanager
    def hold_planning(self) -> Iterator[PlanningLock]:
        """Hold the lock of the planning roles for a block; raises with exit code 75 if another process has it."""
        with self.hold("repo", "the plan"):
            yield PlanningLock()

    @cached_property
    def config(self) -> Config:
        return config.load(self.repository.root)

    def reload(self) -> None:
        """Read the configuration anew; raises ConfigError, and changes nothing, when it is wrong."""
        self.config = config.load(self.repository.root)
        with suppress(ScriptoriumError):  # it is what it was as long as that cannot be told
            self.master = self._find_master()

    @cached_property
    def master(self) -> str:
        """The branch that work lands on."""
        return self._find_master()

    def _find_master(self) -> str:
        repository = self.repository
        if self.config.branch:
            return repository.resolve_branch(self.config.branch)
        found, known = repository.resolve_branch(repository.default_branch()), self._landed_on()
        if known not in ("", found) and repository.resolve(f"refs/heads/{known}"):
            raise ScriptoriumError(
                f"cannot tell whether work lands on '{known}', as before, or on '{found}'",
                "name one of them as 'branch' in 'scriptorium.json'",
                ExitCode.CONFIG,
            )
        return found

    def _landed_on(self) -> str:
        try:
            return (self.repository.common_dir / BRANCH_FILE).read_text(errors="surrogateescape").strip()
        except OSError:
            return ""

    def note_master(self) -> None:
        """Note the branch that work lands on, so that it does not go over to one that is made later."""
        if self._landed_on() != self.master:
            replace_file(self.repository.common_dir / BRANCH_FILE, f"{self.master}\n", 0o644)

    @cached_property
    def has_author(self) -> bool:
        """Whether the user has told git who they are, so that agents can commit as them."""
        return bool(self.repository.git("config", "--get", "user.email", accept=(0, 1))[1].strip())

    @property
    def secrets(self) -> Secrets:
        """The credentials of the environment and of the configured agents, to be redacted."""
        return Secrets(*self.config.environments)

    @property
    def master_ref(self) -> str:
        return f"refs/heads/{self.master}"

    def master_commit(self) -> str:
        """Return the commit that master is at now."""
        commit = self.repository.resolve(self.master_ref)
        if not commit:  # a person may have renamed it since that was looked at
            self.master = self._find_master()
            commit = self.repository.resolve(self.master_ref)
        if not commit:
            named = f"make it, or name another as 'branch' in '{config_reader.FILE}'"
            hint = named if self.config.branch else "make a first commit"
            raise ScriptoriumError(f"there is no branch '{self.master}'", hint, ExitCode.CONFIG)
        return commit
