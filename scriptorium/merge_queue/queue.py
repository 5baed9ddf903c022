"""Whose turn it is in the merge queue."""

from __future__ import annotations

import logging

from scriptorium.errors import ScriptoriumError
from scriptorium.gate.health import master_health
from scriptorium.merge_queue.landing import recover_landing
from scriptorium.merge_queue.lane import ItemResult, Lane, refuse_while_red
from scriptorium.plan.ticket import TicketError
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks
from scriptorium.worktrees.sweep import sweep_branches, sweep_worktrees
from scriptorium.worktrees.tickets import WorktreeError

log = logging.getLogger(__name__)


def process_next(workspace: Workspace) -> ItemResult | None:
    """Bring the first item of the queue to an end; None when there is none to be had.

    While master is red only tickets marked ``repair: true`` have a turn; raises with exit code 3
    when there are others only, and with 75 when another merge is under way.
    """
    if not workspace.plan.snapshot().queue():
        return None
    directory = workspace.paths.ensure(workspace.paths.lock("merge").parent)
    with locks.hold(directory / "merge.lock", "merge"):
        recover_landing(workspace)
        sweep_worktrees(workspace, workspace.plan.snapshot())
        found = master_health(workspace)
        waiting = False
        failed: WorktreeError | None = None
        for item in workspace.plan.snapshot().queue():
            lock = workspace.paths.ensure(workspace.paths.ticket_lock(item.ticket).parent) / f"{item.ticket}.lock"
            if locks.is_held(lock):
                continue  # its agent is still at work
            with locks.hold(lock, item.ticket):
                lane = Lane(workspace, item)
                try:
                    if found.green or lane.may_run_while_red():
                        return lane.process()
                except TicketError as error:
                    log.warning("%s: it is passed over", error.message)
                    continue  # edited by hand since it was handed in
                except WorktreeError as error:
                    failed = error
                    continue  # the others need not wait for it
                waiting = True
        if failed:
            raise failed
        if waiting:
            refuse_while_red(found)
    return None


def clean_up_after_crash(workspace: Workspace) -> None:
    """Clear away what a crash between a landing and its clean-up left, unless another merge is under way."""
    directory = workspace.paths.ensure(workspace.paths.lock("merge").parent)
    try:
        workspace.plan.catch_up()
        with locks.hold(directory / "merge.lock", "merge"):
            recover_landing(workspace)
            sweep_worktrees(workspace, workspace.plan.snapshot())
            sweep_branches(workspace, workspace.plan.snapshot())
    except ScriptoriumError as error:
        log.debug("%s", error.message)  # a merge that is under way sweeps as well
