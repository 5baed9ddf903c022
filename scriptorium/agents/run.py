"""Runs an agent: its environment, tools, sandbox and cooldown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from scriptorium.agents import cooldown, sandbox, unexpected_changes
from scriptorium.agents.environment import allowed_variables, identity, launcher
from scriptorium.agents.failure import failure_of
from scriptorium.agents.harness.base import Event, Harness, Outcome, Task
from scriptorium.agents.harness.choice import choose
from scriptorium.agents.harness.runner import run_harness
from scriptorium.agents.run_log import last_session
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import SubmitServer, Tools
from scriptorium.git.environment import agent_git_variables
from scriptorium.project import disk
from scriptorium.project.workspace import Workspace


def make_task(workspace: Workspace, role: str, prompt: str, directory: Path, subject: str) -> tuple[Harness, Task]:
    """Return the harness for a role and its task. Raises if the program cannot be started here."""
    config = workspace.config
    harness, model = choose(config, role, workspace.repository.root)
    harness.check()
    environment = allowed_variables(os.environ, harness.needs, config.environment) | {
        "SCRIPTORIUM_ROLE": role,
        "SCRIPTORIUM_REPO": str(workspace.repository.root),
        "SCRIPTORIUM_WORKTREE": str(directory),
        "SCRIPTORIUM_TICKET": "",
        "SCRIPTORIUM_AREA": "",
        # without its .git file, a worktree must not be taken for a part of the repository around it
        "GIT_CEILING_DIRECTORIES": str(directory.parent),
        "PATH": f"{launcher(workspace)}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        **identity(workspace),
        **agent_git_variables(directory),
    }
    logs = workspace.paths.ensure(workspace.paths.attempts / subject)
    price = config.prices.get(model)
    work = Task(role, prompt, directory, logs, model, config.effort(role), config.limits, environment, price=price)
    return harness, work


def run_agent(
    workspace: Workspace, harness: Harness, task: Task, on_event: Callable[[Event], None] | None = None
) -> Outcome:
    """Run an agent; start a cooldown if its backend rejects the run.

    Raises `OnCooldown` if the backend is cooling down, and `ScriptoriumError` without disk space.
    """
    disk.require_free_space(workspace)
    directory = workspace.paths.ensure(workspace.paths.backends)
    cooldown.raise_if_active(directory, harness.name)
    watching = unexpected_changes.watch_for_changes(
        workspace, task.directory, task.role, task.env["SCRIPTORIUM_TICKET"]
    )
    with sandbox.confined(workspace, harness, task) as confined, watching:
        outcome = run_harness(harness, confined, on_event)
    cause, reason = failure_of(outcome, task)
    cooldown.record(directory, harness.name, cause, reason)
    return outcome


def check_can_start(workspace: Workspace, role: str) -> None:
    """Raise if no agent may be started: `OnCooldown` during a cooldown, `ScriptoriumError` without disk space."""
    disk.require_free_space(workspace)
    harness, _ = choose(workspace.config, role, workspace.repository.root)
    cooldown.raise_if_active(workspace.paths.backends, harness.name)


def resume_session(harness: Harness, task: Task, prompt: str) -> Task:
    """Return the task with the session of the newest run of the same agent, if it can be resumed."""
    if not harness.can_resume:
        return task
    return replace(task, session=last_session(task.logs, harness.label(task.model), prompt))


@contextmanager
def serve_tools(
    workspace: Workspace, harness: Harness, task: Task, tools: Tools, endpoint: Endpoint | None, *, role: str = ""
) -> Iterator[Task]:
    """Serve tools to an agent within a block; yields the task with the token and the addresses for calls.

    ``endpoint`` is the MCP endpoint of a surrounding `scriptorium run`; without it, a harness that
    needs an endpoint gets its own. ``role`` chooses the tools that the endpoint lists; '' means coding.
    """
    sockets = workspace.paths.ensure(workspace.paths.sockets)
    with ExitStack() as stack:
        server = stack.enter_context(SubmitServer(sockets, tools))
        url = ""
        if harness.wants_endpoint:
            url = (endpoint or stack.enter_context(Endpoint.local(sockets))).ready(role)
        own = {"SCRIPTORIUM_TOKEN": server.token, "SCRIPTORIUM_SOCKETS": str(sockets)}
        yield replace(task, env={**task.env, **own}, endpoint=url)
