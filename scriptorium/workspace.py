"""A repository with its plan, configuration and places: what every step works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scriptorium import config
from scriptorium.config import Config
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.paths import Paths
from scriptorium.plan import BRANCH, REF
from scriptorium.plan_store import PlanStore
from scriptorium.repository import Repository
from scriptorium.working_tree import WorkingTree


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

    def working_tree(self, ticket: str) -> WorkingTree:
        """Return where the work on a ticket is done."""
        return WorkingTree(self.repository, self.paths.ticket_worktree(ticket))

    @cached_property
    def config(self) -> Config:
        return config.load(self.repository.root)

    def reload(self) -> None:
        """Read the configuration anew; raises ConfigError, and changes nothing, when it is wrong."""
        self.config = config.load(self.repository.root)
        self.__dict__.pop("master", None)

    @cached_property
    def master(self) -> str:
        """The branch that work lands on."""
        return self._find_master()

    def _find_master(self) -> str:
        return self.repository.branch_behind(self.config.branch or self.repository.default_branch())

    @cached_property
    def has_author(self) -> bool:
        """Whether the user has told git who they are, so that agents can commit as them."""
        return bool(self.repository.git("config", "--get", "user.email", accept=(0, 1))[1].strip())

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
            raise ScriptoriumError(f"there is no branch '{self.master}'", "make a first commit", ExitCode.CONFIG)
        return commit
