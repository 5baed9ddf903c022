"""scriptorium merge: process the next item of the merge queue."""

from __future__ import annotations

import logging

from scriptorium.cli import Command
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.merge_queue.lane import ItemOutcome
from scriptorium.merge_queue.queue import process_next
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit, tickets
from scriptorium.system import signals

log = logging.getLogger(__name__)


class Merge(Command):
    """Process the merge queue's next ticket: merge master into it, run the gate, land or reopen it.

    The queue decides the order. With TICKETs, names or numbers as arguments or as the first fields of
    the lines on stdin, items are processed until these tickets are through; without, one item is.
    Prints each ticket and 'landed' or 'reopened'. While master is red nothing lands and the exit code
    is 3, except for tickets marked 'repair: true'.
    """

    USAGE = "    {progname} [options] [TICKET...]\n"

    def main(self, *names: str) -> int:
        workspace = Workspace.open()
        named = tickets(names)  # all of stdin first: the previous steps of a pipeline change the plan
        plan = workspace.plan.snapshot()
        wanted = {plan.require(name)[0] for name in named}
        with signals.stoppable():
            while True:
                signals.raise_if_stopped()  # a short gate may finish before it checks for signals
                if wanted and wanted.isdisjoint(item.ticket for item in workspace.plan.snapshot().queue()):
                    return ExitCode.OK  # another process has processed them
                merged = process_next(workspace)
                if merged is None:
                    return ExitCode.OK
                if merged.outcome in (ItemOutcome.LANDED, ItemOutcome.REOPENED):
                    emit(merged.ticket, merged.outcome)
                if merged.outcome is ItemOutcome.WAITING:
                    raise ScriptoriumError(f"ticket '{merged.ticket}' waits: {merged.blocked_by}", merged.hint)
                wanted -= {merged.ticket}
                if not wanted:
                    return ExitCode.OK


main = Merge.launch
