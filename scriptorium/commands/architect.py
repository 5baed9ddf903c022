"""scriptorium architect: turn spec.md into areas."""

from __future__ import annotations

import logging

from scriptorium.cli import Command
from scriptorium.plan.snapshot import WAITING
from scriptorium.planning.architect import update_areas
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit

log = logging.getLogger(__name__)


class Architect(Command):
    """Let the Architect divide spec.md into areas if the spec has changed since the last time.

    Prints the name of each changed area, one per line, and nothing when the areas are current.
    """

    def main(self) -> None:
        workspace = Workspace.open()
        if not workspace.plan.snapshot().has_spec:
            log.info(WAITING)
        for area in update_areas(workspace):
            emit(area)


main = Architect.launch
