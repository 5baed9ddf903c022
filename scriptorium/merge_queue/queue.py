"""The merge queue: which item is processed next."""

from __future__ import annotations

import logging

from scriptorium.errors import ScriptoriumError
from scriptorium.gate.health import master_health
from scriptorium.merge_queue.landing import recover_landing
from scriptorium.merge_queue.lane import ItemResult, Lane, refuse_while_red
from scriptorium.plan.ticket import TicketError
from scriptorium.project.workspace import Workspace
from scriptorium.worktrees.sweep import sweep_branches, sweep_worktrees
from scriptorium.worktrees.tickets import WorktreeError

log = logging.getLogger(__name__)


def process_next(workspace: Workspace) -> ItemResult | None:
    """Process the first item of the queue that can be processed; None if there is none.

    While master is red, only tickets marked ``repair: true`` are processed. Raises with exit code 3 if only other
    tickets are queued, and with exit code 75 if another process merges.
    """
    if not workspace.plan.snapshot().queue():
        return None
    with workspace.hold_merge() as merge_lock:
        recover_landing(workspace, merge_lock)
        sweep_worktrees(workspace, workspace.plan.snapshot(), merge_lock)
        found = master_health(workspace)
        waiting = False
        failed: WorktreeError | None = None
        for item in workspace.plan.snapshot().queue():
            if workspace.is_ticket_held(item.ticket):
                continue  # its agent is still at work
            with workspace.hold_ticket(item.ticket) as lock:
                lane = Lane(workspace, item, lock, merge_lock)
                try:
                    if found.green or lane.may_run_while_red():
                        return lane.process()
                except TicketError as error:  # the user has edited it since it was submitted
                    log.warning("%s: skipped", error.message)
                    continue
                except WorktreeError as error:
                    failed = error
                    continue
                waiting = True
        if failed:
            raise failed
        if waiting:
            refuse_while_red(found)
    return None


def clean_up_after_crash(workspace: Workspace) -> None:
    """Remove what a crash between a landing and its clean-up has left, unless another process merges."""
    try:
        workspace.plan.catch_up()
        with workspace.hold_merge() as lock:
            recover_landing(workspace, lock)
            sweep_worktrees(workspace, workspace.plan.snapshot(), lock)
            sweep_branches(workspace, workspace.plan.snapshot(), lock)
    except ScriptoriumError as error:
        log.debug("%s", error.message)  # a process that merges sweeps as well
