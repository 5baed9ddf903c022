"""scriptorium manager: turn areas into tickets."""

from __future__ import annotations

import logging

from scriptorium.cli import Command
from scriptorium.planning.manager import write_tickets
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit

log = logging.getLogger(__name__)


class Manager(Command):
    """Let the Manager write tickets for each area that has changed since the last time.

    The command assigns the ids and resolves dependencies. Prints each created ticket, one per line, and
    nothing when all areas are planned.
    """

    def main(self) -> None:
        write_tickets(Workspace.open(), report=emit)


main = Manager.launch
