"""scriptorium hooks: let commits to master and to the plan branch start steps."""

from __future__ import annotations

import json
import logging

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.integrations.git_hooks import HooksStatus, HookState, install, status, uninstall
from scriptorium.project.workspace import Workspace
from scriptorium.records import emit

log = logging.getLogger(__name__)


class Hooks(Command):
    """Install, uninstall or show the git hooks that start steps in the background.

    After a commit or merge on the plan branch that changed spec.md, they start 'scriptorium architect';
    after a commit or merge on master, 'scriptorium health'. Prints one line per changed hook, with
    'status' one line per hook.
    """

    USAGE = "    {progname} [options] install|uninstall|status\n"

    as_json = Flag("--json", help="print the status as one JSON object")

    def main(self, action: str = "") -> int:
        if not action:
            hint = "one of: install, uninstall, status"
            raise ScriptoriumError("'hooks' needs an action", hint, ExitCode.USAGE)
        if action not in ("install", "uninstall", "status") or (self.as_json and action != "status"):
            subject = f"'{action} --json'" if self.as_json else f"'{action}'"
            hint = "one of: install, uninstall, status, status --json"
            raise ScriptoriumError(f"{subject} is not an action of 'hooks'", hint, ExitCode.USAGE)
        workspace = Workspace.open()
        match action:
            case "install":
                for name in install(workspace):
                    emit(name, HookState.INSTALLED)
            case "uninstall":
                for name in uninstall(workspace):
                    emit(name, "uninstalled")
            case _:
                show(status(workspace), as_json=bool(self.as_json))
        return ExitCode.OK


def show(found: HooksStatus, *, as_json: bool) -> None:
    """Print the state of each hook, and the name of the earlier hook that it runs first."""
    if as_json:
        facts = {
            "directory": str(found.directory),
            "hooks_path": found.hooks_path if found.level else None,
            "log": str(found.log),
            "hooks": [
                {"name": name, "state": state, "earlier": earlier or None} for name, state, earlier in found.hooks
            ],
        }
        print(json.dumps(facts, indent=2))
        return
    for row in found.hooks:
        emit(*filter(None, row))
    if found.level:
        log.warning("git ignores these: 'core.hooksPath' is '%s' (%s configuration)", found.hooks_path, found.level)


main = Hooks.launch
