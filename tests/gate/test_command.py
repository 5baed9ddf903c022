"""The gate: its environment, its output, and its recorded results."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scriptorium.gate.command import GateResult, run_gate
from scriptorium.gate.results import RED_FOR, Colour, recall_verdict, record_verdict
from tests.support import BUSY, Project, busy_pids, is_alive, write_script

TREE = "1" * 40
OTHER = "2" * 40


def run(project: Project, command: str) -> GateResult:
    project.configure(gate=command)
    return run_gate(project.workspace, project.root, "0001-thing")


def answer(project: Project) -> Path:
    (file,) = project.workspace.paths.gates.iterdir()
    return file


def test_green_and_red_come_by_the_exit_code_and_every_output_is_kept(project: Project) -> None:
    green, red = run(project, "echo fine"), run(project, "echo bad >&2; exit 3")

    assert (green.green, green.reason, green.tail) == (True, "", "fine")
    assert (red.green, red.reason, red.tail) == (False, "`echo bad >&2; exit 3` failed with exit code 3", "bad")
    assert [green.log.name, red.log.name] == ["gate-01.log", "gate-02.log"]
    assert (green.log.read_text(), red.log.read_text()) == ("fine\n", "bad\n")


def test_a_gate_that_is_not_there_is_red(project: Project) -> None:
    result = run(project, "no-such-tool")

    assert (result.green, result.reason) == (False, "`no-such-tool` failed with exit code 127")


def test_the_gate_has_its_worktree_but_no_stdin_and_cannot_submit(
    project: Project, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOKEN", "SOCKETS", "ROLE", "TICKET"):
        monkeypatch.setenv(f"SCRIPTORIUM_{name}", "the agent's")
    monkeypatch.setenv("MINE", "kept")

    project.configure(
        gate='make test >"$FACTS/made"; env >"$FACTS/env"; pwd >"$FACTS/pwd"; cat; git status --porcelain'
    )
    project.gate("echo tested")
    foreign = {"GIT_DIR": str(project.root / ".git"), "GIT_INDEX_FILE": "/nowhere", "MAKEFLAGS": "--dry-run"}

    assert project.run("health", env=foreign) == (0, f"green {project.git('rev-parse', 'master')}\n", "")

    environment = (facts / "env").read_text()
    assert "the agent's" not in environment
    assert "\nMINE=kept\n" in f"\n{environment}"
    assert (facts / "made").read_text() == "tested\n"
    assert (facts / "pwd").read_text() == f"{project.paths.health_worktree}\n"


def test_the_tail_is_short_printable_and_without_secrets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "correct-horse")
    monkeypatch.setenv("MY_KEY", "short")
    script = "seq 50; printf '\\033[31mred\\033[0m \\001 \\377 a\\rb\\n'; echo $MY_SECRET $MY_KEY"
    script += "; echo ghp_abcdefghijklmnopqrstuvwxyz AKIAABCDEFGHIJKLMNOP"

    lines = run(project, script).tail.splitlines()

    assert lines[:2] == ["35", "36"]
    assert lines[-4:] == ["red ? \ufffd a", "b", "[removed] short", "[removed] [removed]"]
    assert len(lines) == 20
    assert len(run(project, "head -c 9000 /dev/zero | tr '\\0' x").tail) == 1500


def test_a_secret_that_ends_a_long_output_is_not_cut_and_missed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "t" * 2000)

    assert run(project, "echo head; echo $MY_TOKEN").tail == "head\n[removed]"


def test_a_gate_that_hangs_is_ended_with_its_children(project: Project, facts: Path) -> None:
    project.configure(timeouts={"gate": 2})
    script = write_script(facts / "hang", f"echo begun\n{BUSY}")

    result = run(project, str(script))

    assert not result.green
    assert result.tail.splitlines()[0] == "begun"
    assert result.reason == f"`{script}` was terminated at its limit of 2 seconds"
    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []


def test_answers_are_kept_by_tree_and_by_gate(project: Project) -> None:
    record_verdict(project.workspace, TREE, green=True)
    record_verdict(project.workspace, OTHER, green=False)

    assert recall_verdict(project.workspace, TREE) is Colour.GREEN
    assert recall_verdict(project.workspace, OTHER) is Colour.RED
    assert recall_verdict(project.workspace, "3" * 40) is Colour.UNKNOWN
    project.configure(gate="another")
    assert recall_verdict(project.workspace, TREE) is Colour.UNKNOWN


@pytest.mark.parametrize(
    ("age", "colour"),
    [
        (0, Colour.RED),
        (RED_FOR - 100, Colour.RED),
        (RED_FOR + 1, Colour.UNKNOWN),
        (-100, Colour.UNKNOWN),  # the clock was set back
    ],
)
def test_red_stands_for_a_while(project: Project, age: float, colour: Colour) -> None:
    record_verdict(project.workspace, TREE, green=False)
    then = time.time() - age
    os.utime(answer(project), (then, then))

    assert recall_verdict(project.workspace, TREE) is colour


def test_green_stands_for_good_and_replaces_red(project: Project) -> None:
    record_verdict(project.workspace, TREE, green=False)
    record_verdict(project.workspace, TREE, green=True)
    os.utime(answer(project), (0, 0))

    assert recall_verdict(project.workspace, TREE) is Colour.GREEN


def test_an_answer_that_makes_no_sense_is_asked_again(project: Project) -> None:
    record_verdict(project.workspace, TREE, green=True)
    answer(project).write_text("gre")

    assert recall_verdict(project.workspace, TREE) is Colour.UNKNOWN


def test_an_answer_that_is_torn_tells_what_it_still_can(project: Project) -> None:
    record_verdict(project.workspace, TREE, green=True)
    answer(project).write_bytes(b"green\n/caf\xc3")
    assert recall_verdict(project.workspace, TREE) is Colour.GREEN
    answer(project).write_bytes(b"gr\xc3")
    assert recall_verdict(project.workspace, TREE) is Colour.UNKNOWN
