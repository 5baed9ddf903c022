"""Landing: files of the user that git would overwrite block the landing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import Project

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.commit({"shared": "1\n2\n3\n", "mine": "old\n"})


def test_an_edit_in_the_way_is_reported_by_any_name(project: Project) -> None:
    project.commit({"a\nb": "before\n"})
    project.queued(script="echo it is done >'a\nb'")
    (project.root / "a\nb").write_text("precious\n")

    result = project.run("merge")

    assert result[:2] == (1, "")
    assert f"local changes in '{project.root}' are in the way: 'a" in result.err
    assert (project.root / "a\nb").read_text() == "precious\n"


@pytest.mark.parametrize("refuses", ["nothing", "index.lock", "MERGE_HEAD"])
def test_a_file_that_the_user_has_removed_does_not_come_back(project: Project, refuses: str) -> None:
    project.commit({"old": "1\n", "other": "1\n"})
    name = project.queued(script="echo 2 >old; echo 2 >other")
    (project.root / "old").unlink()
    if refuses != "nothing":
        (project.root / ".git" / refuses).write_text(project.git("rev-parse", "HEAD") + "\n")

    waiting = project.run("merge")

    assert waiting[:2] == (1, "")
    assert f"ticket '{name}' waits: " in waiting.err
    assert not (project.root / "old").exists()
    assert (project.root / "other").read_text() == "1\n"
    if refuses == "nothing":
        assert "are in the way: 'old'" in waiting.err
        project.git("checkout", "old")
        assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_an_ignored_file_in_a_second_checkout_is_in_the_way(project: Project, tmp_path: Path) -> None:
    project.commit({".gitignore": "*.env\n"})
    project.git("worktree", "add", "--quiet", "--force", str(tmp_path / "second"), "master")
    (tmp_path / "second" / "my.env").write_text("precious\n")
    name = project.queued(script="echo 1 >my.env; git add -f my.env; git commit -qm x")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert f"local changes in '{tmp_path / 'second'}' are in the way" in blocked.err
    assert (tmp_path / "second" / "my.env").read_text() == "precious\n"
    (tmp_path / "second" / "my.env").unlink()
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (tmp_path / "second" / "my.env").read_text() == "1\n"


def test_a_link_in_place_of_a_directory_is_in_the_way(project: Project, tmp_path: Path) -> None:
    project.commit({"data/keep": "1\n"})
    project.queued(script="echo 1 >data/new")
    (project.root / "data").rename(tmp_path / "disk")
    (project.root / "data").symlink_to(tmp_path / "disk")
    with (project.root / ".git" / "info" / "exclude").open("a") as file:
        file.write("data\n")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert "are in the way: 'data'" in blocked.err
    assert (project.root / "data").readlink() == tmp_path / "disk"


@pytest.mark.parametrize("how", ["taken out of git", "in place of a directory"])
def test_an_ignored_file_that_the_ticket_has_a_directory_for_is_in_the_way(project: Project, how: str) -> None:
    if how == "taken out of git":
        project.commit({"data": "1\n"})
        project.queued(script="rm data; mkdir data; echo 1 >data/new")
        project.git("rm", "--quiet", "--cached", "data")
    else:
        project.commit({"data/keep": "1\n"})
        project.queued(script="echo 1 >data/new")
        shutil.rmtree(project.root / "data")
    with (project.root / ".git" / "info" / "exclude").open("a") as file:
        file.write("data\n")
    (project.root / "data").write_text("precious\n")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert "are in the way: 'data'" in blocked.err
    assert (project.root / "data").read_text() == "precious\n"


def test_a_checkout_without_an_index_gets_no_files_until_it_has_one(project: Project, tmp_path: Path) -> None:
    """`git clone --no-checkout` leaves such a checkout; git would write all files of the commit."""
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued()
    for place, index in ((second, ".git/worktrees/second/index"), (project.root, ".git/index")):
        (project.root / index).unlink()
        (place / "mine").write_text("precious\n")
        (place / "shared").unlink()
        blocked = project.run("merge")
        assert blocked[:2] == (1, "")
        assert f"'{place}' cannot follow: " in blocked.err
        assert "it has no index" in blocked.err
        assert (place / "mine").read_text() == "precious\n"
        assert not (place / "shared").exists()
        project.git("reset", "--quiet", cwd=place)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / "mine").read_text() == (second / "mine").read_text() == "precious\n"


def test_files_and_directories_swap_unless_an_ignored_file_is_lost(project: Project) -> None:
    project.commit({".gitignore": "*.env\n", "a/in": "1\n", "b": "1\n", "c/in": "1\n"})
    script = "rm -r a b c; echo 2 >a; mkdir b new; echo 2 >b/in; echo 2 >c; echo 2 >new/in"
    name = project.queued(script=script)
    for place in ("c/mine.env", "new"):
        (project.root / place).write_text("precious\n")
        blocked = project.run("merge")
        assert blocked[:2] == (1, "")
        assert f"are in the way: '{place.partition('/')[0]}'" in blocked.err
        assert (project.root / place).read_text() == "precious\n"
        assert (project.root / "a" / "in").exists()
        (project.root / place).unlink()
    (project.root / "new").mkdir()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert [(project.root / file).read_text() for file in ("a", "b/in", "c", "new/in")] == ["2\n"] * 4
