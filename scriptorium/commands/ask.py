"""scriptorium ask: a question about the project is answered, and nothing is changed."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from scriptorium import agent, locks, mending, process, rescue, worktree_list, worktrees
from scriptorium.cli import Command
from scriptorium.commands.manager import known_tickets
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git import GitError
from scriptorium.output import printable
from scriptorium.plan import Plan
from scriptorium.prompts import prompt
from scriptorium.transcript import Transcript, say
from scriptorium.working_tree import WorkingTree
from scriptorium.workspace import Workspace
from scriptorium.worktrees import SETUP_WAIT

log = logging.getLogger(__name__)


class Ask(Command):
    """Let the Architect answer a question from the spec, the plan and the source without changing anything.

    The agent reads a temporary checkout of master, so the command can run beside all others. Prints the answer.
    """

    USAGE = "    {progname} [options] QUESTION...\n"

    def main(self, *question: str) -> None:
        text = " ".join(question).strip()
        if not text:
            raise ScriptoriumError("the question is empty", 'scriptorium ask "what you want to know"', ExitCode.USAGE)
        say(ask(Workspace.open(), text), sys.stdout)


def ask(workspace: Workspace, question: str) -> str:
    """Return the answer to a question; what the agent does meanwhile is shown on stderr. Raises when it fails."""
    plan = workspace.plan.snapshot()
    transcript = Transcript(sys.stderr, hold=True)
    with process.stoppable(), _checkout(workspace, plan) as directory:
        text = _prompt(workspace, plan, directory / "plan", question)
        harness, task = agent.task(workspace, "architect", text, directory / "source", "ask")
        outcome = agent.run(workspace, harness, replace(task, read_only=True), transcript.event)
    if not outcome.finished.ok:
        transcript.flush()
    agent.require(workspace, outcome, task, "ask")
    return printable(outcome.report.message).strip() or "(no answer)"


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


@contextmanager
def _checkout(workspace: Workspace, plan: Plan) -> Iterator[Path]:
    """Check out master as ``source`` and a plan as ``plan``, detached, for the length of a block."""
    others = workspace.paths.ensure(workspace.paths.ask_directory("x").parent)
    workspace.paths.ensure(workspace.paths.ask_lock("x").parent)
    for directory in others.iterdir():
        if not locks.is_held(workspace.paths.ask_lock(directory.name)):
            process.end_leftovers(f"SCRIPTORIUM_WORKTREE={directory / 'source'}")  # of a command that was killed
            _clear(workspace, directory)
    directory = workspace.paths.ask_directory(secrets.token_hex(4))
    with locks.hold(workspace.paths.ask_lock(directory.name), directory.name):
        try:
            with locks.hold(workspace.paths.lock("worktrees"), "worktrees", wait=SETUP_WAIT):
                worktree_list.add(workspace.repository, directory / "source", start=workspace.master_commit())
                worktree_list.add(workspace.repository, directory / "plan", start=plan.commit)
            yield directory
        finally:
            _clear(workspace, directory)


def _clear(workspace: Workspace, directory: Path) -> None:
    """Remove what was checked out for a question."""
    for path in (directory / "source", directory / "plan"):
        if path.exists():
            _remove(workspace, path)
    with suppress(OSError):  # something was moved aside in there
        directory.rmdir()
    workspace.paths.ask_lock(directory.name).unlink(missing_ok=True)


def _remove(workspace: Workspace, path: Path) -> None:
    """Remove a worktree, and keep what was written there; one that git cannot read any more is moved aside."""
    repository, tree = workspace.repository, WorkingTree(workspace.repository, path)
    mending.unlock(workspace, path)
    try:
        _, head = tree.head()
        tips = (workspace.master_commit(), workspace.plan.snapshot().commit)
        changes = tree.changes()
        if changes or not any(repository.is_ancestor(head, tip) for tip in tips):
            commit = tree.snapshot(changes, head, "Files that an agent wrote when it was asked a question")
            rescue.keep(workspace, commit, "question", "the agent wrote files, and was only to answer")
            rescue.spare(workspace, path, commit)
        worktree_list.remove(repository, path)
    except (GitError, NotADirectoryError, FileNotFoundError) as error:
        if isinstance(error, GitError) and error.system:
            log.warning("%s; '%s' stays until the next question", error.message, path)
            return
        with suppress(FileNotFoundError):  # a neighbour may have removed it meanwhile
            rescue.set_aside(path)
        worktrees.forget(workspace)


main = Ask.launch
