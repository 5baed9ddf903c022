"""What holds an agent: found out once by the program's own probe, remembered, said; stand-ins for the programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support import WITHOUT_TOOLS, Project, Result, write_script

CODEX = """
case $1 in
sandbox) echo asked >>"$FACTS/probes"; {probe} ;;
*) echo "$@" >"$FACTS/argv"; echo "$TMPDIR" >"$FACTS/tmpdir"; cat >/dev/null; echo x >>file
   scriptorium submit-pr done >/dev/null ;;
esac
"""


@pytest.fixture
def project(project: Project, facts: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose agents are given $FACTS, and see a `codex` that a test sets."""
    project.init()
    project.configure(environment=["FACTS"])
    project.python = WITHOUT_TOOLS
    monkeypatch.delenv("TMPDIR", raising=False)
    return project


def codex(project: Project, probe: str = "true") -> Path:
    """Put a stand-in for codex on PATH, whose sandbox is tried out by a script."""
    return write_script(project.root.parent / "home" / "bin" / "codex", CODEX.format(probe=probe))


def work(project: Project, id: str) -> Result:
    """Let the coding agent hand in a new ticket."""
    result = project.run("code", project.ticket(id, state="in-progress"))
    assert result.code == 0, result.err
    return result


def probes(facts: Path) -> int:
    file = facts / "probes"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_sandbox_that_works_is_tried_out_once_and_said_at_each_run(project: Project, facts: Path) -> None:
    codex(project)
    for id in ("0001", "0002"):
        assert "scriptorium: sandbox: workspace-write\n" in work(project, id).err
    assert probes(facts) == 1
    assert " --sandbox workspace-write " in (facts / "argv").read_text()
    temporary = Path((facts / "tmpdir").read_text().strip())
    assert not temporary.exists()
    assert temporary.name.startswith("scriptorium-")
    assert "Sandbox: codex: workspace-write\n" in project.run("status").out
    assert json.loads(project.run("status", "--json").out)["sandbox"] == {
        "codex": {"name": "workspace-write", "reason": ""}
    }


def test_sandbox_that_does_not_work_is_left_out_and_the_reason_is_said(project: Project, facts: Path) -> None:
    codex(project, "echo 'WARNING: something else' >&2; echo 'bwrap: no namespaces' >&2; exit 1")
    for id in ("0001", "0002"):
        assert "scriptorium: sandbox: none (bwrap: no namespaces)\n" in work(project, id).err
    assert probes(facts) == 1
    assert "--dangerously-bypass-approvals-and-sandbox" in (facts / "argv").read_text()
    assert (facts / "tmpdir").read_text() == "\n"
    assert "Sandbox: codex: none (bwrap: no namespaces)\n" in project.run("status").out


def test_a_no_is_asked_again_after_a_while_and_a_yes_is_not(project: Project, facts: Path) -> None:
    codex(project, 'test -e "$FACTS/mended"')
    assert "scriptorium: sandbox: none ('codex' ended with exit code 1)\n" in work(project, "0001").err
    (facts / "mended").touch()
    [file] = project.paths.sandboxes.iterdir()
    for id in ("0002", "0003"):
        os.utime(file, (0, 0))
        assert "scriptorium: sandbox: workspace-write\n" in work(project, id).err
    assert probes(facts) == 2


def test_another_program_is_tried_out_anew(project: Project, facts: Path) -> None:
    codex(project)
    assert "scriptorium: sandbox: workspace-write\n" in work(project, "0001").err
    codex(project, "exit 3")
    assert "scriptorium: sandbox: none ('codex' ended with exit code 3)\n" in work(project, "0002").err
    assert probes(facts) == 2


def test_off_is_a_choice_for_which_nothing_is_tried_out(project: Project, facts: Path) -> None:
    codex(project)
    project.configure(sandbox="off")
    assert "scriptorium: sandbox: none (switched off in 'scriptorium.json')\n" in work(project, "0001").err
    assert probes(facts) == 0
    assert "--dangerously-bypass-approvals-and-sandbox" in (facts / "argv").read_text()
    assert "Sandbox: codex: none (switched off in 'scriptorium.json')\n" in project.run("status").out


def test_program_of_the_users_own_has_none_and_that_is_no_news_at_each_run(project: Project) -> None:
    project.agent("echo x >file; scriptorium submit-pr done")
    assert "sandbox" not in work(project, "0001").err
    assert "Sandbox: script: none ('script' has none of its own)\n" in project.run("status").out


def test_status_says_nothing_of_a_sandbox_that_nobody_has_tried_out(project: Project, facts: Path) -> None:
    codex(project)
    assert "Sandbox" not in project.run("status").out
    assert json.loads(project.run("status", "--json").out)["sandbox"] == {}
    assert probes(facts) == 0


def test_memory_that_cannot_be_read_is_no_memory(project: Project, facts: Path) -> None:
    codex(project)
    work(project, "0001")
    [file] = project.paths.sandboxes.iterdir()
    for number, text in enumerate(["", "[]", '{"name": "workspace-write"}'], 2):
        file.write_text(text)
        assert "Sandbox" not in project.run("status").out
        assert "scriptorium: sandbox: workspace-write\n" in work(project, f"{number:04d}").err
        assert probes(facts) == number
