"""scriptorium rescue: list, restore or drop rescued work."""

from __future__ import annotations

import json

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.system.text import one_line
from scriptorium.worktrees.rescue import Kept, list_kept
from scriptorium.worktrees.restore import drop, find, restore


class Rescue(Command):
    """List, restore or drop rescued work.

    'list' prints a table of the rescued items; 'restore' creates a branch 'rescue/NAME' for each NAME,
    and prints both; 'drop' deletes each item, and prints its name and its commit or directory.
    """

    USAGE = "    {progname} [options] list|restore|drop [NAME...]\n"

    as_json = Flag("--json", help="print the list as one JSON array")

    def main(self, action: str = "", *names: str) -> int:
        if not action:
            hint = "one of: list, restore, drop"
            raise ScriptoriumError("'rescue' needs an action", hint, ExitCode.USAGE)
        if action not in ("list", "restore", "drop") or (self.as_json and action != "list"):
            subject = f"'{action} --json'" if self.as_json else f"'{action}'"
            raise ScriptoriumError(
                f"{subject} is not an action of 'rescue'", "one of: list, list --json, restore, drop", ExitCode.USAGE
            )
        if (action == "list") is bool(names):
            message = "'list' takes no names" if names else f"'{action}' needs the name of a rescued item"
            raise ScriptoriumError(message, "see 'scriptorium rescue list'", ExitCode.USAGE)
        workspace = Workspace.open()
        kept = list_kept(workspace)
        if action == "list":
            show(kept, as_json=bool(self.as_json))
        act = restore if action == "restore" else drop
        for found in find(kept, names):  # an unknown name fails before anything changes
            emit(found.name, act(workspace, found))
        return ExitCode.OK


def show(kept: list[Kept], *, as_json: bool) -> None:
    """Print the rescued items."""
    if as_json:
        rows = [{"name": k.name, "commit": k.commit, "subject": k.subject, "path": str(k.path or "")} for k in kept]
        print(json.dumps(rows, indent=2))
    elif not kept:
        print("scriptorium: nothing is kept")
    else:
        emit("NAME", "WHAT", "SUBJECT")
        for found in kept:
            emit(found.name, found.commit[:12] or str(found.path), one_line(found.subject))


main = Rescue.launch
