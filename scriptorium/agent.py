"""What every agent run has in common: its environment, and what it leaves behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote

import scriptorium
from scriptorium import backends, sandbox, tripwire
from scriptorium.endpoint import Endpoint
from scriptorium.environment import allowed
from scriptorium.errors import ScriptoriumError
from scriptorium.git.environment import IDENTITY, for_agents
from scriptorium.harness import Event, Harness, Outcome, Task, runner
from scriptorium.harness.choice import choose
from scriptorium.harness.runner import last_session
from scriptorium.plan.cause import BACKEND, Cause
from scriptorium.project import disk
from scriptorium.project.workspace import Workspace
from scriptorium.submission import SubmitServer, Tools
from scriptorium.system import process
from scriptorium.system.files import replace_file
from scriptorium.system.process import End
from scriptorium.system.redact import redact


def task(workspace: Workspace, role: str, prompt: str, directory: Path, subject: str) -> tuple[Harness, Task]:
    """Return the harness for a role and the task for it; raises when it cannot run here."""
    config = workspace.config
    harness, model = choose(config, role, workspace.repository.root)
    harness.check()
    environment = allowed(os.environ, harness.needs, config.environment) | {
        "SCRIPTORIUM_ROLE": role,
        "SCRIPTORIUM_REPO": str(workspace.repository.root),
        "SCRIPTORIUM_WORKTREE": str(directory),
        "SCRIPTORIUM_TICKET": "",
        "SCRIPTORIUM_AREA": "",
        # a worktree that loses its .git file must not become the repository around it
        "GIT_CEILING_DIRECTORIES": str(directory.parent),
        "PATH": f"{launcher(workspace)}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **identity(workspace),
        **for_agents(directory),
    }
    logs = workspace.paths.ensure(workspace.paths.attempts / subject)
    price = config.prices.get(model)
    work = Task(role, prompt, directory, logs, model, config.effort(role), config.limits, environment, price=price)
    return harness, work


def run(workspace: Workspace, harness: Harness, task: Task, on_event: Callable[[Event], None] | None = None) -> Outcome:
    """Run an agent, unless its backend rests or the disk is full; a backend that refuses is made to rest.

    Raises `Resting`, with exit code 75, while it does.
    """
    disk.require(workspace)
    directory = workspace.paths.ensure(workspace.paths.backends)
    backends.require(directory, harness.name)
    watching = tripwire.watching(workspace, task.directory, task.role, task.env["SCRIPTORIUM_TICKET"])
    with sandbox.confined(workspace, harness, task) as confined, watching:
        outcome = runner.run(harness, confined, on_event)
    cause, reason = failure(outcome, task)
    backends.note(directory, harness.name, cause, reason)
    return outcome


def ready(workspace: Workspace, role: str) -> None:
    """Raise while no agent is to be started: `Resting` while the backend of a role rests, or without disk space."""
    disk.require(workspace)
    harness, _ = choose(workspace.config, role, workspace.repository.root)
    backends.require(workspace.paths.backends, harness.name)


def resume(harness: Harness, task: Task, prompt: str) -> Task:
    """Return a task that goes on with the session of the newest run of the same agent, where there is one."""
    if not harness.can_resume:
        return task
    return replace(task, session=last_session(task.logs, harness.label(task.model), prompt))


@contextmanager
def answering(
    workspace: Workspace, harness: Harness, task: Task, tools: Tools, endpoint: Endpoint | None, *, role: str = ""
) -> Iterator[Task]:
    """Answer an agent's tool calls for the length of a block; yields the task with what it needs to call.

    ``endpoint`` is the MCP server of a surrounding `scriptorium run`; without it, a harness that
    wants one gets its own. ``role`` chooses the tools that it lists, those of coding agents by default.
    """
    sockets = workspace.paths.ensure(workspace.paths.sockets)
    with ExitStack() as stack:
        server = stack.enter_context(SubmitServer(sockets, tools))
        url = ""
        if harness.wants_endpoint:
            url = (endpoint or stack.enter_context(Endpoint.local(sockets))).ready(role)
        own = {"SCRIPTORIUM_TOKEN": server.token, "SCRIPTORIUM_SOCKETS": str(sockets)}
        yield replace(task, env={**task.env, **own}, endpoint=url)


def launcher(workspace: Workspace) -> Path:
    """Return a directory with nothing in it but this `scriptorium`, to go first on the agents' PATH.

    The directory that it is installed in would bring along a Python that is not the project's.
    """
    source = Path(scriptorium.__path__[0]).parent
    start = f"import sys; sys.path.insert(0, {str(source)!r}); from scriptorium.main import main; main()"
    text = f'#!/bin/sh\nexec {quote(sys.executable)} -P -c {quote(start)} "$@"\n'
    directory = workspace.paths.ensure(workspace.paths.home / "bin")
    program = directory / "scriptorium"
    if not program.exists() or program.read_text(errors="surrogateescape") != text:
        replace_file(program, text, 0o700)
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
    limits, report, end = task.limits, outcome.report, outcome.finished.end
    error = f": {report.error}" if report.error else ""
    if report.cause in BACKEND or report.cause is Cause.AGENT:
        return report.cause, f"{WORDS[report.cause]}{error}"
    if end is not End.EXIT and report.session and not report.worked:
        return Cause.PROVIDER, f"The model had not answered after {outcome.finished.seconds:.0f} seconds{error}"
    match end:
        case End.HARD_LIMIT:
            return Cause.TIMEOUT, f"The agent was ended at its limit of {limits.hard:g} seconds{error}"
        case End.NO_OUTPUT:
            return Cause.SILENCE, f"The agent was ended after {limits.no_output:g} seconds without output{error}"
        case End.NO_PROGRESS:
            return Cause.TIMEOUT, f"The agent was ended after {limits.no_progress:g} seconds without progress{error}"
        case End.TOO_MUCH:
            return Cause.AGENT, f"The agent was ended after {process.OUTPUT_MOST // 2**20} MiB of output{error}"
        case End.EXIT if outcome.finished.status and report.error and not report.worked:
            return Cause.PROVIDER, f"The model could not be reached{error}"
        case End.EXIT if outcome.finished.status:
            return Cause.AGENT, f"The agent ended with exit code {outcome.finished.status}{error}"
        case End.EXIT:
            return Cause.NO_SUBMIT, f"The agent ended without handing in{error}"


def require(workspace: Workspace, outcome: Outcome, task: Task, subject: str, *, empty: bool = False) -> None:
    """Raise with what a person can do about it, when a run has failed.

    One that is ``empty`` has also failed where its backend has, as without its tools, and exits with 0.
    """
    cause, reason = failure(outcome, task)
    if outcome.finished.ok and not (empty and cause in BACKEND):
        return
    raise ScriptoriumError(
        f"{subject}: {reason[:1].lower()}{redact(reason[1:], *workspace.config.environments)}", f"see '{outcome.log}'"
    )


WORDS = {
    Cause.AUTH: "The provider refused the sign-in or key",
    Cause.RATE_LIMIT: "The provider's limit is reached",
    Cause.PROVIDER: "The model could not be reached",
    Cause.INFRASTRUCTURE: "The agent could not be set to work",
    Cause.AGENT: "The agent could not go on",
}
