"""templates/scriptorium.mk, with a stand-in that records its arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import CHECKOUT, Result, write_script

MAKE_FILE = CHECKOUT / "templates" / "scriptorium.mk"
TARGETS = {
    "health": ["health"],
    "architect": ["architect"],
    "manager": ["manager"],
    "assign": ["assign"],
    "code": ["assign", "code <assign"],
    "merge": ["merge"],
    "pipeline": ["assign", "code <assign", "merge <code <assign"],
    "run": ["run"],
    "run-once": ["run --once"],
    "plan": ["plan"],
    "status": ["status"],
    "worktrees": ["worktrees"],
    "fsck": ["fsck"],
}


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A program that records its arguments and what the steps before it in a pipe were."""
    script = f"""\
case $1 in code | merge) came=$(cat) ;; *) came= ;; esac
said="$*${{came:+ <$came}}"
echo "$said" >>'{tmp_path}/calls'
echo "$said"
exit "${{STATUS-0}}"
"""
    return write_script(tmp_path / "stand-in for scriptorium", script)


def make(directory: Path, program: Path, *argv: str, stdin: str = "", **env: str) -> Result:
    done = subprocess.run(
        ["make", "--no-print-directory", *argv], cwd=directory, input=stdin, capture_output=True, text=True,
        env={**os.environ, "SCRIPTORIUM": f"'{program}'", **env}, timeout=30, check=False,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def calls(tmp_path: Path) -> list[str]:
    return sorted((tmp_path / "calls").read_text().splitlines(), key=len)


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_runs_its_steps(tmp_path: Path, stand_in: Path, target: str) -> None:
    done = make(tmp_path, stand_in, "-f", str(MAKE_FILE), f"scriptorium-{target}")
    assert done == (0, TARGETS[target][-1] + "\n", "")
    assert calls(tmp_path) == TARGETS[target]


def test_the_program_is_scriptorium_unless_told_otherwise(tmp_path: Path, stand_in: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scriptorium").symlink_to(stand_in)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "SCRIPTORIUM"}
    argv = ["make", "-f", str(MAKE_FILE), "scriptorium-status"]
    subprocess.run(argv, env={**environment, "PATH": path}, capture_output=True, timeout=30, check=True)
    assert calls(tmp_path) == ["status"]


def test_help_names_every_target_and_is_what_make_does_by_itself(tmp_path: Path, stand_in: Path) -> None:
    done = make(tmp_path, stand_in, "-f", str(MAKE_FILE))
    assert (done.code, done.err) == (0, "")
    assert sorted(line.split()[0] for line in done.out.splitlines()) == sorted(
        f"scriptorium-{name}" for name in TARGETS
    )
    assert make(tmp_path, stand_in, "-f", str(MAKE_FILE), "scriptorium-help") == done
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("makefile", ["{include}\n{own}", "{own}\n{include}"], ids=["first", "last"])
def test_an_including_makefile_keeps_its_default_goal(tmp_path: Path, stand_in: Path, makefile: str) -> None:
    own = "mine:\n\t@echo mine\n"
    (tmp_path / "Makefile").write_text(makefile.format(include=f"include {MAKE_FILE}", own=own))
    assert make(tmp_path, stand_in) == (0, "mine\n", "")
    assert make(tmp_path, stand_in, "scriptorium-status") == (0, "status\n", "")


def test_a_file_of_a_targets_name_does_not_hide_it(tmp_path: Path, stand_in: Path) -> None:
    for name in TARGETS:
        (tmp_path / f"scriptorium-{name}").touch()
        done = make(tmp_path, stand_in, "-f", str(MAKE_FILE), f"scriptorium-{name}")
        assert done == (0, TARGETS[name][-1] + "\n", "")


def test_a_failing_step_fails_the_target(tmp_path: Path, stand_in: Path) -> None:
    done = make(tmp_path, stand_in, "-f", str(MAKE_FILE), "scriptorium-health", STATUS="3")
    assert (done.code, done.out) == (2, "health\n")
    assert "scriptorium-health] Error 3" in done.err


def test_merge_alone_does_not_take_makes_stdin_for_records(tmp_path: Path, stand_in: Path) -> None:
    done = make(tmp_path, stand_in, "-f", str(MAKE_FILE), "scriptorium-merge", stdin="0001-not-a-record\n")
    assert done == (0, "merge\n", "")
