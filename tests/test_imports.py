"""Packages that the quick commands must not import: each costs more than Python itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support import Project

SLOW = {"sh", "filelock", "ruamel", "mcp", "acp", "pydantic", "colorlog", "prompt_toolkit"}


def imported(project: Project, *argv: str) -> set[str]:
    """Return the top-level packages that `scriptorium <argv>` imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "scriptorium", *argv],
        cwd=project.root,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return set(re.findall(r"^import time: .*\|\s+([^\s.]+)", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("argv", [("--version",), ("--help",), ("submit-pr", "done"), ("submit-pr", "--help")])
def test_quick_commands_import_none_of_the_packages(project: Project, argv: tuple[str, ...]) -> None:
    found = imported(project, *argv)
    assert "scriptorium" in found
    assert not found & {*SLOW, "plumbum", "asyncio", "logging"}


@pytest.mark.parametrize("argv", [("status",), ("status", "--json")])
def test_status_imports_no_package(project: Project, argv: tuple[str, ...]) -> None:
    project.init()
    project.ticket("0001", state="in-progress")
    found = imported(project, *argv)
    assert "scriptorium" in found
    assert not found & {*SLOW, "plumbum"}


@pytest.mark.parametrize("argv", [("status", "--help"), ("worktrees",)])
def test_what_reads_arguments_imports_plumbum_alone(project: Project, argv: tuple[str, ...]) -> None:
    project.init()
    project.ticket("0001", state="in-progress")
    found = imported(project, *argv)
    assert "plumbum" in found
    assert not found & SLOW


@pytest.mark.parametrize("argv", [("assign",), ("merge",), ("architect",), ("manager",), ("plan",)])
def test_step_with_nothing_to_do_imports_no_slow_package(project: Project, argv: tuple[str, ...]) -> None:
    project.init()
    assert not imported(project, *argv) & SLOW


def test_measure_sees_what_is_imported(project: Project) -> None:
    project.init()
    project.ticket("0001")
    assert {"ruamel", "filelock"} <= imported(project, "assign")
