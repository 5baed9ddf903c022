"""scriptorium rescue: rescued work is listed, restored and dropped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scriptorium.errors import ExitCode
from scriptorium.git.worktree import Worktree
from scriptorium.worktrees import rescue
from scriptorium.worktrees.rescue import PREFIX
from tests.support import Project


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


@pytest.fixture
def kept(project: Project) -> str:
    """The name of a rescued commit with a file `precious`."""
    worktree = project.root.parent / "aside"
    project.git("worktree", "add", "--quiet", "--detach", str(worktree))
    (worktree / "precious").write_text("work\n")
    head = project.git("rev-parse", "HEAD")
    tree = Worktree(project.workspace.repository, worktree)
    commit = tree.snapshot(tree.changes(), head, "left by a gate")
    ref = rescue.keep_commit(project.workspace, commit, "0001-x", "a gate left it")
    project.git("worktree", "remove", "--force", str(worktree))
    return ref.removeprefix(PREFIX)


def test_nothing_kept_is_said_so(project: Project) -> None:
    assert project.run("rescue", "list") == (0, "scriptorium: nothing is kept\n", "")
    assert project.run("rescue", "list", "--json") == (0, "[]\n", "")


def test_what_is_kept_is_listed_with_commit_and_subject(project: Project, kept: str) -> None:
    commit = project.git("rev-parse", PREFIX + kept)
    result = project.run("rescue", "list")
    assert result == (0, f"NAME\tWHAT\tSUBJECT\n{kept}\t{commit[:12]}\tleft by a gate\n", "")
    [row] = json.loads(project.run("rescue", "list", "--json").out)
    assert row == {"name": kept, "commit": commit, "subject": "left by a gate", "path": ""}


def test_a_subject_with_a_line_separator_is_one_line(project: Project) -> None:
    commit = project.git("commit-tree", "HEAD^{tree}", "-m", "one\u2028two \x1b[1m")
    name = rescue.keep_commit(project.workspace, commit, "x", "somebody left it").removeprefix(PREFIX)

    assert project.run("rescue", "list").out.splitlines()[1:] == [f"{name}\t{commit[:12]}\tone two "]


def test_restored_work_is_on_a_branch_and_nothing_else_moves(project: Project, kept: str) -> None:
    before, status = project.refs(), project.git("status", "--porcelain", "--branch")
    commit = before[PREFIX + kept]

    assert project.run("rescue", "restore", PREFIX + kept) == (0, f"{kept}\trescue/{kept}\n", "")

    assert project.refs() == {**before, f"refs/heads/rescue/{kept}": commit}
    assert project.git("status", "--porcelain", "--branch") == status
    assert project.git("show", f"rescue/{kept}:precious") == "work"
    assert project.run("rescue", "restore", kept).code == 0  # once more is the same


def test_a_branch_of_that_name_that_is_something_else_is_left_alone(project: Project, kept: str) -> None:
    project.git("branch", f"rescue/{kept}")
    before = project.refs()
    result = project.run("rescue", "restore", kept)
    assert (result.code, result.out) == (ExitCode.FAILED, "")
    assert result.err.startswith(f"scriptorium: branch 'rescue/{kept}' exists already at another commit\nhint: ")
    assert project.refs() == before


def test_a_branch_that_is_called_as_the_place_of_restored_work_is_named(project: Project, kept: str) -> None:
    project.git("branch", "rescue")
    result = project.run("rescue", "restore", kept)
    assert (result.code, result.out) == (ExitCode.FAILED, "")
    assert result.err.splitlines() == [
        f"scriptorium: branch 'rescue' is in the way of 'rescue/{kept}'",
        "hint: rename it: git branch -m rescue NEW",
    ]


def test_dropped_work_is_named_by_its_commit_and_is_listed_no_more(project: Project, kept: str) -> None:
    commit = project.git("rev-parse", PREFIX + kept)
    assert project.run("rescue", "drop", kept) == (0, f"{kept}\t{commit}\n", "")
    assert project.refs(PREFIX) == {}
    assert project.git("show", f"{commit}:precious") == "work"  # as long as git prunes nothing


def test_an_unknown_name_changes_nothing_even_beside_a_known_one(project: Project, kept: str) -> None:
    before = project.refs()
    result = project.run("rescue", "drop", kept, "nonsense")
    message = "scriptorium: nothing is kept as 'nonsense'\nhint: see 'scriptorium rescue list'\n"
    assert result == (ExitCode.FAILED, "", message)
    assert project.refs() == before


def test_a_directory_that_git_could_not_read_is_listed_and_can_be_dropped(project: Project) -> None:
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    worktree = project.worktree(name)
    (worktree / "precious").write_text("work\n")
    (worktree / ".git").unlink()
    project.run("code", name)  # there is no agent, and the worktree is made anew before it is looked for

    [row] = json.loads(project.run("rescue", "list", "--json").out)

    path = worktree.parent / row["path"]
    assert row == {"name": f"tickets/{path.name}", "commit": "", "subject": "", "path": str(path)}
    assert (path / "precious").read_text() == "work\n"
    refused = project.run("rescue", "restore", row["name"])
    assert (refused.code, refused.out) == (ExitCode.FAILED, "")
    assert refused.err.endswith(f"hint: look into '{path}'\n")
    assert project.run("rescue", "drop", row["name"]) == (0, f"{row['name']}\t{path}\n", "")
    assert not path.exists()
    assert worktree.exists()


@pytest.mark.parametrize("what", ["a file", "a link"])
def test_what_was_in_the_place_of_a_worktree_can_be_dropped(project: Project, tmp_path: Path, what: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    aside = project.paths.ensure(project.worktree("x").parent) / "0001-x.found-012345"
    if what == "a file":
        aside.touch()
    else:
        aside.symlink_to(tmp_path / "elsewhere")

    assert project.run("rescue", "drop", f"tickets/{aside.name}") == (0, f"tickets/{aside.name}\t{aside}\n", "")

    assert not aside.is_symlink()
    assert not aside.exists()
    assert (tmp_path / "elsewhere" / "precious").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "'lst' is not an action of 'rescue'"),
        (["drop", "--json", "x"], "'drop --json' is not an action of 'rescue'"),
        (["list", "x"], "'list' takes no names"),
        (["drop"], "'drop' needs the name of a rescued item"),
        (["restore"], "'restore' needs the name of a rescued item"),
    ],
)
def test_a_call_that_means_nothing_changes_nothing(project: Project, kept: str, words: list[str], message: str) -> None:
    before = project.refs()
    result = project.run("rescue", *words)
    assert (result.code, result.out) == (ExitCode.USAGE, "")
    assert result.err.startswith(f"scriptorium: {message}\nhint: ")
    assert project.refs() == before
