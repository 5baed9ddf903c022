"""scriptorium hooks: commits to master and to the plan branch start steps."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scriptorium import locks
from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.records import emit
from scriptorium.share import share
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)

NAMES = ("post-commit", "post-merge")
KEPT = ".before-scriptorium"
"""What is added to the name of a hook that was there first; the hooks know it, too."""

MARK = b"# scriptorium-hook"
"""The line that tells our hooks; installed ones add a checksum of all else, so that an edit shows."""


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
            hint = "'scriptorium hooks status' shows what is there"
            raise ScriptoriumError("hooks wants 'install', 'uninstall' or 'status'", hint, ExitCode.USAGE)
        if action not in ("install", "uninstall", "status") or (self.as_json and action != "status"):
            subject = f"'{action} --json'" if self.as_json else f"'{action}'"
            hint = "one of: install, uninstall, status, status --json"
            raise ScriptoriumError(f"{subject} is nothing that hooks can do", hint, ExitCode.USAGE)
        workspace = Workspace.open()
        match action:
            case "install":
                install(workspace)
            case "uninstall":
                uninstall(workspace)
            case _:
                status(workspace, as_json=bool(self.as_json))
        return ExitCode.OK


class State(StrEnum):
    """What is found in the place of a hook."""

    ABSENT = "absent"
    INSTALLED = "installed"
    OUTDATED = "outdated"  # ours and untouched, but 'install' would write something else now
    CHANGED = "changed"  # ours, and edited since
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Hook:
    """A hook's place in a repository, and beside it that of the hook that was there first."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def kept(self) -> Path:
        return self.path.with_name(self.name + KEPT)

    @property
    def earlier(self) -> str:
        """The name under which a hook of the user's is kept, empty when there was none."""
        return self.kept.name if os.path.lexists(self.kept) else ""

    def state(self, wanted: bytes = b"") -> State:
        """Tell what is there; ``wanted`` is what 'install' would write, empty when that is all the same."""
        if not os.path.lexists(self.path):
            return State.ABSENT
        data = b"" if self.path.is_symlink() or not self.path.is_file() else self.path.read_bytes()
        if MARK not in data:
            return State.FOREIGN
        if not is_sealed(data):
            return State.CHANGED
        right = data == wanted and os.access(self.path, os.X_OK)
        return State.INSTALLED if right or not wanted else State.OUTDATED

    def require_room(self) -> None:
        """Raise when installing would take something of the user's away."""
        state = self.state()
        if state is State.CHANGED:
            hint = f"move what was added to '{self.kept}', which runs first, and delete '{self.path}'"
            raise ScriptoriumError(f"hook '{self.name}' was changed after it was installed", hint)
        if state is State.FOREIGN and self.earlier:
            hint = f"keep one of them, as '{self.path}'"
            raise ScriptoriumError(f"there is a hook '{self.name}' and a '{self.kept.name}' as well", hint)

    def write(self, data: bytes) -> None:
        """Put ours in place, a hook of the user's aside; a crash in between is mended by installing again."""
        self.path.parent.mkdir(exist_ok=True)  # 'git init' with an empty template makes none
        draft = self.path.with_name(f"{self.name}.{os.getpid()}")
        draft.write_bytes(data)
        draft.chmod(0o755)
        if self.state() is State.FOREIGN:
            self.path.rename(self.kept)
        draft.replace(self.path)

    def restore(self) -> None:
        """Take ours away and put back what was there."""
        if self.earlier:
            self.kept.replace(self.path)
        else:
            self.path.unlink()


def install(workspace: Workspace) -> None:
    """Install the hooks, or bring them up to date; raises, and changes nothing, where they could not work."""
    _require_hooks_path(workspace)
    with _hooks(workspace) as hooks:
        for hook in hooks:
            hook.require_room()
        files = {hook: render(workspace, hook.name) for hook in hooks}
        changes = [(hook, file) for hook, file in files.items() if hook.state(file) is not State.INSTALLED]
        for hook, file in changes:
            hook.write(file)
            emit(hook.name, State.INSTALLED)
    if changes:
        log.info("steps that they start write to '%s'", workspace.paths.hook_log)


