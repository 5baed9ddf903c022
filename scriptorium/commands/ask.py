"""scriptorium ask: a question about the project is answered, and nothing is changed."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from scriptorium import agent, locks, process, rescue
from scriptorium.cli import Command
from scriptorium.commands.manager import known_tickets
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git import GitError
from scriptorium.output import printable
from scriptorium.plan import Plan
from scriptorium.prompts import prompt
from scriptorium.redact import redact
from scriptorium.transcript import Transcript
from scriptorium.workspace import Workspace
from scriptorium.worktrees import SETUP_WAIT

log = logging.getLogger(__name__)


class Ask(Command):
    """Let the Architect answer a question from spec, plan and source, without changing anything.

    It reads a checkout of master that is thrown away afterwards, so that it can be asked beside
    everything else. Prints the answer.
    """

    USAGE = "    {progname} [options] QUESTION...\n"

    def main(self, *question: str) -> None:
        text = " ".join(question).strip()
        if not text:
            raise ScriptoriumError("the question is empty", 'scriptorium ask "what you want to know"', ExitCode.USAGE)
        print(ask(Workspace.open(), text))


def ask(workspace: Workspace, question: str) -> str:
    """Return the answer to a question; what the agent does meanwhile is shown on stderr. Raises when it fails."""
    plan = workspace.plan.snapshot()
    transcript = Transcript.of(workspace, sys.stderr, hold=True)
    with process.stoppable(), _checkout(workspace) as worktree:
        harness, task = agent.task(workspace, "architect", _prompt(workspace, plan, question), worktree, "ask")
        outcome = agent.run(workspace, harness, replace(task, read_only=True), transcript.event)
    if not outcome.finished.ok:
        transcript.flush()
    agent.require(workspace, outcome, task, "ask")
    return printable(redact(outcome.report.message, *workspace.config.environments)).strip() or "(no answer)"


def _prompt(workspace: Workspace, plan: Plan, question: str) -> str:
    areas = [f"{name}: {plan.read(f'areas/{name}.md').decode(errors='replace').strip()}" for name in plan.areas]
    return prompt(
        "ask",
        repo=workspace.repository.root,
        master=workspace.master,
        spec=plan.spec.decode(errors="replace").strip() if plan.has_spec else "none yet",
        areas="\n\n".join(areas) or "none",
        tickets="\n".join(known_tickets(plan)) or "none",
        question=question,
    )


@contextmanager
def _checkout(workspace: Workspace) -> Iterator[Path]:
    """Check master out, detached, for the length of a block; what was written there is kept by a rescue ref."""
    directory = workspace.paths.ensure(workspace.paths.ask_worktree("x").parent)
    workspace.paths.ensure(workspace.paths.ask_lock("x").parent)
    for path in directory.iterdir():
        _clear(workspace, path)
    path = workspace.paths.ask_worktree(secrets.token_hex(4))
    lock = workspace.paths.ask_lock(path.name)
    with locks.hold(lock, path.name):
        try:
            with locks.hold(workspace.paths.lock("worktrees"), "worktrees", wait=SETUP_WAIT):
                workspace.repository.add_worktree(path, start=workspace.master_commit())
            yield path
        finally:
            _remove(workspace, path)
            lock.unlink()


def _clear(workspace: Workspace, path: Path) -> None:
    """Remove a checkout that a killed command left, unless its command is at work."""
    lock = workspace.paths.ask_lock(path.name)
    if ".found-" in path.name or locks.is_held(lock):
        return
    process.end_leftovers(f"SCRIPTORIUM_WORKTREE={path}")
    _remove(workspace, path)
    lock.unlink(missing_ok=True)


def _remove(workspace: Workspace, path: Path) -> None:
    """Remove a checkout; one that git cannot read any more is moved aside, because a person can."""
    repository = workspace.repository
    try:
        _, head = repository.head_of(path)
        if repository.changes(path) or not repository.is_ancestor(head, workspace.master_commit()):
            commit = rescue.snapshot(path, head, "Files that an agent wrote when it was asked a question")
            rescue.keep(workspace, commit, "ask", "the agent wrote files, and was only to answer")
        repository.remove_worktree(path)
    except (GitError, NotADirectoryError, FileNotFoundError):
        if path.exists():
            path.rename(path.with_name(f"{path.name}.found-{secrets.token_hex(3)}"))
        repository.prune_worktrees()


main = Ask.launch
