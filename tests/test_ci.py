"""The runner of CI stages: a stage fails when it should, and leaves no process behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import CHECKOUT, is_alive, until

STAGE = CHECKOUT / ".ci" / "stage.py"
LONG = 60
"""Seconds that no stage of these tests needs."""

BUSY = """
echo before
trap "" TERM INT
setsid sh -c 'trap "" TERM INT; setsid sleep 600 & echo $! >>pids; sleep 600' & echo $! >>pids
sh -c 'setsid sleep 600 & echo $! >>pids'
"""
"""Starts a child in a session of its own, which has another one, and an orphan in one more."""


def stage(directory: Path, seconds: float, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as a stage."""
    argv = [sys.executable, str(STAGE), "trial", str(seconds), "sh", "-c", script]
    return subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)


def pids(directory: Path) -> list[int]:
    file = directory / "pids"
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def test_a_stage_that_passes_says_how_long_it_took(tmp_path: Path) -> None:
    done = stage(tmp_path, LONG, "echo one; echo two >&2; echo '3 passed in 0.10s'")
    assert (done.returncode, done.stderr) == (0, "")
    output = "ci: trial begins\n\nci: trial\none\ntwo\n3 passed in 0.10s\nci: trial took N s of 60 s, N s of CPU\n"
    assert re.sub(r"\d+ s(?= of)|\d+ s(?= of CPU)", "N s", done.stdout) == output


def test_a_stage_that_fails_shows_its_output(tmp_path: Path) -> None:
    done = stage(tmp_path, LONG, "echo why; exit 3")
    assert done.returncode == 1
    assert "\nwhy\n" in done.stdout
    assert done.stdout.endswith("ci: trial failed with exit code 3\n")


def test_a_stage_that_is_killed_has_failed(tmp_path: Path) -> None:
    done = stage(tmp_path, LONG, "kill -9 $$")
    assert done.returncode == 1
    assert done.stdout.endswith("ci: trial failed with signal 9\n")


def test_a_stage_over_its_budget_fails_and_takes_its_processes_with_it(tmp_path: Path) -> None:
    argv = [sys.executable, str(STAGE), "trial", str(LONG), "sh", "-c", f"{BUSY}\nsleep 600"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        until(lambda: len(pids(tmp_path)) == 3)
        process.send_signal(signal.SIGALRM)  # as its timer does
        out, _ = process.communicate()
    assert process.returncode == 1
    assert "\nbefore\n" in out
    assert out.endswith("ci: trial is not over after 60 s\n")
    assert not any(map(is_alive, pids(tmp_path)))


def test_a_budget_is_counted_from_the_start(tmp_path: Path) -> None:
    done = stage(tmp_path, 0.1, "sleep 600")
    assert done.returncode == 1
    assert done.stdout.endswith("ci: trial is not over after 0.1 s\n")


def test_a_stage_that_ci_ends_takes_its_processes_with_it(tmp_path: Path) -> None:
    argv = [sys.executable, str(STAGE), "trial", str(LONG), "sh", "-c", f"{BUSY}\nsleep 600"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        until(lambda: len(pids(tmp_path)) == 3)
        process.terminate()
    assert process.returncode == 143
    assert not any(map(is_alive, pids(tmp_path)))


def test_a_stage_that_passes_leaves_no_process_behind(tmp_path: Path) -> None:
    done = stage(tmp_path, LONG, f"{BUSY}\nuntil [ $(wc -l <pids) = 3 ]; do sleep 0.01; done")
    assert done.returncode == 0
    assert "ci: trial has left " in done.stdout
    assert len(pids(tmp_path)) == 3
    assert not any(map(is_alive, pids(tmp_path)))


@pytest.mark.parametrize(
    "summary",
    [
        "3 passed, 1 skipped in 0.10s",
        "1 skipped in 0.10s",
        "3 passed, 2 xfailed, 1 warning in 61.00s (0:01:01)",
        "3 passed, 4 deselected in 0.10s",
        "======= 3 passed, 1 skipped in 0.10s =======",
    ],
)
def test_a_stage_that_skips_a_test_has_failed(tmp_path: Path, summary: str) -> None:
    done = stage(tmp_path, LONG, f"echo '{summary}'; echo '5 passed in 0.10s'")
    assert done.returncode == 1
    assert done.stdout.endswith(f"ci: trial has not run all tests: {summary}\n")
