"""scriptorium code: let the coding agent work on tickets in progress."""

from __future__ import annotations

import logging

from scriptorium.cli import Command
from scriptorium.coding.attempt import AttemptOutcome, idle_tickets, run_attempt
from scriptorium.errors import ExitCode
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit, tickets
from scriptorium.system import signals
from scriptorium.worktrees.tickets import WorktreeError

log = logging.getLogger(__name__)


class Code(Command):
    """Run the coding agent on tickets in progress, one after the other.

    TICKET is a name or a number; without any, they are the first fields of the lines on stdin. With
    neither, the command takes the abandoned tickets: those in progress that no process works on, for
    example after a crash. Prints each submitted ticket, one per line. A ticket that was not submitted
    is open again with a note, or stuck after its last attempt, and the exit code is 1.
    """

    USAGE = "    {progname} [options] [TICKET...]\n"

    def main(self, *names: str) -> int:
        workspace = Workspace.open()
        named = tickets(names)
        failed = False
        with signals.stoppable():
            for name in named or idle_tickets(workspace):
                signals.raise_if_stopped()  # for a signal that arrived when the last agent exited
                try:
                    coded = run_attempt(workspace, name)
                except WorktreeError as error:
                    log.error("%s", error.message)
                    failed = True
                    continue  # go on with the others
                failed |= coded.result in (AttemptOutcome.FAILED, AttemptOutcome.UNTRIED)
                if coded.result is AttemptOutcome.SUBMITTED:
                    emit(coded.ticket)
        return ExitCode.FAILED if failed else ExitCode.OK


main = Code.launch
