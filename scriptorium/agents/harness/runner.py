"""Runs a harness's program and logs its output."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from scriptorium.agents.harness.base import Event, EventKind, Harness, Outcome, Report, Task
from scriptorium.agents.harness.classify import classify
from scriptorium.agents.harness.usage import NOTHING
from scriptorium.plan.cause import Cause
from scriptorium.system import process
from scriptorium.system.files import next_log
from scriptorium.system.process import EndReason
from scriptorium.system.redact import Secrets
from scriptorium.system.text import one_line, printable

MAX_ERROR = 1000
"""Characters of a program's error that are kept."""

MAX_SESSION_ID = 256


def run_harness(harness: Harness, task: Task, on_event: Callable[[Event], None] | None = None) -> Outcome:
    """Run the agent to its end; its raw output goes to ``<logs>/attempt-NN.jsonl``.

    ``on_event`` is called with each event. If the backend has lost the session, a new one starts.
    """
    if task.session is None or not harness.can_resume:
        return _run(harness, replace(task, session=None), task.prompt, on_event)
    outcome = _run(harness, task, task.session.prompt, on_event)
    report = outcome.report
    if outcome.finished.ok or report.worked or (report.cause and report.session):
        return outcome
    return _run(harness, replace(task, session=None), task.prompt, on_event)


def _run(harness: Harness, task: Task, prompt: str, on_event: Callable[[Event], None] | None) -> Outcome:
    task.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = next_log(task.logs, "attempt", ".jsonl")
    asked, last_message = log.with_suffix(".prompt.md"), log.with_suffix(".last.md")
    asked.write_text(prompt, encoding="utf-8", errors="surrogateescape")
    report = Report()
    environment = {**task.env, **harness.settings(task)}
    secrets = Secrets(environment)

    def watch(line: bytes) -> bool:
        events = list(harness.read(line, report))
        if on_event:
            for event in events:
                on_event(Event(event.kind, secrets.redact(event.text)))
        return any(event.kind is not EventKind.NOTE for event in events)

    try:
        finished = process.run_program(
            harness.argv(task, last_message),
            cwd=task.directory,
            env=environment,
            output=log,
            errors=log.with_suffix(".stderr"),
            prompt=asked,
            limits=task.limits,
            watch=watch,
            stderr_is_progress=harness.stderr_is_progress,
            first_signal=signal.SIGINT,  # known agents end their own commands on it
        )
    finally:
        for file in (log, log.with_suffix(".stderr"), asked, last_message):
            secrets.redact_file(file)
    if last_message.exists():
        report.message = last_message.read_text(errors="replace")
    if finished.end is EndReason.EXIT and finished.status and harness.can_resume and not report.session:
        # the program failed before a session began, as for a wrong option: not the ticket's failure
        report.error = report.error or _error_line(log.with_suffix(".stderr"))
        report.cause = report.cause or classify(0, report.error) or Cause.INFRASTRUCTURE
    report.message, report.error = secrets.redact(report.message), secrets.redact(report.error)
    sanitize_report(report, task)
    outcome = Outcome(finished, report, log, harness.label(task.model))
    log.with_suffix(".json").write_text(json.dumps({**asdict(report), "trailers": outcome.trailers()}))
    return outcome


def sanitize_report(report: Report, task: Task) -> Report:
    """Sanitize a report in place, compute its usage, and return it; the agent controls its texts."""
    report.message, report.error = printable(report.message), one_line(report.error)[:MAX_ERROR]
    # the id becomes an argument of the program later, and must not look like an option
    usable = report.session.isprintable() and len(report.session) <= MAX_SESSION_ID and report.session[:1] != "-"
    report.session = report.session if usable else ""
    spent = task.session.spent if task.session else NOTHING
    if report.total is not None:
        report.usage = report.usage | (report.total - spent)
    elif task.session:
        report.total = spent  # ended before it reported usage; the next run of the session reports it
    report.usage = report.usage.priced(task.price)
    return report


def _error_line(errors: Path) -> str:
    """Return the first line of stderr that begins with "error", else the last line."""
    lines = errors.read_text(errors="replace").split("\n") if errors.exists() else []
    lines = [line.strip() for line in lines if line.strip()]
    return next((line for line in lines if line.lower().startswith("error")), lines[-1] if lines else "")
