"""Harnesses: how an agent program is called, and how its output is read.

The interface: a run takes a `Task`, emits `Event`s and returns an `Outcome`. A backend is one file
in `backends/` with a `Harness`, which builds the program's command line and reads its lines;
`runner` runs all of them.
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
    """The kind of an event."""

    THINKING = "thinking"
    TOOL = "tool"
    TEXT = "text"
    NOTE = "note"  # a retry or a warning; not progress


@dataclass(frozen=True)
class Event:
    """An action of an agent, described for the user."""

    kind: EventKind
    text: str


@dataclass(frozen=True)
class Session:
    """A conversation that can be resumed: its id, and its usage so far."""

    id: str
    prompt: str
    """The text that replaces the whole prompt."""
    spent: Usage = NOTHING


@dataclass(frozen=True)
class Task:
    """The input of one run: prompt, directory, role, model and limits."""

    role: str
    prompt: str
    directory: Path
    logs: Path
    model: str
    effort: str
    limits: Limits
    env: Mapping[str, str] = field(default_factory=dict)
    """The environment of the run; the harness adds its `settings`."""
    endpoint: str = ""
    """The URL of the MCP server with the role's tools, or '' for none."""
    session: Session | None = None
    """The conversation to resume; if that fails, a new one starts with the whole prompt."""
    price: Price | None = None
    read_only: bool = False
    """Whether the run must not write, if the program has an option for that."""
    sandboxed: bool = False
    """Whether to use the program's own sandbox: only ``directory`` and TMPDIR are writable."""
    git_dir: Path = Path()
    """The repository's git directory, read-only in the sandbox; set with ``sandboxed``."""


@dataclass
class Report:
    """The facts from an agent's output, collected line by line."""

    message: str = ""
    error: str = ""
    status: int = 0
    """The HTTP status of the failure, 0 if unknown."""
    cause: Cause | None = None
    """The cause of the failure, if the harness knows it."""
    session: str = ""
    usage: Usage = NOTHING
    """Usage of the run, as far as the program reports it."""
    total: Usage | None = None
    """Usage of the whole session so far, in the figures that the program reports for the session."""
    worked: bool = False
    """Whether the model has answered; only then a failure can count against the ticket."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    finished: Finished
    report: Report
    log: Path
    agent: str

    def trailers(self) -> dict[str, object]:
        """Return the facts of the run as commit trailers; unknown ones are empty."""
        return {"Agent": self.agent, **self.report.usage.trailers(), "Seconds": f"{self.finished.seconds:.1f}"}


class Harness(ABC):
    """One kind of agent program."""

    name: str
    model_prefixes: tuple[str, ...] = ()
    """For a built-in backend, the prefixes of its models; '' takes any model that no other backend takes."""
    wants_endpoint = False
    """Whether the agent uses the MCP endpoint."""
    can_resume = False
    stderr_is_progress = False
    """Whether output on stderr counts as progress."""
    needs: tuple[str, ...] = ()
    """Patterns of variable names that the program needs beside `environment.ALLOWED`."""

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
        """Update the report from one line of output, and yield its events."""

    def model_options(self, task: Task) -> list[str]:
        """Return the options that choose the model; empty for the program's own default."""
        return ["--model", task.model] if task.model != self.name else []

    def label(self, model: str) -> str:
        """Return the agent's name for commit trailers."""
        return self.name if model == self.name else f"{self.name}/{model}"

    def settings(self, _task: Task, /) -> Mapping[str, str]:
        """Return variables to add to the program's environment."""
        return {}

    def probe(self) -> Sequence[str]:
        """Return a command that succeeds if the program's sandbox works; empty without a sandbox."""
        return ()

    def version(self) -> Sequence[str]:
        """Return a command that prints the program's version; empty if there is none."""
        return ()

    def login(self) -> Sequence[str]:
        """Return a command that succeeds if the user is signed in; empty if there is none."""
        return ()

    def account(self, _env: Mapping[str, str], /) -> str:
        """Return the credential that replaces a sign-in and is unknown to `login`, or ''."""
        return ""

    def sign_in(self) -> str:
        """Return a hint on how to sign in."""
        return ""

    def install_hint(self) -> str:
        return "install it, or name another model in 'scriptorium.json'"

    def check(self) -> None:
        """Raise, with exit code 78, if the program cannot be started here."""
        import shutil  # late, for `status`

        program = self.program()
        if shutil.which(program) is None:
            what = "is not on PATH" if "/" not in program else "is not an executable file"
            raise ScriptoriumError(f"'{program}' {what}", self.install_hint(), ExitCode.CONFIG)


def parse_event(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line; empty for any other line."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
