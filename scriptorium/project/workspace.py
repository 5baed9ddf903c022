"""A repository with its plan, configuration, paths and locks; every step works on one."""

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
"""A file in the git directory that records the landing branch."""


@dataclass
class Workspace:
    """The context of a step. Attributes are loaded on first use."""

    repository: Repository

    @classmethod
    def open(cls, start: Path | None = None) -> Workspace:
        """Open the repository of a directory, by default of the current one."""
        try:
            return cls(Repository.discover(start or Path.cwd()))
        except FileNotFoundError as error:
            if error.filename:
                raise
            # only the error for a removed current directory has no file name
            hint = "it was removed or recreated: change to an existing directory"
            raise ScriptoriumError("the current directory is gone", hint) from error

    @cached_property
    def plan(self) -> PlanStore:
        if not self.repository.resolve(REF):
            self._require_own_plan()
        return PlanStore(self.repository)

    def _require_own_plan(self) -> None:
        """Raise if only a remote has a plan branch: a second plan, created here, could never be merged."""
        found = [ref.removeprefix("refs/remotes/") for ref in self.repository.refs(f"refs/remotes/*/{BRANCH}")]
        if found:
            theirs = f"origin/{BRANCH}" if f"origin/{BRANCH}" in found else found[0]
            hint = f"git branch {BRANCH} {theirs}"
            raise ScriptoriumError(f"there is no branch '{BRANCH}', but '{theirs}'", hint, ExitCode.CONFIG)

    @cached_property
    def paths(self) -> Paths:
        return Paths.of(self.repository.common_dir, self.repository.root)

    def working_tree(self, ticket: str) -> Worktree:
        """Return the worktree of a ticket."""
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
        """Reload the configuration. Raises ConfigError, and changes nothing, if it is invalid."""
        self.config = config.load(self.repository.root)
        with suppress(ScriptoriumError):  # otherwise the landing branch stays
            self.master = self._find_master()

    @cached_property
    def master(self) -> str:
        """The landing branch."""
        return self._find_master()

    def _find_master(self) -> str:
        repository = self.repository
        if self.config.branch:
            return repository.resolve_branch(self.config.branch)
        found, known = repository.resolve_branch(repository.default_branch()), self._landed_on()
        if known not in ("", found) and repository.resolve(f"refs/heads/{known}"):
            raise ScriptoriumError(
                f"cannot determine whether work lands on '{known}', as before, or on '{found}'",
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
        """Record the landing branch, so that a branch created later does not replace it."""
        if self._landed_on() != self.master:
            replace_file(self.repository.common_dir / BRANCH_FILE, f"{self.master}\n", 0o644)

    @cached_property
    def has_author(self) -> bool:
        """Whether the user has configured an identity, so that agents can commit as the user."""
        return bool(self.repository.git("config", "--get", "user.email", accept=(0, 1))[1].strip())

    @property
    def secrets(self) -> Secrets:
        """The credentials of the environment and of the configured agents, to be redacted."""
        return Secrets(*self.config.environments)

    @property
    def master_ref(self) -> str:
        return f"refs/heads/{self.master}"

    def master_commit(self) -> str:
        """Return the commit at the tip of master."""
        commit = self.repository.resolve(self.master_ref)
        if not commit:  # the user may have renamed the branch
            self.master = self._find_master()
            commit = self.repository.resolve(self.master_ref)
        if not commit:
            named = f"create it, or name another as 'branch' in '{config_reader.FILE}'"
            hint = named if self.config.branch else "create a first commit"
            raise ScriptoriumError(f"there is no branch '{self.master}'", hint, ExitCode.CONFIG)
        return commit
