"""scriptorium doctor: whether all that is needed is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from scriptorium import checks, process
from scriptorium.checks import Finding, State
from scriptorium.cli import Command, Flag
from scriptorium.config import Config
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.records import emit
from scriptorium.workspace import Workspace


class Doctor(Command):
    """Check the requirements of all steps: git, repository, gate, agent programs and submit tool.

    Prints one line per check, with a hint where it fails; useful but optional facts are a 'note'. Exits
    with 1 when a requirement is missing. It starts the agent programs to check their version, sign-in
    and sandbox, but runs no agent.
    """

    as_json = Flag("--json", help="print one JSON object")

    def main(self) -> int:
        findings = []
        with process.stoppable():
            for finding in examine(Path.cwd()):
                findings.append(finding)
                if not self.as_json:
                    show(finding)
        ok = all(finding.state is not State.FAILED for finding in findings)
        if self.as_json:
            print(json.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}, indent=2))
        return ExitCode.OK if ok else ExitCode.FAILED


def show(finding: Finding) -> None:
    """Print a finding as a record, and its hint as one without a first field."""
    emit(finding.state, finding.subject, finding.text)
    if finding.hint:
        emit("", f"hint: {finding.hint}")


def examine(start: Path) -> Iterator[Finding]:
    """Yield what is found, one thing after the other; outside a repository only what can be told there."""
    yield from _safely("git", checks.git)
    try:
        workspace = Workspace.open(start)
    except ScriptoriumError as error:
        yield Finding("repository", State.FAILED, error.message, error.hint)
        return
    try:
        _ = workspace.config
        yield Finding("configuration", State.OK, "can be used")
    except ScriptoriumError as error:
        yield Finding("configuration", State.FAILED, error.message, error.hint)
        workspace.config = Config()  # the rest is looked at as if there were none
    for subject, check in CHECKS.items():
        found = list(_safely(subject, lambda check=check: check(workspace)))  # type: ignore[misc]
        yield from found
        if subject == "directory" and found[0].state is State.FAILED:
            return  # all the rest needs it


CHECKS: dict[str, Callable[[Workspace], Iterator[Finding]]] = {
    "directory": checks.directory,
    "disk": checks.disk,
    "author": checks.author,
    "master": checks.master,
    "gate": checks.gate,
    "plan": checks.plan,
    "hooks": checks.git_hooks,
    "locks": checks.held_locks,
    "git locks": checks.git_locks,
    "endpoint": checks.endpoint,
    "submit tool": checks.submit_tool,
    "backends": checks.backends,
}
"""What is looked at in a repository, in this order."""


def _safely(subject: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds; what it raises is a finding, too."""
    try:
        yield from check()
    except ScriptoriumError as error:
        yield Finding(subject, State.FAILED, error.message, error.hint)
    except OSError as error:
        yield Finding(subject, State.FAILED, str(error).lower())


main = Doctor.launch
