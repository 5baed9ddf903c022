"""The checks of `doctor`. Each yields its results, or raises the error that a step would raise."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from scriptorium.agents import sandbox
from scriptorium.agents.environment import allowed_variables, identity
from scriptorium.agents.harness.base import Harness
from scriptorium.agents.harness.choice import backend_name, choose, known_backends
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import SubmitServer
from scriptorium.errors import ScriptoriumError
from scriptorium.git.command import check_version
from scriptorium.integrations import git_hooks
from scriptorium.plan.snapshot import BRANCH
from scriptorium.project.config import ACTIVE_ROLES, Config
from scriptorium.project.disk import free_space
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks, process

TIMEOUT = 20.0
"""Seconds for a program to print its version or sign-in, and for the submit tool to reply."""


LOCK_GRACE = 0.5
"""Seconds after which a lock that is still there counts as stale."""


class CheckState(StrEnum):
    OK = "ok"
    NOTE = "note"  # useful, but not required
    FAILED = "failed"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    subject: str
    state: CheckState
    text: str
    hint: str = ""


def check_git() -> Iterator[CheckResult]:
    yield CheckResult("git", CheckState.OK, check_version().removeprefix("git version "))


def check_directory(workspace: Workspace) -> Iterator[CheckResult]:
    yield CheckResult("directory", CheckState.OK, str(workspace.paths.ensure(workspace.paths.home)))


def check_disk(workspace: Workspace) -> Iterator[CheckResult]:
    for path, left in free_space(workspace):
        text = f"{left / 1024:.1f} GiB free for '{path}'"
        if left < workspace.config.disk_floor:
            yield CheckResult(
                "disk", CheckState.FAILED, text, "free some space, or set SCRIPTORIUM_ROOT to another disk"
            )
        else:
            yield CheckResult("disk", CheckState.OK, text)


def check_author(workspace: Workspace) -> Iterator[CheckResult]:
    if workspace.has_author:
        email = workspace.repository.git("config", "--get", "user.email")[1].decode(errors="replace").strip()
        yield CheckResult("author", CheckState.OK, email)
    else:
        hint = "git config --global user.email you@example.com"
        yield CheckResult("author", CheckState.NOTE, "none configured, so agents commit as 'scriptorium'", hint)


def check_master(workspace: Workspace) -> Iterator[CheckResult]:
    from scriptorium.gate.results import Colour, recall_verdict

    commit = workspace.master_commit()
    colour = recall_verdict(workspace, workspace.repository.tree_of(commit))
    state = CheckState.OK if colour is Colour.GREEN else CheckState.NOTE
    hint = "" if colour is Colour.GREEN else "scriptorium health"
    yield CheckResult("master", state, f"{colour} {commit[:12]} on '{workspace.master}'", hint)


def check_gate(workspace: Workspace) -> Iterator[CheckResult]:
    """Check that the gate's program exists; for make also that master has a Makefile. The gate does not run."""
    command = workspace.config.gate
    words = _words(command)
    hint = "set 'gate' in 'scriptorium.json'"
    if words and not _is_there(workspace, words[0]):
        text = f"`{command}`: '{words[0]}' is not there"
        yield CheckResult("gate", CheckState.FAILED, text, f"install it, or {hint}")
    elif _lacks_makefile(workspace, words):
        text = f"`{command}`: there is no Makefile on '{workspace.master}'"
        yield CheckResult("gate", CheckState.FAILED, text, f"add one and commit, or {hint}")
    else:
        yield CheckResult("gate", CheckState.OK, f"`{command}`")


def _lacks_makefile(workspace: Workspace, words: list[str]) -> bool:
    """Return whether a command calls make and master has no Makefile for it; -C or -f may name another one."""
    if words[:1] not in (["make"], ["gmake"]) or any(word.startswith(("-C", "-f", "--")) for word in words):
        return False
    return not any(_in_master(workspace, name) for name in ("GNUmakefile", "makefile", "Makefile"))


def _is_there(workspace: Workspace, program: str) -> bool:
    if program.startswith("/"):
        return os.access(program, os.X_OK)
    if "/" in program:
        return bool(_in_master(workspace, program))
    argv = ("/bin/sh", "-c", 'command -v -- "$1"', "sh", program)  # the shell also knows its builtins
    return not process.run_for_output(argv, cwd=workspace.paths.home, env=os.environ, seconds=TIMEOUT).complaint


def _words(command: str) -> list[str]:
    """Return the words of a command, the program first; empty if only a shell can parse it."""
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        return []
    while words and re.match(r"\w+=", words[0]):
        del words[0]
    return words if words and not re.search(r"[(){}$`<>&|;*?]", words[0]) else []


