"""The sandboxes of the agents' own programs: whether one works on this host, and what holds an agent.

A program says how to try its sandbox out (`Harness.probe`). The answer is kept in the repository's
own directory with all that it depends on, so that one ticket after the other does not ask again
and `status` can tell without starting anything. In force, only the agent's directory and a
temporary one of its own are writable: no ref, no hook and no other worktree is.
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
"""Seconds in which a probe has to answer; codex takes a quarter of one."""

RETRY_AFTER = 600.0
"""Seconds for which a no stands: what was missing may be mended in a way that no key shows."""

KERNEL_SETTINGS = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
"""Settings of Linux, below /proc/sys, that decide whether a sandbox works."""


@dataclass(frozen=True)
class Sandbox:
    """What holds the agents of a program: the sandbox's name, or '' and why there is none."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        return self.name or f"none ({self.reason})"


OFF = Sandbox("", "switched off in 'scriptorium.json'")


@contextmanager
def confined(workspace: Workspace, harness: Harness, task: Task) -> Iterator[Task]:
    """Give a task as it is to be run, in the program's sandbox where that works, and say what holds it."""
    import logging  # these three late: `status` only looks answers up
    import shutil
    import tempfile

    found = find_sandbox(workspace, harness, task.env)
    level = logging.INFO if harness.probe() else logging.DEBUG  # that a program never had one is no news
    logging.getLogger(__name__).log(level, "sandbox: %s", READ if found.name and task.read_only else found)
    if not found.name:
        yield task
        return
    # not below our root, because claude makes sockets in there, and a socket's path is cut at about 104 bytes
    temporary = tempfile.mkdtemp(prefix="scriptorium-")
    try:
        env = {**task.env, "TMPDIR": temporary}
        yield replace(task, sandboxed=True, git_dir=workspace.repository.common_dir, env=env)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_sandbox(workspace: Workspace, harness: Harness, env: Mapping[str, str], *, anew: bool = False) -> Sandbox:
    """Return what holds a program's agents here; starts the program when it is not known or asked ``anew``."""
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
    """Return what held the last agent of a backend, None when there was none; starts nothing."""
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
    """Return all that the answer depends on, as one short word."""
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
    """Run a program's probe and return what it shows."""
    from tempfile import TemporaryDirectory

    from scriptorium.system import process

    argv = harness.probe()
    if not argv:
        return Sandbox("", f"'{harness.name}' has none of its own")
    with TemporaryDirectory(dir=workspace.paths.ensure(workspace.paths.sandboxes)) as directory:
        try:
            # a TMPDIR as in a run: codex makes no helpers for its sandbox when its home lies below that
            tried = process.run_for_output(
                argv, cwd=Path(directory), env={**env, "TMPDIR": directory}, seconds=PROBE_TIMEOUT
            )
        except ScriptoriumError as error:
            return Sandbox("", error.message)
    return Sandbox("", tried.complaint) if tried.complaint else Sandbox(WRITE)
