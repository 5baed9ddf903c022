"""Harnesses: how an agent program is called, and what its output means.

A harness turns a `Task` into an `Outcome`. One file each, beside this one; the process itself is
run by `scriptorium.process` for all of them alike.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scriptorium import process
from scriptorium.config import Config, Limits
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.output import next_log
from scriptorium.process import Finished


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
    endpoint: str = ""
    """The URL of the MCP server with the submit tool, or '' for none."""


@dataclass
class Report:
    """What is learnt from an agent's output, filled in line by line."""

    message: str = ""
    error: str = ""
    session: str = ""
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
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
        report = self.report
        return {
            "Agent": self.agent,
            "Tokens-In": report.tokens_in or "",
            "Tokens-Cached": report.tokens_cached or "",
            "Tokens-Out": report.tokens_out or "",
            "Cost-USD": f"{report.cost_usd:.6f}" if report.cost_usd else "",
            "Seconds": f"{self.finished.seconds:.1f}",
        }


class Harness(ABC):
    """One kind of agent program."""

    name: str
    wants_endpoint = False
    """Whether the agent is to be given the MCP endpoint."""

    @abstractmethod
    def argv(self, task: Task, last_message: Path, /) -> list[str]:
        """Return the command line; the prompt is on stdin."""

    @abstractmethod
    def read(self, line: bytes, report: Report) -> bool:
        """Learn from one line of output; tell whether it shows that the agent gets on."""

    def settings(self) -> Mapping[str, str]:
        """Return what the program needs in its environment."""
        return {}

    def check(self) -> None:
        """Raise, with exit code 78, when the program cannot be started here."""
        program = self.program()
        if shutil.which(program) is None:
            what = "is not on PATH" if "/" not in program else "is not a program that can be run"
            raise ScriptoriumError(f"'{program}' {what}", self.remedy(), ExitCode.CONFIG)

    @abstractmethod
    def program(self) -> str: ...

    def remedy(self) -> str:
        return "install it, or name another model in 'scriptorium.json'"

    def run(self, task: Task) -> Outcome:
        """Run the agent to its end; its raw output stays in ``<logs>/attempt-NN.jsonl``."""
        task.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = next_log(task.logs, "attempt", ".jsonl")
        prompt, last_message = log.with_suffix(".prompt.md"), log.with_suffix(".last.md")
        prompt.write_text(task.prompt, errors="surrogateescape")
        report = Report()

        finished = process.run(
            self.argv(task, last_message),
            cwd=task.directory,
            env={**os.environ, **self.settings(), **task.env},
            output=log,
            errors=log.with_suffix(".stderr"),
            prompt=prompt,
            limits=task.limits,
            watch=lambda line: self.read(line, report),
            first_signal=signal.SIGINT,  # on which the known agents end their own commands
        )
        if last_message.exists():
            report.message = last_message.read_text(errors="replace")
        outcome = Outcome(finished, report, log, f"{self.name}/{task.model}" if task.model != self.name else self.name)
        log.with_suffix(".json").write_text(json.dumps({**outcome.trailers(), **asdict(report)}))
        return outcome


def last_trailers(logs: Path) -> dict[str, object]:
    """Return the trailers of the newest finished run in a directory of logs; empty when there is none."""
    files = sorted(logs.glob("attempt-*.json"))
    try:
        facts = json.loads(files[-1].read_text()) if files else {}
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in facts.items() if key[0].isupper()}


def choose(config: Config, role: str, root: Path) -> tuple[Harness, str]:
    """Return the harness and the model for a role: by name, else by the model's prefix.

    ``root`` is the top of the repository, from which a relative program is meant.
    """
    model = config.model(role)
    program = config.harnesses.get(model)
    if program is not None:
        from scriptorium.harness.command import Command

        return Command(model, program, root), model
    if model.startswith(("gpt-", "codex-")):
        from scriptorium.harness.codex import Codex

        return Codex(), model
    from difflib import get_close_matches

    backend = "claude-code" if model.startswith("claude-") else "typoi"
    near = get_close_matches(model, config.harnesses, 1)
    hint = "use a 'gpt-…' or 'codex-…' model, or name the program under 'harnesses'"
    raise ScriptoriumError(
        f"model '{model}' of role '{role}' needs the backend '{backend}', which is not there yet",
        f"did you mean '{near[0]}'?" if near else hint,
        ExitCode.CONFIG,
    )
