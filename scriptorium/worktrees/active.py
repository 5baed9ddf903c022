"""The list of ticket worktrees that are in use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, branch_of, ticket_path
from scriptorium.project.workspace import Workspace
from scriptorium.system.text import one_line


class ActiveWorktree(NamedTuple):
    """The worktree of a ticket in progress. The fields are the keys of the JSON form."""

    worktree: str
    ticket: str
    branch: str


def active_worktrees(workspace: Workspace, plan: Plan) -> list[ActiveWorktree]:
    """Return the worktrees of the tickets in progress.

    A ticket of the original names its worktree in its text; otherwise the ticket's name determines the path.
    """
    found = []
    for name in plan.tickets(State.IN_PROGRESS):
        text = plan.read(ticket_path(State.IN_PROGRESS, name)).decode(errors="surrogateescape")
        named = re.search(r"^\*\*Worktree:\*\*[ \t]*(\S.*?)[ \t\r]*$", text, re.MULTILINE)
        path = workspace.paths.ticket_worktree(name)
        if named and not path.exists():
            path = Path(one_line(named[1]).replace("\t", " "))
        if named or path.exists():
            found.append(ActiveWorktree(str(path), name, branch_of(name)))
    return found
