"""scriptorium doctor: check the requirements of all steps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode
from scriptorium.records import emit
from scriptorium.reports.doctor import CheckResult, CheckState, run_checks
from scriptorium.system import signals


class Doctor(Command):
    """Check the requirements of all steps: git, repository, gate, agent programs and submit tool.

    Prints one line per check, with a hint where it fails; useful but optional facts are a 'note'. Exits
    with 1 when a requirement is missing. It starts the agent programs to check their version, sign-in
    and sandbox, but runs no agent.
    """

    as_json = Flag("--json", help="print one JSON object")

    def main(self) -> int:
        findings = []
        with signals.stoppable():
            for finding in run_checks(Path.cwd()):
                findings.append(finding)
                if not self.as_json:
                    show(finding)
        ok = all(finding.state is not CheckState.FAILED for finding in findings)
        if self.as_json:
            print(json.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}, indent=2))
        return ExitCode.OK if ok else ExitCode.FAILED


def show(finding: CheckResult) -> None:
    """Print a finding as a record, and its hint as a record whose first field is empty."""
    emit(finding.state, finding.subject, finding.text)
    if finding.hint:
        emit("", f"hint: {finding.hint}")


main = Doctor.launch
