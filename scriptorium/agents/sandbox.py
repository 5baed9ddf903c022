"""The sandboxes of the agents' own programs: whether one works on this host, and which one a run uses.

`Harness.probe` is a command that tries a sandbox. Its result is cached in the state directory with a
key of everything that it depends on, so `status` can print it without starting a program. In a
sandbox, an agent can write to its worktree and a temporary directory only: to no ref, hook or other
worktree.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.errors import ScriptoriumError
from scriptorium.project.workspace import Workspace
from scriptorium.system.files import replace_file

if TYPE_CHECKING:
    from scriptorium.agents.harness.base import Harness, Task

WRITE, READ = "workspace-write", "read-only"

PROBE_TIMEOUT = 20.0
"""Time limit of a probe in seconds; codex needs 0.25 s."""

RETRY_AFTER = 600.0
"""Seconds until a failed probe is tried again: a repair may not change the key."""

KERNEL_SETTINGS = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
"""Linux settings below /proc/sys that decide whether a sandbox works."""


@dataclass(frozen=True)
class Sandbox:
    """The sandbox of a program's agents: its name, or '' and the reason why there is none."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        return self.name or f"none ({self.reason})"


OFF = Sandbox("", "switched off in 'scriptorium.json'")


@contextmanager
def confined(workspace: Workspace, harness: Harness, task: Task) -> Iterator[Task]:
    """Yield the task, in the program's sandbox if that works on this host; logs the sandbox."""
    import logging  # these three late: `status` only reads the cache
    import shutil
    import tempfile

    found = find_sandbox(workspace, harness, task.env)
    level = logging.INFO if harness.probe() else logging.DEBUG  # not worth a line for a program without a sandbox
    logging.getLogger(__name__).log(level, "sandbox: %s", READ if found.name and task.read_only else found)
    if not found.name:
        yield task
        return
    # not below the state root: claude creates sockets in it, and a socket's path is limited to about 104 bytes
    temporary = tempfile.mkdtemp(prefix="scriptorium-")
    try:
        env = {**task.env, "TMPDIR": temporary}
        yield replace(task, sandboxed=True, git_dir=workspace.repository.common_dir, env=env)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_sandbox(workspace: Workspace, harness: Harness, env: Mapping[str, str], *, anew: bool = False) -> Sandbox:
    """Return the sandbox for a program's agents; runs the probe if no result is cached, or with ``anew``."""
    if workspace.config.sandbox == "off":
        return OFF
    key = _key(harness)
    file = _file(workspace, harness.name)
    found = None if anew else _read(file, key)
    if found is None or (not found.name and time.time() - file.stat().st_mtime > RETRY_AFTER):
        found = _probe(workspace, harness, env)
        workspace.paths.ensure(file.parent)
        replace_file(file, json.dumps({"key": key, "name": found.name, "reason": found.reason}))
    return found


def recorded_sandbox(workspace: Workspace, backend: str) -> Sandbox | None:
    """Return the sandbox of the last agent of a backend, None if there was none; starts no program."""
    return OFF if workspace.config.sandbox == "off" else _read(_file(workspace, backend))


def _file(workspace: Workspace, backend: str) -> Path:
    return workspace.paths.sandboxes / f"{backend.replace('/', '%')}.json"


def _read(file: Path, key: str = "") -> Sandbox | None:
    try:
        facts = json.loads(file.read_text())
        return Sandbox(facts["name"], facts["reason"]) if key in ("", facts["key"]) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _key(harness: Harness) -> str:
    """Return a hash of everything that the result of a probe depends on."""
    from shutil import which

    facts: list[object] = [list(harness.probe()), os.geteuid(), *os.uname()]
    for name in (harness.program(), "bwrap", "socat"):
        path = which(name) or ""
        facts += [path, os.stat(path).st_mtime_ns if path else 0]  # noqa: PTH116
    facts += [_setting(name) for name in KERNEL_SETTINGS]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


def _probe(workspace: Workspace, harness: Harness, env: Mapping[str, str]) -> Sandbox:
    """Run a program's probe and return the sandbox that works."""
    from tempfile import TemporaryDirectory

    from scriptorium.system import process

    argv = harness.probe()
    if not argv:
        return Sandbox("", f"'{harness.name}' has no sandbox")
    with TemporaryDirectory(dir=workspace.paths.ensure(workspace.paths.sandboxes)) as directory:
        try:
            # a TMPDIR as in a run: codex creates no sandbox helpers if its home is below TMPDIR
            tried = process.run_for_output(
                argv, cwd=Path(directory), env={**env, "TMPDIR": directory}, seconds=PROBE_TIMEOUT
            )
        except ScriptoriumError as error:
            return Sandbox("", error.message)
    return Sandbox("", tried.complaint) if tried.complaint else Sandbox(WRITE)
