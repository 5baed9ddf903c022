"""The sandbox of an agent: probed once, cached and reported. Stand-ins replace the programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support import WITHOUT_TOOLS, Project, Result, write_script

pytestmark = pytest.mark.slow

CODEX = """
case $1 in
sandbox) echo asked >>"$FACTS/probes"; {probe} ;;
*) echo "$@" >"$FACTS/argv"; echo "$TMPDIR" >"$FACTS/tmpdir"; cat >/dev/null; echo x >>file
   scriptorium submit-pr done >/dev/null ;;
esac
"""


@pytest.fixture
def project(project: Project, facts: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose agents get $FACTS and a `codex` that a test sets."""
    project.init()
    project.configure(environment=["FACTS"])
    project.python = WITHOUT_TOOLS
    monkeypatch.delenv("TMPDIR", raising=False)
    return project


def codex(project: Project, probe: str = "true") -> Path:
    """Put a stand-in for codex on PATH; a script is its sandbox probe."""
    return write_script(project.root.parent / "home" / "bin" / "codex", CODEX.format(probe=probe))


def work(project: Project, id: str) -> Result:
    """Let the coding agent submit a new ticket."""
    result = project.run("code", project.ticket(id, state="in-progress"))
    assert result.code == 0, result.err
    return result


def probes(facts: Path) -> int:
    file = facts / "probes"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_working_sandbox_is_probed_once_and_logged_in_each_run(project: Project, facts: Path) -> None:
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


def test_a_broken_sandbox_is_not_used_and_the_reason_is_logged(project: Project, facts: Path) -> None:
    codex(project, "echo 'WARNING: something else' >&2; echo 'bwrap: no namespaces' >&2; exit 1")
    for id in ("0001", "0002"):
        assert "scriptorium: sandbox: none (bwrap: no namespaces)\n" in work(project, id).err
    assert probes(facts) == 1
    assert "--dangerously-bypass-approvals-and-sandbox" in (facts / "argv").read_text()
    assert (facts / "tmpdir").read_text() == "\n"
    assert "Sandbox: codex: none (bwrap: no namespaces)\n" in project.run("status").out


def test_a_failed_probe_is_repeated_later_and_a_successful_one_not(project: Project, facts: Path) -> None:
    codex(project, 'test -e "$FACTS/repaired"')
    assert "scriptorium: sandbox: none ('codex' ended with exit code 1)\n" in work(project, "0001").err
    (facts / "repaired").touch()
    [file] = project.paths.sandboxes.iterdir()
    for id in ("0002", "0003"):
        os.utime(file, (0, 0))
        assert "scriptorium: sandbox: workspace-write\n" in work(project, id).err
    assert probes(facts) == 2


def test_another_program_is_probed_again(project: Project, facts: Path) -> None:
    codex(project)
    assert "scriptorium: sandbox: workspace-write\n" in work(project, "0001").err
    codex(project, "exit 3")
    assert "scriptorium: sandbox: none ('codex' ended with exit code 3)\n" in work(project, "0002").err
    assert probes(facts) == 2


def test_a_sandbox_that_is_off_is_not_probed(project: Project, facts: Path) -> None:
    codex(project)
    project.configure(sandbox="off")
    assert "scriptorium: sandbox: none (switched off in 'scriptorium.json')\n" in work(project, "0001").err
    assert probes(facts) == 0
    assert "--dangerously-bypass-approvals-and-sandbox" in (facts / "argv").read_text()
    assert "Sandbox: codex: none (switched off in 'scriptorium.json')\n" in project.run("status").out


def test_a_configured_program_without_a_sandbox_is_not_logged_in_each_run(project: Project) -> None:
    project.agent("echo x >file; scriptorium submit-pr done")
    assert "sandbox" not in work(project, "0001").err
    assert "Sandbox: script: none ('script' has no sandbox)\n" in project.run("status").out


def test_status_omits_a_sandbox_that_was_not_probed(project: Project, facts: Path) -> None:
    codex(project)
    assert "Sandbox" not in project.run("status").out
    assert json.loads(project.run("status", "--json").out)["sandbox"] == {}
    assert probes(facts) == 0


def test_an_unreadable_cache_is_ignored(project: Project, facts: Path) -> None:
    codex(project)
    work(project, "0001")
    [file] = project.paths.sandboxes.iterdir()
    for number, text in enumerate(["", "[]", '{"name": "workspace-write"}'], 2):
        file.write_text(text)
        assert "Sandbox" not in project.run("status").out
        assert "scriptorium: sandbox: workspace-write\n" in work(project, f"{number:04d}").err
        assert probes(facts) == number
