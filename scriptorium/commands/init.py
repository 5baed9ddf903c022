"""scriptorium init: create the plan branch."""

from __future__ import annotations

from pathlib import Path

from scriptorium.cli import Command
from scriptorium.plan.snapshot import BRANCH
from scriptorium.project.workspace import Workspace


class Init(Command):
    """Create the orphan branch 'scriptorium/plan' in a repository; nothing else in it changes.

    PATH is any directory of the repository; the default is the current one. 'scriptorium --init' is the
    same command.
    """

    USAGE = "    {progname} [options] [PATH]\n"

    def main(self, path: str = ".") -> None:
        workspace = Workspace.open(Path(path))
        workspace.master_commit()
        workspace.plan.create()
        print(f"created '{BRANCH}' in '{workspace.repository.root}'")
        print('next: scriptorium plan "what you want built"')


main = Init.launch
