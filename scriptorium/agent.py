"""What every agent run has in common: its environment, and what it leaves behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote

import scriptorium
from scriptorium.git import IDENTITY
from scriptorium.harness import Harness, Outcome, Task, choose
from scriptorium.process import End
from scriptorium.transitions import Cause
from scriptorium.workspace import Workspace


def task(workspace: Workspace, role: str, prompt: str, directory: Path, subject: str) -> tuple[Harness, Task]:
    """Return the harness for a role and the task for it; raises when it cannot run here."""
    config = workspace.config
    harness, model = choose(config, role, workspace.repository.root)
    harness.check()
    environment = {
        "SCRIPTORIUM_ROLE": role,
        "SCRIPTORIUM_REPO": str(workspace.repository.root),
        "SCRIPTORIUM_WORKTREE": str(directory),
        "SCRIPTORIUM_TICKET": "",
        "SCRIPTORIUM_AREA": "",
        # a worktree that loses its .git file must not become the repository around it
        "GIT_CEILING_DIRECTORIES": str(directory.parent),
        "PATH": f"{launcher(workspace)}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **identity(workspace),
    }
    logs = workspace.paths.ensure(workspace.paths.attempts / subject)
    work = Task(role, prompt, directory, logs, model, config.effort(role), config.limits, environment)
    return harness, work


def launcher(workspace: Workspace) -> Path:
    """Return a directory with nothing in it but this `scriptorium`, to go first on the agents' PATH.

    The directory that it is installed in would bring along a Python that is not the project's.
    """
    source = Path(scriptorium.__path__[0]).parent
    start = f"import sys; sys.path.insert(0, {str(source)!r}); from scriptorium.main import main; main()"
    text = f'#!/bin/sh\nexec {quote(sys.executable)} -P -c {quote(start)} "$@"\n'
    directory = workspace.paths.ensure(workspace.paths.home / "bin")
    program = directory / "scriptorium"
    if not program.exists() or program.read_text() != text:
        draft = directory / f".{os.getpid()}"
        draft.write_text(text)
        draft.chmod(0o700)
        draft.replace(program)
    return directory


def identity(workspace: Workspace) -> dict[str, str]:
    """Return an author for the agent's commits, where the user has configured none."""
    if workspace.has_author:
        return {}
    name, email = IDENTITY
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }


def failure(outcome: Outcome, task: Task) -> tuple[Cause, str]:
    """Return why a run without a result failed, as a cause and a sentence."""
    limits = task.limits
    error = f": {outcome.report.error}" if outcome.report.error else ""
    match outcome.finished.end:
        case End.HARD_LIMIT:
            return Cause.TIMEOUT, f"The agent was ended at its limit of {limits.hard:g} seconds{error}"
        case End.NO_OUTPUT:
            return Cause.SILENCE, f"The agent was ended after {limits.no_output:g} seconds without output{error}"
        case End.NO_PROGRESS:
            return Cause.TIMEOUT, f"The agent was ended after {limits.no_progress:g} seconds without progress{error}"
        case End.EXIT if outcome.finished.status and outcome.report.error and not outcome.report.worked:
            return Cause.PROVIDER, f"The model could not be reached{error}"
        case End.EXIT if outcome.finished.status:
            return Cause.AGENT, f"The agent ended with exit code {outcome.finished.status}{error}"
        case End.EXIT:
            return Cause.NO_SUBMIT, f"The agent ended without handing in{error}"
