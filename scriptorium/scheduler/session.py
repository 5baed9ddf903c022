"""A session of `scriptorium run`: the checks before it, its endpoint, its log, and the driver."""

from __future__ import annotations

import logging
import signal
import sys
from enum import Enum, auto

from scriptorium.agents.harness.choice import choose
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import remove_stale_sockets
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped
from scriptorium.merge_queue.queue import clean_up_after_crash
from scriptorium.project.config import ACTIVE_ROLES
from scriptorium.project.workspace import Workspace
from scriptorium.scheduler.driver import Driver
from scriptorium.system import log, signals

logger = logging.getLogger(__name__)


class Until(Enum):
    """The end of a session."""

    ONCE = auto()
    """After one pass."""
    IDLE = auto()
    """When no step can make progress."""
    STOPPED = auto()
    """When a signal arrives."""


def run_session(workspace: Workspace, until: Until) -> ExitCode:
    """Run the steps, and return the exit code for the final state.

    Raises `ScriptoriumError` if the plan, master or an agent's program is missing, or another session runs.
    """
    workspace.plan.snapshot()
    workspace.master_commit()
    for role in ACTIVE_ROLES:
        choose(workspace.config, role, workspace.repository.root)[0].check()
    with workspace.hold("run"):
        sockets = workspace.paths.ensure(workspace.paths.sockets)
        remove_stale_sockets(sockets)
        workspace.paths.remove_stale_drafts()
        clean_up_after_crash(workspace)
        with Endpoint(*workspace.config.endpoint, sockets) as endpoint, signals.stoppable():
            _start_log(workspace, endpoint)
            endpoint.answer_callers()
            return _drive(Driver(workspace, endpoint), until)


def _start_log(workspace: Workspace, endpoint: Endpoint) -> None:
    config = workspace.config
    file = log.session_file(workspace.paths.ensure(workspace.paths.sessions))
    log.start(sys.stdout, log.wanted_level(config.log_level), file, config.file_log_level)
    logger.info("orchestrator listening on %s", endpoint.address)
    logger.info("repo: %s", workspace.repository.root)
    logger.info("log file: %s", file)


def _drive(driver: Driver, until: Until) -> ExitCode:
    try:
        match until:
            case Until.ONCE:
                driver.pass_once()
                return driver.verdict()
            case Until.IDLE:
                return driver.until_idle()
            case Until.STOPPED:
                driver.forever()
    except Stopped as stop:
        logger.info("stopped by %s", signal.Signals(stop.signum).name)
        raise
    except ScriptoriumError as error:
        logger.error("%s", error.message)
        raise
    return ExitCode.OK
