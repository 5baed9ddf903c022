"""scriptorium run: run all steps in a loop until stopped."""

from __future__ import annotations

from scriptorium.cli import Command, Flag
from scriptorium.project.workspace import Workspace
from scriptorium.scheduler.session import Until, run_session


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
        until = Until.ONCE if self.once else Until.IDLE if self.until_idle else Until.STOPPED
        return run_session(Workspace.open(), until)


main = Run.launch