def _in_master(workspace: Workspace, path: str) -> bytes:
    found = workspace.repository.objects.read(f"{workspace.master_commit()}:{os.path.normpath(path)}")
    return found.data if found and found.kind == "blob" else b""


def check_plan(workspace: Workspace) -> Iterator[CheckResult]:
    snapshot = workspace.plan.snapshot()
    yield CheckResult("plan", CheckState.OK, f"'{BRANCH}' at {snapshot.commit[:12]}")
    if snapshot.has_spec:
        yield CheckResult("spec", CheckState.OK, "written")
    else:
        yield CheckResult("spec", CheckState.NOTE, "not written yet: there is nothing to do", "scriptorium plan")


def check_hooks(workspace: Workspace) -> Iterator[CheckResult]:
    level, value = git_hooks.foreign_path(workspace)
    for name in git_hooks.NAMES:
        hook = git_hooks.Hook(git_hooks.directory(workspace) / name)
        state = hook.state(git_hooks.render(workspace, name))
        subject = f"hook {name}"
        if state is git_hooks.HookState.INSTALLED and level:
            text = f"installed, but git uses the hooks in '{value}' ('core.hooksPath', {level} configuration)"
            yield CheckResult(subject, CheckState.FAILED, text, "run 'scriptorium hooks install' for the options")
        elif state is git_hooks.HookState.OUTDATED:
            yield CheckResult(
                subject, CheckState.FAILED, "from another version or installation", "scriptorium hooks install"
            )
        elif state is git_hooks.HookState.CHANGED:
            yield CheckResult(
                subject,
                CheckState.FAILED,
                "changed after installation",
                "run 'scriptorium hooks install' for the reason",
            )
        else:
            yield CheckResult(
                subject, CheckState.OK if state is git_hooks.HookState.INSTALLED else CheckState.NOTE, str(state)
            )


def check_held_locks(workspace: Workspace) -> Iterator[CheckResult]:
    top = workspace.paths.lock("run").parent
    held = [str(path.relative_to(top).with_suffix("")) for path in sorted(top.rglob("*.lock")) if locks.is_held(path)]
    yield CheckResult("locks", CheckState.OK, f"held: {', '.join(held)}" if held else "none held")


def check_git_locks(workspace: Workspace) -> Iterator[CheckResult]:
    """Look for stale locks of a killed git. A running git releases its lock within moments."""
    common = workspace.repository.common_dir
    found = _numbers([*common.glob("*.lock"), *(common / "refs").rglob("*.lock"), *common.glob("worktrees/*/*.lock")])
    if found:
        time.sleep(LOCK_GRACE)
    left = sorted(found.items() & _numbers(found).items())
    for path, _ in left:
        yield CheckResult(
            "git locks", CheckState.FAILED, f"'{path}' is stale", f"if no git is at work, remove '{path}'"
        )
    if not left:
        yield CheckResult("git locks", CheckState.OK, "none are stale")


def _numbers(files: Iterable[Path]) -> dict[Path, int]:
    """Return the inode of each file that is still there."""
    found = {}
    for file in files:
        with suppress(FileNotFoundError):
            found[file] = file.stat().st_ino
    return found


def check_endpoint(workspace: Workspace) -> Iterator[CheckResult]:
    host, port = workspace.config.endpoint
    if workspace.is_held("run"):
        yield CheckResult("endpoint", CheckState.OK, f"'{host}:{port}' is served by the run")
        return
    with Endpoint(host, port, workspace.paths.sockets) as free:
        yield CheckResult("endpoint", CheckState.OK, f"{free.address} is free for a run")


def check_submit_tool(workspace: Workspace) -> Iterator[CheckResult]:
    """Call `submit_pr` as an agent does: over HTTP, with the token of a run."""
    said: list[str] = []

    def answer(given: dict[str, object]) -> str:
        said.append(str(given.get("summary")))
        return "taken"

    sockets = workspace.paths.ensure(workspace.paths.sockets)
    with SubmitServer(sockets, {"submit_pr": answer}) as server, Endpoint.local(sockets) as local:
        reply = _call(local.ready(), server.token)
    if (reply, said) != ("taken", ["doctor"]):
        hint = "add '127.0.0.1' to NO_PROXY, and check the firewall"
        yield CheckResult("submit tool", CheckState.FAILED, f"no reply over MCP: {reply}", hint)
    else:
        yield CheckResult("submit tool", CheckState.OK, "replies over MCP")


def _call(url: str, token: str) -> str:
    """Return the reply of the submit tool at a URL, or the error."""
    import asyncio

    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    async def call() -> str:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=TIMEOUT) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool("submit_pr", {"summary": "doctor"})
        return "".join(getattr(part, "text", "") for part in result.content)

    try:
        return asyncio.run(asyncio.wait_for(call(), TIMEOUT))
    except Exception as error:  # noqa: BLE001 - any error is the result of the check
        while isinstance(error, BaseExceptionGroup) and isinstance(error.exceptions[0], Exception):
            error = error.exceptions[0]
        return " ".join(str(error).split()) or type(error).__name__


