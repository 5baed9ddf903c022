"""scriptorium run: chain the steps until stopped."""

from __future__ import annotations

import logging
import signal
import sys

from scriptorium.agents.harness.choice import choose
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import remove_stale_sockets
from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped
from scriptorium.merge_queue.queue import clean_up_after_crash
from scriptorium.project.workspace import Workspace
from scriptorium.scheduler.driver import Driver
from scriptorium.system import log, signals

logger = logging.getLogger(__name__)


class Run(Command):
    """Run the steps health, architect, manager, assign, code and merge in a loop.

    Logs to stdout and to a session file. SIGINT and SIGTERM stop it cleanly: a ticket in work is open
    again, and the attempt does not count. Only one run per repository is possible. With --once or
    --until-idle the exit code describes the final state: 1 if something is stuck, 3 if master is red,
    else 0.
    """

    once = Flag("--once", help="run each step once, then exit", excludes=["--until-idle"])
    until_idle = Flag("--until-idle", help="exit when no step can make progress")

    def main(self) -> int:
        workspace = Workspace.open()
        workspace.plan.snapshot()
        workspace.master_commit()
        for role in ("architect", "manager", "coding"):
            choose(workspace.config, role, workspace.repository.root)[0].check()
        with workspace.hold("run"):
            sockets = workspace.paths.ensure(workspace.paths.sockets)
            remove_stale_sockets(sockets)
            workspace.paths.remove_stale_drafts()
            clean_up_after_crash(workspace)
            with Endpoint(*workspace.config.endpoint, sockets) as endpoint, signals.stoppable():
                return self._drive(workspace, endpoint)

    def _drive(self, workspace: Workspace, endpoint: Endpoint) -> int:
        config = workspace.config
        directory = workspace.paths.ensure(workspace.paths.sessions)
        file = log.session_file(directory)
        log.start(sys.stdout, log.wanted_level(config.log_level), file, config.file_log_level)
        logger.info("orchestrator listening on %s", endpoint.address)
        logger.info("repo: %s", workspace.repository.root)
        logger.info("log file: %s", file)
        endpoint.answer_callers()
        driver = Driver(workspace, endpoint)
        try:
            if self.once:
                driver.pass_once()
                return driver.verdict()
            if self.until_idle:
                return driver.until_idle()
            driver.forever()
        except Stopped as stop:
            logger.info("stopped by %s", signal.Signals(stop.signum).name)
            raise
        except ScriptoriumError as error:
            logger.error("%s", error.message)
            raise
        return ExitCode.OK


main = Run.launch
