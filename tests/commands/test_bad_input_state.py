"""Bad state directories and read-only disks: a line and a hint, and nothing changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError
from scriptorium.system.files import private_directory
from tests.commands.bad_input_cases import picture, refused
from tests.support import Project, Result


def test_state_root_that_is_a_link(project: Project, tmp_path: Path) -> None:
    project.init()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "elsewhere")
    project.ticket("0001")
    project.agent("true")
    for argv in (("health",), ("run",), ("plan", "x")):
        before = picture(project)
        refused(project.run(*argv), 1, f"'{tmp_path / 'root'}' is a symbolic link", "set SCRIPTORIUM_ROOT")
        assert picture(project) == before
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_state_root_that_is_a_dangling_link(project: Project, tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to(tmp_path / "nowhere")
    refused(project.run("health"), 1, f"'{tmp_path / 'root'}' is a symbolic link", "set SCRIPTORIUM_ROOT")


def test_state_root_that_belongs_to_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: uid)  # in place of chown, which needs root
    with pytest.raises(ScriptoriumError) as caught:
        private_directory(tmp_path / "root")
    assert str(caught.value) == (
        f"'{tmp_path / 'root'}' belongs to another user\nhint: set SCRIPTORIUM_ROOT to a directory of your own"
    )


def test_state_root_that_others_may_write_is_made_private(project: Project, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o777)
    assert project.run("health").code == 0
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_state_root_that_is_a_file(project: Project, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    refused(project.run("health"), 1, f"'{tmp_path / 'root'}' is not a directory", "set SCRIPTORIUM_ROOT")


def test_state_root_below_a_file(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = tmp_path / "file" / "root"
    result = project.run("health", env={"SCRIPTORIUM_ROOT": str(root)})
    refused(result, 1, f"cannot create '{root}': not a directory", "set SCRIPTORIUM_ROOT")


# Permissions do not bind root until it drops the capability to override them (prctl(2)).
_BOUND = """
import ctypes, os, sys
if os.geteuid() == 0:
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "scriptorium", *sys.argv[1:]])
"""


def run_bound(project: Project, *argv: str) -> Result:
    """Run scriptorium so that permissions bind it, even if root runs the tests."""
    with project.running(*argv, python=("-c", _BOUND)) as started:
        return started.end()


def read_only(path: Path) -> None:
    for directory in [path, *(p for p in path.rglob("*") if p.is_dir())]:
        directory.chmod(0o500)


def writable(path: Path) -> None:
    path.chmod(0o700)
    for directory in path.iterdir():
        if directory.is_dir():
            writable(directory)


def test_read_only_state_root(project: Project, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    read_only(tmp_path / "root")
    before = picture(project)
    result = run_bound(project, "health")
    writable(tmp_path / "root")
    refused(result, 1, f"cannot create '{project.paths.home}': permission denied", "set SCRIPTORIUM_ROOT")
    assert picture(project) == before


def test_state_root_that_has_become_read_only(project: Project, tmp_path: Path) -> None:
    assert project.run("health").code == 0
    project.gate("true; true")
    read_only(tmp_path / "root")
    before = picture(project)
    result = run_bound(project, "health")
    writable(tmp_path / "root")
    assert (result.code, result.out) == (1, "")
    first, last = result.err.splitlines()
    assert str(project.paths.home) in first
    assert "ermission denied" in first
    assert "see whether you may write" in last
    assert picture(project) == before


@pytest.mark.parametrize(
    ("verb", "place"),
    [("--init", ".git"), ("assign", ".git"), ("health", ".git"), ("--init", ".git/refs"), ("assign", ".git/refs")],
)
def test_read_only_git_directory(project: Project, verb: str, place: str) -> None:
    if verb != "--init":
        project.init()
        project.ticket("0001")
    before = picture(project)
    read_only(project.root / place)
    result = run_bound(project, verb)
    writable(project.root / place)
    assert (result.code, result.out) == (1, "")
    first, last = result.err.splitlines()
    assert first.startswith("scriptorium: 'git ")
    assert last == "hint: see whether you may write to the repository and the disk has room"
    assert picture(project) == before