def check_backends(workspace: Workspace) -> Iterator[CheckResult]:
    """Check each agent program; only those that a role uses are required."""
    config = workspace.config
    users: dict[str, list[str]] = {}
    for role in ACTIVE_ROLES:
        users.setdefault(backend_name(config, role), []).append(role)
    for name in dict.fromkeys((*known_backends(config), *users)):
        roles = users.get(name, [])
        role = roles[0] if roles else "coding"
        chosen = config if roles else replace(config, backends={role: name})
        try:
            harness, _ = choose(chosen, role, workspace.repository.root)
            harness.check()
        except ScriptoriumError as error:
            state = CheckState.FAILED if roles else CheckState.NOTE
            yield CheckResult(name, state, error.message + _for(roles), error.hint if roles else "")
            continue
        yield from _backend(workspace, harness, roles)


def _for(roles: list[str]) -> str:
    return f", for {', '.join(roles)}" if roles else ""


def _backend(workspace: Workspace, harness: Harness, roles: list[str]) -> Iterator[CheckResult]:
    """Check the version, sign-in and sandbox of an installed program."""
    environment = allowed_variables(os.environ, harness.needs, workspace.config.environment) | identity(workspace)

    def ask(*argv: str) -> process.ProgramOutput:
        return process.run_for_output(argv, cwd=workspace.paths.home, env=environment, seconds=TIMEOUT)

    needed = CheckState.FAILED if roles else CheckState.NOTE
    version = ask(*harness.version()) if harness.version() else process.ProgramOutput("", "")
    if version.complaint:
        yield CheckResult(
            harness.name, needed, f"does not start: {version.complaint}{_for(roles)}", harness.install_hint()
        )
        return
    words = " ".join(version.out.split()[:6]) or "found"
    yield CheckResult(harness.name, CheckState.OK if roles else CheckState.NOTE, f"{words}{_for(roles)}")

    account = harness.account(environment)
    if not account and harness.login():
        account = "signed in" if not ask(*harness.login()).complaint else ""
    if account:
        yield CheckResult(f"{harness.name} sign-in", CheckState.OK if roles else CheckState.NOTE, account)
    elif harness.login():
        yield CheckResult(f"{harness.name} sign-in", needed, "not signed in", harness.sign_in() if roles else "")

    found = sandbox.find_sandbox(workspace, harness, environment, anew=True)
    if harness.probe():
        off = workspace.config.sandbox == "off"
        hint = "" if found.name or off else f"'{harness.name}' runs without a sandbox; see 'Sandbox' in the README"
        yield CheckResult(f"{harness.name} sandbox", CheckState.OK if found.name else CheckState.NOTE, str(found), hint)


def run_checks(start: Path) -> Iterator[CheckResult]:
    """Yield the results one by one. Outside a repository only some checks are possible."""
    yield from _safely("git", check_git)
    try:
        workspace = Workspace.open(start)
    except ScriptoriumError as error:
        yield CheckResult("repository", CheckState.FAILED, error.message, error.hint)
        return
    try:
        _ = workspace.config
        yield CheckResult("configuration", CheckState.OK, "valid")
    except ScriptoriumError as error:
        yield CheckResult("configuration", CheckState.FAILED, error.message, error.hint)
        workspace.config = Config()  # the other checks use the defaults
    for subject, check in CHECKS.items():
        found = list(_safely(subject, lambda check=check: check(workspace)))  # type: ignore[misc]
        yield from found
        if subject == "directory" and found[0].state is CheckState.FAILED:
            return  # all other checks need it


CHECKS: dict[str, Callable[[Workspace], Iterator[CheckResult]]] = {
    "directory": check_directory,
    "disk": check_disk,
    "author": check_author,
    "master": check_master,
    "gate": check_gate,
    "plan": check_plan,
    "hooks": check_hooks,
    "locks": check_held_locks,
    "git locks": check_git_locks,
    "endpoint": check_endpoint,
    "submit tool": check_submit_tool,
    "backends": check_backends,
}
"""The checks of a repository, in order."""


def _safely(subject: str, check: Callable[[], Iterator[CheckResult]]) -> Iterator[CheckResult]:
    """Yield the results of a check; an error is a result, too."""
    try:
        yield from check()
    except ScriptoriumError as error:
        yield CheckResult(subject, CheckState.FAILED, error.message, error.hint)
    except OSError as error:
        yield CheckResult(subject, CheckState.FAILED, str(error).lower())
