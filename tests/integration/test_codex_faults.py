"""The real codex with a model that misbehaves on purpose; a real model does so only now and then."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.integration.conftest import Codex
from tests.integration.test_flow import steps
from tests.scripted_model import Fault, Item, Reply, Request, Shell, Text


def test_a_provider_that_fails_uses_up_no_attempt(codex: Codex) -> None:
    project = codex.project
    project.ticket("0001-greet")
    project.run("assign")
    with codex.answering(lambda _: Fault(500)) as requests:
        coded = project.run("code", "0001-greet")
    assert coded.code == 1
    assert len(requests) == 1
    assert "high demand" in coded.err  # what codex makes of a 500
    assert "attempts" not in project.plan_files()["tickets/open/0001-greet.md"]
    last = project.git("log", "-1", "--format=%B", "scriptorium/plan")
    assert last.startswith("scriptorium: reopen ticket 0001-greet")
    assert "Cause: provider" in last


def test_a_silent_model_is_ended_at_the_limit_with_all_its_commands(codex: Codex) -> None:
    project = codex.project
    project.configure(timeouts={"no_output": 5})
    project.ticket("0001-greet")
    project.run("assign")
    marker = project.root.parent / "child"

    def hanging(request: Request) -> Reply:
        return Shell(f"setsid sh -c 'echo $$ > {marker}; exec sleep 600' & sleep 600")

    with codex.answering(hanging):
        coded = project.run("code", "0001-greet")
    assert coded.code == 1
    assert "Attempt 1 failed: silence" in project.plan_files()["tickets/open/0001-greet.md"]
    assert not alive(marker.read_text().strip())


def alive(pid: str) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_planner_that_edits_more_than_the_spec_is_refused_and_its_spec_kept(codex: Codex) -> None:
    project = codex.project
    before = project.plan_files()
    both: Sequence[Item] = [Shell("echo better > spec.md; echo x > areas/stray.md"), Text("ok")]
    with codex.answering(lambda request: steps(request, *both)):
        planned = project.run("plan", "make it better")
    assert planned.code == 1
    assert "'areas/stray.md'" in planned.err
    assert project.plan_files() == before
    command = planned.err.partition("its spec is kept: ")[2].strip().split()
    assert subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True).stdout == "better\n"
