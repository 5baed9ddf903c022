"""Harnesses: how an agent program is called, and what its output means.

A harness turns a `Task` into an `Outcome`, and tells `Event`s meanwhile. One file each, beside this
one; the process itself is run by `scriptorium.process` for all of them alike.
"""

from __future__ import annotations

import json
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from scriptorium import process
from scriptorium.causes import Cause, classify
from scriptorium.config import BACKENDS, Config, Limits, Price
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.harness.usage import NOTHING, Usage
from scriptorium.output import next_log
from scriptorium.process import End, Finished
from scriptorium.redact import Secrets


class Kind(StrEnum):
    """What an event shows of an agent."""

    THINKING = "thinking"
    TOOL = "tool"
    TEXT = "text"
    NOTE = "note"  # a retry or a warning, which is no progress


@dataclass(frozen=True)
class Event:
    """Something an agent did, fit to be shown to a person."""

    kind: Kind
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
    wants_endpoint = False
    """Whether the agent is to be given the MCP endpoint."""
    can_resume = False
    needs: tuple[str, ...] = ()
    """Patterns of the names in our environment that the program is given beside the usual ones."""

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

    def remedy(self) -> str:
        return "install it, or name another model in 'scriptorium.json'"

    def check(self) -> None:
        """Raise, with exit code 78, when the program cannot be started here."""
        program = self.program()
        if shutil.which(program) is None:
            what = "is not on PATH" if "/" not in program else "is not a program that can be run"
            raise ScriptoriumError(f"'{program}' {what}", self.remedy(), ExitCode.CONFIG)

    def run(self, task: Task, on_event: Callable[[Event], None] | None = None) -> Outcome:
        """Run the agent to its end; its raw output stays in ``<logs>/attempt-NN.jsonl``.

        ``on_event`` is told what it does. A session that the backend does not know any more is
        replaced by a new one.
        """
        if task.session is None or not self.can_resume:
            return self._run(replace(task, session=None), task.prompt, on_event)
        outcome = self._run(task, task.session.prompt, on_event)
        report = outcome.report
        if outcome.finished.ok or report.worked or (report.cause and report.session):
            return outcome
        return self._run(replace(task, session=None), task.prompt, on_event)

    def _run(self, task: Task, prompt: str, on_event: Callable[[Event], None] | None) -> Outcome:
        task.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = next_log(task.logs, "attempt", ".jsonl")
        asked, last_message = log.with_suffix(".prompt.md"), log.with_suffix(".last.md")
        asked.write_text(prompt, errors="surrogateescape")
        report = Report()
        environment = {**task.env, **self.settings(task)}
        secrets = Secrets(environment)

        def watch(line: bytes) -> bool:
            events = list(self.read(line, report))
            if on_event:
                for event in events:
                    on_event(Event(event.kind, secrets.redact(event.text)))
            return any(event.kind is not Kind.NOTE for event in events)

        try:
            finished = process.run(
                self.argv(task, last_message),
                cwd=task.directory,
                env=environment,
                output=log,
                errors=log.with_suffix(".stderr"),
                prompt=asked,
                limits=task.limits,
                watch=watch,
                first_signal=signal.SIGINT,  # on which the known agents end their own commands
            )
        finally:
            for file in (log, log.with_suffix(".stderr"), asked, last_message):
                secrets.redact_file(file)
        if last_message.exists():
            report.message = last_message.read_text(errors="replace")
        if finished.end is End.EXIT and finished.status and self.can_resume and not report.session:
            # it ended before it began, as for a wrong option or without the tools it needs: not the ticket's doing
            report.error = report.error or _complaint(log.with_suffix(".stderr"))
            report.cause = report.cause or classify(0, report.error) or Cause.INFRASTRUCTURE
        report.message, report.error = secrets.redact(report.message), secrets.redact(report.error)
        spent = task.session.spent if task.session else NOTHING
        if report.total is not None:
            report.usage = report.usage | (report.total - spent)
        elif task.session:
            report.total = spent  # it was ended before it could tell; the next run of the session will
        report.usage = report.usage.priced(task.price)
        outcome = Outcome(finished, report, log, self.label(task.model))
        log.with_suffix(".json").write_text(json.dumps({**asdict(report), "trailers": outcome.trailers()}))
        return outcome


def parse_event(line: bytes) -> dict[str, Any]:
    """Return a line's JSON object; empty for anything else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _complaint(errors: Path) -> str:
    """Return the line of a program's stderr that names the error, else the last one."""
    lines = errors.read_text(errors="replace").split("\n") if errors.exists() else []
    lines = [line.strip() for line in lines if line.strip()]
    return next((line for line in lines if line.lower().startswith("error")), lines[-1] if lines else "")


def _past(logs: Path) -> dict[str, object]:
    """Return the facts of the newest finished run in a directory of logs; empty when there is none."""
    files = sorted(logs.glob("attempt-*.json"), key=lambda file: (len(file.name), file.name))
    try:
        facts = json.loads(files[-1].read_text()) if files else {}
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def last_trailers(logs: Path) -> dict[str, object]:
    """Return the trailers of the newest finished run in a directory of logs; empty when there is none."""
    trailers = _past(logs).get("trailers")
    return trailers if isinstance(trailers, dict) else {}


def last_session(logs: Path, agent: str, prompt: str) -> Session | None:
    """Return the session of the newest finished run, if it was that agent's and can be gone on with."""
    past = _past(logs)
    trailers, session = last_trailers(logs), past.get("session")
    if not session or not past.get("worked") or trailers.get("Agent") != agent or past.get("cause") == Cause.AGENT:
        return None  # one that could not go on, as with its context full, would fail again
    return Session(str(session), prompt, Usage.parse(past.get("total")))


def choose(config: Config, role: str, root: Path) -> tuple[Harness, str]:
    """Return the harness and the model for a role: by name, else by the model's prefix.

    ``root`` is the top of the repository, from which a relative program is meant.
    """
    model = config.model(role)
    name = config.backend(role)
    program = config.harnesses.get(name)
    if program is not None and program.protocol == "acp":
        from scriptorium.harness.acp import Acp

        return Acp(name, program, root), model
    if program is not None:
        from scriptorium.harness.command import Command

        return Command(name, program, root), model
    match name:
        case "codex":
            from scriptorium.harness.codex import Codex

            return Codex(), model
        case "claude-code":
            from scriptorium.harness.claude_code import ClaudeCode

            return ClaudeCode(), model
        case "typoi":
            from scriptorium.harness.typoi import Typoi

            return Typoi(model, config.harnesses), model
    from difflib import get_close_matches

    known = (*BACKENDS, *config.harnesses)
    near = get_close_matches(name, known, 1)
    raise ScriptoriumError(
        f"role '{role}' names the backend '{name}', which there is not",
        f"did you mean '{near[0]}'?" if near else f"one of: {', '.join(known)}",
        ExitCode.CONFIG,
    )
