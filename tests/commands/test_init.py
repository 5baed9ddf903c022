"""scriptorium init: it creates the plan branch, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import PLAN, Project


@pytest.mark.parametrize("verb", ["--init", "init"])
def test_plan_branch_is_made_as_an_orphan_and_nothing_else_changes(project: Project, verb: str) -> None:
    master = project.git("rev-parse", "master")
    (project.root / "notes.txt").write_text("not yet committed\n")

    result = project.run(verb)

    assert result == (
        0,
        f"created 'scriptorium/plan' in '{project.root}'\nnext: scriptorium plan \"what you want built\"\n",
        "",
    )
    assert project.plan_files() == {
        "spec.md": "# Spec\n\nNothing is planned yet: run `scriptorium plan` to write this file.\n",
        "areas/.gitkeep": "",
        "decisions/.gitkeep": "",
        "tickets/open/.gitkeep": "",
        "tickets/in-progress/.gitkeep": "",
        "tickets/done/.gitkeep": "",
        "tickets/stuck/.gitkeep": "",
        "queue/merge/pending/.gitkeep": "",
        "queue/merge/active.md": "",
        "format": "1\n",
    }
    assert project.plan_log() == ["scriptorium: initialize plan branch"]
    assert project.git("log", "--format=%P", PLAN) == ""
    assert project.git("for-each-ref", "--format=%(objectname) %(refname)").splitlines() == [
        f"{master} refs/heads/master",
        f"{project.git('rev-parse', PLAN)} refs/heads/{PLAN}",
    ]
    assert project.git("symbolic-ref", "HEAD") == "refs/heads/master"
    assert project.git("status", "--porcelain") == "?? notes.txt"
    assert not (project.root.parent / "root").exists()


def test_path_names_the_repository(project: Project, tmp_path: Path) -> None:
    (project.root / "deep").mkdir()
    result = project.run("--init", "project/deep", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert f"'{project.root}'" in result.out


def test_second_init_is_refused_and_changes_nothing(project: Project) -> None:
    project.init()
    before = project.git("for-each-ref")
    assert project.run("--init") == (
        1,
        "",
        "scriptorium: branch 'scriptorium/plan' already exists\nhint: look at it with 'scriptorium status'\n",
    )
    assert project.git("for-each-ref") == before


def test_default_branch_may_have_any_name(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", branch="trunk")
    project.init()
    assert "Master: unknown" in project.run("status").out
    assert project.run("health").out == f"green {project.git('rev-parse', 'trunk')}\n"


def test_a_branch_that_leaves_no_room_for_the_plan_is_named(project: Project) -> None:
    project.git("branch", "scriptorium")

    result = project.run("--init")

    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "scriptorium: branch 'scriptorium' conflicts with the name of branch 'scriptorium/plan'\n"
        "hint: git branch --move scriptorium another-name\n"
    )


@pytest.mark.parametrize("verb", ["--init", "status", "run", "fsck"])
def test_in_a_clone_of_a_project_with_a_plan_a_hint_says_to_fetch_it(
    project: Project, tmp_path: Path, verb: str
) -> None:
    project.init()
    clone = tmp_path / "clone"
    project.git("clone", "--quiet", "--origin", "up", str(project.root), str(clone))
    before = project.git("for-each-ref", cwd=clone)

    result = project.run(verb, cwd=clone)

    words = "scriptorium: there is no branch 'scriptorium/plan', but 'up/scriptorium/plan'\n"
    assert result == (78, "", f"{words}hint: git branch scriptorium/plan up/scriptorium/plan\n")
    assert project.git("for-each-ref", cwd=clone) == before
    project.git("branch", "--quiet", PLAN, f"up/{PLAN}", cwd=clone)
    assert project.run("status", cwd=clone).code == 0
