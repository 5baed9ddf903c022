"""The paths of a repository's state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError
from scriptorium.project import paths
from scriptorium.project.paths import MAX_SOCKET_PATH, SOCKET_NAME, Paths
from tests.support import Project


def below(root: str) -> Paths:
    return Paths(Path(root), "project", "project-0123456789ab")


def test_sockets_are_in_the_state_directory_where_their_paths_fit() -> None:
    assert below("/tmp/scriptorium").sockets == Path("/tmp/scriptorium/project-0123456789ab/sockets")


def test_a_long_root_puts_sockets_into_a_short_directory() -> None:
    one, other = below("/" + "d" * 150).sockets, below("/" + "e" * 150).sockets
    assert one != other
    assert one.parent == Path(f"/tmp/scriptorium-{os.geteuid()}")
    for length in range(150):
        assert len(os.fsencode(below("/" + "\u00f6" * length).sockets / SOCKET_NAME)) <= MAX_SOCKET_PATH


def test_a_directory_for_sockets_that_another_user_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"scriptorium-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(paths, "SHORT_DIRECTORY", tmp_path)
    long = below(f"{tmp_path}/{'d' * 150}")
    with pytest.raises(ScriptoriumError, match="is a symbolic link"):
        long.ensure(long.sockets)


def test_an_agent_submits_with_a_state_root_of_150_characters(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / ("r" * (149 - len(str(tmp_path))))
    assert len(str(root)) == 150
    monkeypatch.setenv("SCRIPTORIUM_ROOT", str(root))
    project.init()
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file; scriptorium submit-pr done")

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    directory = project.paths.sockets
    assert directory.stat().st_mode & 0o777 == directory.parent.stat().st_mode & 0o777 == 0o700
    assert list(directory.iterdir()) == []