def uninstall(workspace: Workspace) -> None:
    """Remove our hooks and restore what was there before; raises for a hook that is not ours any more."""
    with _hooks(workspace) as hooks:
        states = {hook: hook.state() for hook in hooks}
        # a hook of somebody else's beside traces of ours has replaced ours; with no trace, it is none of our business
        traces = any(state in (State.INSTALLED, State.CHANGED) or hook.earlier for hook, state in states.items())
        for hook, state in states.items():
            if state is State.INSTALLED or (state is State.ABSENT and hook.earlier):
                hook.restore()
                emit(hook.name, "uninstalled")
    not_ours = (State.CHANGED, State.FOREIGN) if traces else ()
    theirs = [hook for hook, state in states.items() if state in not_ours]
    if theirs:
        names = " and ".join(f"'{hook.name}'" for hook in theirs)
        hint = f"look at it in '{theirs[0].path.parent}', and delete it if it is not needed"
        raise ScriptoriumError(f"{names} changed after installation, and stays as it is", hint)


def status(workspace: Workspace, *, as_json: bool) -> None:
    """Print the state of each hook, and the name of the earlier hook that it runs first."""
    level, value = foreign_path(workspace)
    hooks = [Hook(directory(workspace) / name) for name in NAMES]
    rows = [(hook.name, hook.state(render(workspace, hook.name)), hook.earlier) for hook in hooks]
    if as_json:
        facts = {
            "directory": str(directory(workspace)),
            "hooks_path": value if level else None,
            "log": str(workspace.paths.hook_log),
            "hooks": [{"name": name, "state": state, "earlier": earlier or None} for name, state, earlier in rows],
        }
        print(json.dumps(facts, indent=2))
        return
    for name, state, earlier in rows:
        emit(*filter(None, (name, state, earlier)))
    if level:
        log.warning("git ignores these: 'core.hooksPath' is '%s' (%s configuration)", value, level)


def render(workspace: Workspace, name: str) -> bytes:
    """Return a hook as it is installed in a repository."""
    values = {"program": _program(), "branch": workspace.master, "log": str(workspace.paths.hook_log)}

    def bake(line: re.Match[str]) -> str:
        return f"{line[1]}={shlex.quote(values[line[1]])}"

    template = (share("hooks") / name).read_text(encoding="utf-8")
    text = re.sub(rf"^({'|'.join(values)})=.*$", bake, template, flags=re.MULTILINE)
    return seal(os.fsencode(text))


def seal(data: bytes) -> bytes:
    """Add the checksum of a hook's text to its mark."""
    digest = hashlib.sha256(data).hexdigest().encode()
    return data.replace(MARK + b"\n", MARK + b" " + digest + b"\n", 1)


def is_sealed(data: bytes) -> bool:
    """Tell whether a hook is as some version of scriptorium wrote it."""
    bare = re.sub(rb"^%s [0-9a-f]{64}$" % re.escape(MARK), MARK, data, count=1, flags=re.MULTILINE)
    return bare != data and seal(bare) == data


def _program() -> str:
    """Return the path of the scriptorium in use; empty leaves it to PATH."""
    clone = share("hooks").parent / "bin"  # bin/scriptorium is no more to be seen in argv
    for directory in (Path(sys.argv[0]).absolute().parent, Path(sys.executable).parent, clone):
        program = directory / "scriptorium"
        if program.is_file() and os.access(program, os.X_OK):
            return str(program)
    return ""


def directory(workspace: Workspace) -> Path:
    """Return the directory of a repository's own hooks."""
    return workspace.repository.common_dir / "hooks"


@contextmanager
def _hooks(workspace: Workspace) -> Iterator[list[Hook]]:
    """Give the hooks to whoever changes them, one at a time."""
    lock = workspace.paths.ensure(workspace.paths.lock("hooks").parent) / "hooks.lock"
    with locks.hold(lock, "hooks"):
        yield [Hook(directory(workspace) / name) for name in NAMES]


def foreign_path(workspace: Workspace) -> tuple[str, str]:
    """Return the configuration level and value of a core.hooksPath that leads elsewhere; empty for none."""
    level, value = workspace.repository.hooks_path(Path.cwd())
    elsewhere = (workspace.repository.root / value).resolve() != directory(workspace).resolve()
    return (level, value) if level and elsewhere else ("", "")


def _require_hooks_path(workspace: Workspace) -> None:
    level, value = foreign_path(workspace)
    if level:
        call = f'sh {shlex.quote(str(share("hooks") / "post-commit"))} "$@"'
        raise ScriptoriumError(
            f"git takes its hooks from '{value}' ('core.hooksPath', {level} configuration)",
            f"'git config --{level} --unset-all core.hooksPath', or let 'post-commit' there (and 'post-merge' "
            f"likewise) end with: {call}",
        )  # fmt: skip


main = Hooks.launch
