"""scriptorium code: the coding agent works on tickets in progress."""

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
    """Let the coding agent work on tickets in progress, one after the other.

    TICKET is a name or a number; without any they are the first fields of the lines on stdin. With
    neither, the tickets are taken up that are in progress and at which nobody is at work, such as a
    crash leaves behind. Prints a line for each ticket handed in. One that was not is open again
    with a note, or stuck after its last attempt, and the exit code is 1.
    """

    USAGE = "    {progname} [options] [TICKET...]\n"

    def main(self, *names: str) -> int:
        workspace = Workspace.open()
        named = tickets(names)
        failed = False
        with signals.stoppable():
            for name in named or idle_tickets(workspace):
                signals.raise_if_stopped()  # a signal that came as the last agent ended
                try:
                    coded = run_attempt(workspace, name)
                except WorktreeError as error:
                    log.error("%s", error.message)
                    failed = True
                    continue  # the others need not wait for it
                failed |= coded.result in (AttemptOutcome.FAILED, AttemptOutcome.UNTRIED)
                if coded.result is AttemptOutcome.SUBMITTED:
                    emit(coded.ticket)
        return ExitCode.FAILED if failed else ExitCode.OK


main = Code.launch
