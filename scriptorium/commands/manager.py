"""scriptorium manager: areas become tickets."""

from __future__ import annotations

import logging

from scriptorium.cli import Command
from scriptorium.planning.manager import write_tickets
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit

log = logging.getLogger(__name__)


class Manager(Command):
    """Let the Manager write tickets for each area that has changed since that was last done.

    Ids are given out here, and dependencies resolved. Prints a line for each ticket created, and
    nothing when all areas are planned.
    """

    def main(self) -> None:
        write_tickets(Workspace.open(), tell=emit)


main = Manager.launch
