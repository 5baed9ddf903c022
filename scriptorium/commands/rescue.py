"""scriptorium rescue: work that nobody had taken, and what to do with it."""

from __future__ import annotations

import json
import shutil

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git.repository import RefUpdate
from scriptorium.plan.snapshot import ZERO
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit
from scriptorium.system.text import one_line
from scriptorium.worktrees.rescue import PREFIX, Kept, list_kept

BRANCHES = "rescue/"
"""Where restored work goes: a branch of this prefix."""


class Rescue(Command):
    """List, restore or drop rescued work.

    'list' prints a table of the rescued items; 'restore' creates a branch 'rescue/NAME' for each NAME,
    and prints both; 'drop' deletes each item, and prints its name and its commit or directory.
    """

    USAGE = "    {progname} [options] list|restore|drop [NAME...]\n"

    as_json = Flag("--json", help="print the list as one JSON array")

    def main(self, action: str = "", *names: str) -> int:
        if not action:
            hint = "'scriptorium rescue list' shows what is kept"
            raise ScriptoriumError("rescue wants 'list', 'restore' or 'drop'", hint, ExitCode.USAGE)
        if action not in ("list", "restore", "drop") or (self.as_json and action != "list"):
            subject = f"'{action} --json'" if self.as_json else f"'{action}'"
            raise ScriptoriumError(
                f"{subject} is nothing that rescue can do", "one of: list, list --json, restore, drop", ExitCode.USAGE
            )
        if (action == "list") is bool(names):
            message = "'list' takes no names" if names else f"'{action}' needs the names of what is meant"
            raise ScriptoriumError(message, "see 'scriptorium rescue list'", ExitCode.USAGE)
        workspace = Workspace.open()
        kept = list_kept(workspace)
        if action == "list":
            show(kept, as_json=bool(self.as_json))
        for found in find(kept, names):  # all of them are known before the first is touched
            emit(found.name, restore(workspace, found) if action == "restore" else drop(workspace, found))
        return ExitCode.OK


def show(kept: list[Kept], *, as_json: bool) -> None:
    """Print what is kept."""
    if as_json:
        rows = [{"name": k.name, "commit": k.commit, "subject": k.subject, "path": str(k.path or "")} for k in kept]
        print(json.dumps(rows, indent=2))
    elif not kept:
        print("scriptorium: nothing is kept")
    else:
        emit("NAME", "WHAT", "SUBJECT")
        for found in kept:
            emit(found.name, found.commit[:12] or str(found.path), one_line(found.subject))


def find(kept: list[Kept], names: tuple[str, ...]) -> list[Kept]:
    """Return what is kept under some names, which may be whole refs; raises when one is unknown. Pure."""
    known = {found.name: found for found in kept}
    wanted = [name.removeprefix(PREFIX) for name in names]
    for name in wanted:
        if name not in known:
            raise ScriptoriumError(f"nothing is kept as '{name}'", "see 'scriptorium rescue list'")
    return [known[name] for name in dict.fromkeys(wanted)]


def restore(workspace: Workspace, kept: Kept) -> str:
    """Make a branch of a commit that is kept, and return its name; no checkout is touched."""
    if kept.path:
        raise ScriptoriumError(f"'{kept.name}' is a directory, which git could not read", f"look into '{kept.path}'")
    branch = BRANCHES + kept.name
    ref = f"refs/heads/{branch}"
    above = BRANCHES.rstrip("/")
    if workspace.repository.resolve(f"refs/heads/{above}"):  # git keeps branches as files
        raise ScriptoriumError(f"branch '{above}' is in the way of '{branch}'", f"rename it: git branch -m {above} NEW")
    made = workspace.repository.update_refs(RefUpdate(ref, kept.commit, ZERO))
    if not made and workspace.repository.resolve(ref) != kept.commit:
        raise ScriptoriumError(f"branch '{branch}' is there already, and is something else", f"rename '{branch}'")
    return branch


def drop(workspace: Workspace, kept: Kept) -> str:
    """Forget something that is kept, and return the commit it was, by which git finds it until it is pruned."""
    if kept.path:
        if kept.path.is_dir() and not kept.path.is_symlink():
            shutil.rmtree(kept.path)
        else:
            kept.path.unlink()  # an agent had put a file or a link in the place of its worktree
        return str(kept.path)
    if not workspace.repository.update_refs(RefUpdate(PREFIX + kept.name, "", kept.commit)):
        raise ScriptoriumError(
            f"'{PREFIX}{kept.name}' cannot be deleted", "see whether a git is at work, and try again"
        )
    return kept.commit


main = Rescue.launch
