"""The git hooks that start steps: rendering, installing and removing them."""

from __future__ import annotations

import hashlib
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

from scriptorium.errors import ScriptoriumError
from scriptorium.project.workspace import Workspace
from scriptorium.system.resources import share

log = logging.getLogger(__name__)

NAMES = ("post-commit", "post-merge")

KEPT = ".before-scriptorium"
"""The suffix of an earlier hook of the user; the hook scripts contain it, too."""

MARK = b"# scriptorium-hook"
"""The line that marks our hooks. An installed hook adds a checksum of its other lines, which reveals edits."""


class HookState(StrEnum):
    """The state of a hook's file."""

    ABSENT = "absent"
    INSTALLED = "installed"
    OUTDATED = "outdated"  # ours and unedited, but 'install' would write another text now
    CHANGED = "changed"  # ours, and edited
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Hook:
    """The path of a hook in a repository, and the path beside it for an earlier hook of the user."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def kept(self) -> Path:
        return self.path.with_name(self.name + KEPT)

    @property
    def earlier(self) -> str:
        """The file name of the earlier hook, empty if there is none."""
        return self.kept.name if os.path.lexists(self.kept) else ""

    def state(self, wanted: bytes = b"") -> HookState:
        """Return the state of the file; ``wanted`` is the text that 'install' would write, or empty for any text."""
        if not os.path.lexists(self.path):
            return HookState.ABSENT
        data = b"" if self.path.is_symlink() or not self.path.is_file() else self.path.read_bytes()
        if MARK not in data:
            return HookState.FOREIGN
        if not is_sealed(data):
            return HookState.CHANGED
        right = data == wanted and os.access(self.path, os.X_OK)
        return HookState.INSTALLED if right or not wanted else HookState.OUTDATED

    def raise_if_blocked(self) -> None:
        """Raise if an installation would remove something of the user."""
        state = self.state()
        if state is HookState.CHANGED:
            hint = f"move what was added to '{self.kept}', which runs first, and delete '{self.path}'"
            raise ScriptoriumError(f"hook '{self.name}' was changed after it was installed", hint)
        if state is HookState.FOREIGN and self.earlier:
            hint = f"keep one of them, as '{self.path}'"
            raise ScriptoriumError(f"there are both a hook '{self.name}' and a hook '{self.kept.name}'", hint)

    def write(self, data: bytes) -> None:
        """Rename a hook of the user and write ours. After a crash in between, another call completes the work."""
        self.path.parent.mkdir(exist_ok=True)  # 'git init' with an empty template creates no such directory
        draft = self.path.with_name(f"{self.name}.{os.getpid()}")
        draft.write_bytes(data)
        draft.chmod(0o755)
        if self.state() is HookState.FOREIGN:
            self.path.rename(self.kept)
        draft.replace(self.path)

    def restore(self) -> None:
        """Remove our hook and restore the earlier one."""
        if self.earlier:
            self.kept.replace(self.path)
        else:
            self.path.unlink()


def install(workspace: Workspace) -> Iterator[str]:
    """Install the hooks or bring them up to date, and yield the name of each hook that was written.

    Raises, and changes nothing, if git would not run the hooks or a hook of the user is in the way.
    """
    _require_hooks_path(workspace)
    with _hooks(workspace) as hooks:
        for hook in hooks:
            hook.raise_if_blocked()
        files = {hook: render(workspace, hook.name) for hook in hooks}
        changes = [(hook, file) for hook, file in files.items() if hook.state(file) is not HookState.INSTALLED]
        for hook, file in changes:
            hook.write(file)
            yield hook.name
    if changes:
        log.info("steps that they start write to '%s'", workspace.paths.hook_log)


def uninstall(workspace: Workspace) -> Iterator[str]:
    """Remove our hooks, restore the earlier ones, and yield the name of each hook that was removed.

    Raises at the end if a hook was changed after its installation; that hook stays as it is.
    """
    with _hooks(workspace) as hooks:
        states = {hook: hook.state() for hook in hooks}
        # with traces of our hook, a foreign hook must have replaced it; without a trace, it is not our concern
        traces = any(
            state in (HookState.INSTALLED, HookState.CHANGED) or hook.earlier for hook, state in states.items()
        )
        for hook, state in states.items():
            if state is HookState.INSTALLED or (state is HookState.ABSENT and hook.earlier):
                hook.restore()
                yield hook.name
    not_ours = (HookState.CHANGED, HookState.FOREIGN) if traces else ()
    theirs = [hook for hook, state in states.items() if state in not_ours]
    if theirs:
        names = " and ".join(f"'{hook.name}'" for hook in theirs)
        hint = f"look at it in '{theirs[0].path.parent}', and delete it if it is not needed"
        raise ScriptoriumError(f"{names} changed after installation and stays as it is", hint)


@dataclass(frozen=True)
class HooksStatus:
    """The hooks of a repository. ``level`` and ``hooks_path`` are set if git uses another directory for its hooks."""

    directory: Path
    log: Path
    level: str
    hooks_path: str
    hooks: tuple[tuple[str, HookState, str], ...]
    """For each hook its name, its state, and the name of the earlier hook that it runs first, or ''."""


def status(workspace: Workspace) -> HooksStatus:
    """Return the directory, the log and the state of each hook."""
    level, value = foreign_path(workspace)
    hooks = [Hook(directory(workspace) / name) for name in NAMES]
    rows = [(hook.name, hook.state(render(workspace, hook.name)), hook.earlier) for hook in hooks]
    return HooksStatus(directory(workspace), workspace.paths.hook_log, level, value, tuple(rows))


def render(workspace: Workspace, name: str) -> bytes:
    """Return the text of a hook for a repository."""
    values = {"program": _program(), "branch": workspace.master, "log": str(workspace.paths.hook_log)}

    def bake(line: re.Match[str]) -> str:
        return f"{line[1]}={shlex.quote(values[line[1]])}"

    template = (share("hooks") / name).read_text(encoding="utf-8")
    text = re.sub(rf"^({'|'.join(values)})=.*$", bake, template, flags=re.MULTILINE)
    return seal(os.fsencode(text))


def seal(data: bytes) -> bytes:
    """Return a hook's text with its checksum in the mark."""
    digest = hashlib.sha256(data).hexdigest().encode()
    return data.replace(MARK + b"\n", MARK + b" " + digest + b"\n", 1)


def is_sealed(data: bytes) -> bool:
    """Return whether a hook is unchanged since a version of scriptorium wrote it."""
    bare = re.sub(rb"^%s [0-9a-f]{64}$" % re.escape(MARK), MARK, data, count=1, flags=re.MULTILINE)
    return bare != data and seal(bare) == data


def _program() -> str:
    """Return the path of the running scriptorium, or '' so that the hook uses PATH."""
    clone = share("hooks").parent / "bin"  # bin/scriptorium is no longer in argv
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
    """Hold the lock of the hooks for a block, and return the hooks."""
    with workspace.hold("hooks"):
        yield [Hook(directory(workspace) / name) for name in NAMES]


def foreign_path(workspace: Workspace) -> tuple[str, str]:
    """Return the configuration level and value of a core.hooksPath that names another directory, or two ''."""
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
