"""Harnesses: how an agent program is called, and what its output means.

This is the whole interface: a `Task` goes in, `Event`s come meanwhile, an `Outcome` comes out. A
backend is one file beside this one with a `Harness` that knows the program's arguments and the
lines that it prints; `scriptorium.agents.harness.runner` runs all of them alike.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scriptorium.agents.harness.usage import NOTHING, Usage
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan.cause import Cause

if TYPE_CHECKING:  # `status` resolves backends and starts no process
    from scriptorium.project.config import Config, Price
    from scriptorium.system.limits import Limits
    from scriptorium.system.process import Finished


class EventKind(StrEnum):
    """What an event shows of an agent."""

    THINKING = "thinking"
    TOOL = "tool"
    TEXT = "text"
    NOTE = "note"  # a retry or a warning, which is no progress


@dataclass(frozen=True)
class Event:
    """Something an agent did, fit to be shown to a person."""

    kind: EventKind
    text: str


@dataclass(frozen=True)
class Session:
    """A conversation that a backend has kept: its id, and what it has used so far."""

    id: str
    prompt: str
    """What to say to it, in place of the whole prompt."""
    spent: Usage = NOTHING


@dataclass(frozen=True)
class Task:
    """One run to be: what an agent is asked, where, as whom and within which limits."""

    role: str
    prompt: str
    directory: Path
    logs: Path
    model: str
    effort: str
    limits: Limits
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment of the run, but for what the harness adds."""
    endpoint: str = ""
    """The URL of the MCP server with the role's tools, or '' for none."""
    session: Session | None = None
    """The conversation to go on with; where that fails, a new one begins with the whole prompt."""
    price: Price | None = None
    read_only: bool = False
    """Whether the run is to write nothing, where the program can be told so."""
    sandboxed: bool = False
    """Whether the program's own sandbox is to hold it: nothing is writable but ``directory`` and TMPDIR."""
    git_dir: Path = Path()
    """The repository's git directory, of which a sandbox leaves nothing writable; set with ``sandboxed``."""


@dataclass
class Report:
    """What is learnt from an agent's output, filled in line by line."""

    message: str = ""
    error: str = ""
    status: int = 0
    """The HTTP status of the failure, where the program tells it."""
    cause: Cause | None = None
    """Why it failed, where the harness is sure of it."""
    session: str = ""
    usage: Usage = NOTHING
    """What the run has used, as far as the program tells that."""
    total: Usage | None = None
    """What the whole session has used so far, in the figures that the program tells so."""
    worked: bool = False
    """Whether the model has answered at all, so that a failure may be the ticket's."""


@dataclass(frozen=True)
class Outcome:
    """A run that is over."""

    finished: Finished
    report: Report
    log: Path
    agent: str

    def trailers(self) -> dict[str, object]:
        """Return the facts of the run as commit trailers; what is not known is left out."""
        return {"Agent": self.agent, **self.report.usage.trailers(), "Seconds": f"{self.finished.seconds:.1f}"}


class Harness(ABC):
    """One kind of agent program."""

    name: str
    model_prefixes: tuple[str, ...] = ()
    """For a built-in backend, the prefixes of its models; '' takes any model that no other backend takes."""
    wants_endpoint = False
    """Whether the agent is to be given the MCP endpoint."""
    can_resume = False
    stderr_is_progress = False
    """Whether what it prints on stderr shows that it gets on."""
    needs: tuple[str, ...] = ()
    """Patterns of the names in our environment that the program is given beside the usual ones."""

    @classmethod
    def create(cls, _config: Config, _model: str, /) -> Harness:
        """Return the built-in backend for a model."""
        return cls()

    @abstractmethod
    def program(self) -> str:
        """Return the program's name or path."""

    @abstractmethod
    def argv(self, task: Task, last_message: Path, /) -> list[str]:
        """Return the command line; the prompt is on stdin."""

    @abstractmethod
    def read(self, line: bytes, report: Report) -> Iterator[Event]:
        """Learn from one line of output, and yield what it shows."""

    def model_options(self, task: Task) -> list[str]:
        """Return the options that choose the model; none where the program's own default is meant."""
        return ["--model", task.model] if task.model != self.name else []

    def label(self, model: str) -> str:
        """Return how the agent is called in commits."""
        return self.name if model == self.name else f"{self.name}/{model}"

    def settings(self, _task: Task, /) -> Mapping[str, str]:
        """Return what the program is given in its environment."""
        return {}

    def probe(self) -> Sequence[str]:
        """Return a command that succeeds where the program's own sandbox works; empty when it has none."""
        return ()

    def version(self) -> Sequence[str]:
        """Return a command that prints the program's version; empty when none is known to."""
        return ()

    def login(self) -> Sequence[str]:
        """Return a command that succeeds when the program is signed in; empty when it cannot be told."""
        return ()

    def account(self, _env: Mapping[str, str], /) -> str:
        """Return what stands for a sign-in though `login` does not know of it, '' for nothing."""
        return ""

    def sign_in(self) -> str:
        """Return what a person can do who is not signed in."""
        return ""

    def install_hint(self) -> str:
        return "install it, or name another model in 'scriptorium.json'"

    def check(self) -> None:
        """Raise, with exit code 78, when the program cannot be started here."""
        import shutil  # late, for `status`

        program = self.program()
        if shutil.which(program) is None:
            what = "is not on PATH" if "/" not in program else "is not a program that can be run"
            raise ScriptoriumError(f"'{program}' {what}", self.install_hint(), ExitCode.CONFIG)


def parse_event(line: bytes) -> dict[str, Any]:
    """Return a line's JSON object; empty for anything else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
