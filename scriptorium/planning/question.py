"""One question to the Architect, answered from a read-only checkout."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from scriptorium.agents.failure import raise_if_failed
from scriptorium.agents.prompts import prompt
from scriptorium.agents.run import make_task, run_agent
from scriptorium.git.errors import GitError
from scriptorium.plan.snapshot import Plan
from scriptorium.planning.manager import known_tickets
from scriptorium.planning.transcript import Transcript
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks, process, signals
from scriptorium.system.text import printable
from scriptorium.worktrees.temporary import Purpose, discard_checkout, temporary_checkout

log = logging.getLogger(__name__)


PURPOSE = Purpose(
    "question", "Files that an agent wrote when it was asked a question", "the agent wrote files while it answered"
)


def ask(workspace: Workspace, question: str) -> str:
    """Return the answer to a question; stderr shows what the agent does. Raises if the agent fails."""
    plan = workspace.plan.snapshot()
    transcript = Transcript(sys.stderr, hold=True)
    with signals.stoppable(), _checkouts(workspace, plan) as directory:
        text = _prompt(workspace, plan, directory / "plan", question)
        harness, task = make_task(workspace, "architect", text, directory / "source", "ask")
        outcome = run_agent(workspace, harness, replace(task, read_only=True), transcript.event)
    if not outcome.finished.ok:
        transcript.flush()
    raise_if_failed(workspace, outcome, task, "ask")
    return printable(outcome.report.message).strip() or "(no answer)"


@contextmanager
def _checkouts(workspace: Workspace, plan: Plan) -> Iterator[Path]:
    """Check out master as ``source`` and a plan as ``plan`` below a new directory, for a block."""
    _discard_interrupted(workspace)
    directory = workspace.paths.ask_directory(secrets.token_hex(4))
    with locks.hold(workspace.paths.ask_lock(directory.name), directory.name):
        try:
            with (
                temporary_checkout(workspace, directory / "source", workspace.master_commit(), PURPOSE),
                temporary_checkout(workspace, directory / "plan", plan.commit, PURPOSE),
            ):
                yield directory
        finally:
            _forget(workspace, directory)


def _discard_interrupted(workspace: Workspace) -> None:
    """Discard the checkouts of commands that were killed, and terminate their processes."""
    workspace.paths.ensure(workspace.paths.ask_lock("x").parent)
    for directory in workspace.paths.ensure(workspace.paths.ask_directory("x").parent).iterdir():
        if locks.is_held(workspace.paths.ask_lock(directory.name)):
            continue
        process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={directory / 'source'}")
        for path in (directory / "source", directory / "plan"):
            try:
                discard_checkout(workspace, path, PURPOSE)
            except GitError as error:
                log.warning("%s; '%s' stays until the next run", error.message, path)
        _forget(workspace, directory)


def _forget(workspace: Workspace, directory: Path) -> None:
    """Remove the directory and the lock of a question; a directory with renamed content stays."""
    with suppress(OSError):
        directory.rmdir()
    workspace.paths.ask_lock(directory.name).unlink(missing_ok=True)


def _prompt(workspace: Workspace, plan: Plan, checkout: Path, question: str) -> str:
    areas = [f"{name}: {plan.read(f'areas/{name}.md').decode(errors='replace').strip()}" for name in plan.areas]
    return prompt(
        "ask",
        repo=workspace.repository.root,
        master=workspace.master,
        plan=checkout,
        spec=plan.spec.decode(errors="replace").strip() if plan.has_spec else "none yet",
        areas="\n\n".join(areas) or "none",
        tickets="\n".join(known_tickets(plan)) or "none",
        question=question,
    )
