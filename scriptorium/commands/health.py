"""scriptorium health: run the gate on master."""

from __future__ import annotations

import logging

from scriptorium.cli import Command
from scriptorium.errors import ExitCode
from scriptorium.gate.health import master_health
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.system import signals

log = logging.getLogger(__name__)


class Health(Command):
    """Run the gate on a clean checkout of master, unless the result for its tree is cached.

    Green is cached without limit, red for five minutes. Prints 'green <commit>' or 'red <commit>'; the
    exit code is 3 when master is red.
    """

    def main(self) -> int:
        workspace = Workspace.open()
        with signals.stoppable():
            found = master_health(workspace)
        emit(f"{found.colour} {found.commit}")
        if found.reason:
            log.warning("%s", found.reason)
        return ExitCode.OK if found.green else ExitCode.REFUSED


main = Health.launch
