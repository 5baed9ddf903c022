"""scriptorium clean: merged work goes, unmerged work goes once a ref keeps it, unfinished work stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scriptorium.plan.ticket import State
from scriptorium.project.held import MergeLock
from scriptorium.system import locks
from scriptorium.worktrees.clean import Action, LeftoverKind, decide
from scriptorium.worktrees.rescue import PREFIX
from scriptorium.worktrees.sweep import sweep_branches
from tests.support import Project


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def worktree(project: Project, name: str, state: str) -> Path:
    """Give a ticket its worktree and branch, then set its state by hand; '' removes it from the plan."""
    project.ticket(name)
    assert project.run("assign").code == 0
    text = project.plan_files()[f"tickets/in-progress/{name}.md"]
    new = {f"tickets/{state}/{name}.md": text} if state else {}
    if state != "in-progress":
        project.commit_plan({f"tickets/in-progress/{name}.md": None, **new})
    return project.worktree(name)


def commit(path: Path, project: Project) -> str:
    """Commit a file in a worktree."""
    (path / "work").write_text("work\n")
    project.git("add", "work", cwd=path)
    project.git("commit", "--quiet", "--message", "Work", cwd=path)
    return project.git("rev-parse", "HEAD", cwd=path)


def rows(out: str) -> set[tuple[str, ...]]:
    return {tuple(line.split("\t")[:3]) for line in out.splitlines()}


def test_a_clean_repository_has_nothing_to_say(project: Project) -> None:
    assert project.run("clean") == (0, "", "")
    assert project.run("clean", "--force", "--json") == (0, "[]\n", "")


def test_what_is_in_master_goes_when_it_is_said_and_not_before(project: Project) -> None:
    path = worktree(project, "0001-x", "done")
    before = project.refs()
    shown = project.run("clean")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        "remove\tworktree\t0001-x\tits ticket is 'done', and master has all of it",
        "remove\tbranch\tscriptorium/ticket-0001\tits ticket is 'done', and master has all of it",
    ]
    assert path.exists()
    assert project.refs() == before

    assert project.run("clean", "--force") == shown

    assert not path.exists()
    assert project.refs().keys() == before.keys() - {"refs/heads/scriptorium/ticket-0001"}
    assert project.run("clean") == (0, "", "")


def test_a_repository_within_a_worktree_is_kept_beside_it(project: Project) -> None:
    path = worktree(project, "0001-x", "done")
    project.git("init", "--quiet", "own", cwd=path)
    project.git("commit", "--quiet", "--allow-empty", "--message", "One", cwd=path / "own")
    commit(path, project)
    project.git("add", "own", cwd=path)
    project.git("commit", "--quiet", "--message", "A link, whose files are in no commit", cwd=path)

    result = project.run("clean", "-f")

    assert result.code == 0
    assert not path.exists()
    [aside] = path.parent.glob("0001-x.found-*")
    assert f"'own' is a repository of its own: kept in '{aside}'" in result.err
    assert project.git("log", "--format=%s", cwd=aside / "own") == "One"


def test_a_nested_repository_among_tracked_files_is_preserved(project: Project) -> None:
    project.commit({"src/file": "1\n"})
    path = worktree(project, "0001-x", "done")
    project.git("init", "--quiet", cwd=path / "src")
    project.git("commit", "--quiet", "--allow-empty", "--message", "One", cwd=path / "src")

    assert ("remove", "worktree", "0001-x") in rows(project.run("clean", "-f").out)

    [aside] = path.parent.iterdir()
    assert project.git("log", "--format=%s", cwd=aside / "src") == "One"


@pytest.mark.parametrize("state", ["done", ""])
def test_work_of_a_finished_ticket_goes_only_after_a_ref_keeps_it(project: Project, state: str) -> None:
    path = worktree(project, "0001-x", state)
    tip = commit(path, project)
    (path / "untracked").write_text("more\n")

    result = project.run("clean", "-f")

    assert rows(result.out) == {("rescue", "worktree", "0001-x"), ("rescue", "branch", "scriptorium/ticket-0001")}
    assert not path.exists()
    kept = project.refs(PREFIX)
    assert tip in kept.values()
    assert [project.git("show", f"{ref}:untracked") for ref, held in kept.items() if held != tip] == ["more"]
    assert not any("ticket-0001" in ref for ref in project.refs("refs/heads/"))
    assert project.run("fsck").code == 0
    assert {row[:2] for row in rows(project.run("clean").out)} == {("keep", "rescue")}


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_an_edit_that_git_is_told_to_overlook_is_kept(project: Project, flag: str) -> None:
    path = worktree(project, "0001-x", "done")
    (path / "Makefile").write_text("precious\n")
    project.git("update-index", flag, "Makefile", cwd=path)
    assert ("rescue", "worktree", "0001-x") in rows(project.run("clean").out)
    assert project.git("status", "--porcelain", cwd=path) == ""  # it still overlooks it

    result = project.run("clean", "-f")

    assert ("rescue", "worktree", "0001-x") in rows(result.out)
    assert not path.exists()
    (kept,) = project.refs(PREFIX)
    assert project.git("show", f"{kept}:Makefile") == "precious"


@pytest.mark.parametrize("state", ["open", "in-progress", "stuck"])
def test_an_unfinished_ticket_keeps_all_it_has(project: Project, state: str) -> None:
    path = worktree(project, "0001-x", state)
    commit(path, project)
    before = project.refs()

    result = project.run("clean", "--force")

    assert rows(result.out) == {("keep", "worktree", "0001-x"), ("keep", "branch", "scriptorium/ticket-0001")}
    assert f"its ticket is '{state}'" in result.out
    assert (path / "work").exists()
    assert project.refs() == before


def test_a_worktree_at_which_somebody_works_stays(project: Project) -> None:
    path = worktree(project, "0001-x", "done")
    paths = project.paths
    with locks.hold(paths.ensure(paths.ticket_lock("0001-x").parent) / "0001-x.lock", "0001-x"):
        result = project.run("clean", "--force")
    assert rows(result.out) == {("keep", "worktree", "0001-x"), ("keep", "branch", "scriptorium/ticket-0001")}
    assert path.exists()


def test_a_worktree_that_a_person_has_locked_stays_with_its_branch(project: Project) -> None:
    path = worktree(project, "0001-x", "done")
    project.git("worktree", "lock", str(path))

    result = project.run("clean", "--force")

    assert result.out.splitlines() == [
        "keep\tworktree\t0001-x\tit is locked (git worktree lock)",
        f"keep\tbranch\tscriptorium/ticket-0001\tit is checked out in '{path}'",
    ]
    assert project.git("status", "--porcelain", cwd=path) == ""
    project.git("worktree", "unlock", str(path))
    assert {row[0] for row in rows(project.run("clean", "--force").out)} == {"remove"}
    assert not path.exists()


def test_a_branch_that_a_person_looks_at_stays(project: Project) -> None:
    path = worktree(project, "0001-x", "done")
    project.git("worktree", "remove", str(path))
    project.git("switch", "--quiet", "scriptorium/ticket-0001")
    result = project.run("clean", "--force")
    why = f"it is checked out in '{project.root}'"
    assert result == (0, f"keep\tbranch\tscriptorium/ticket-0001\t{why}\n", "")
    assert project.git("rev-parse", "--abbrev-ref", "HEAD") == "scriptorium/ticket-0001"


@pytest.mark.parametrize("name", ["scriptorium/ticket-0001-followup", "scriptorium/ticket-1"])
def test_a_branch_of_a_person_that_is_called_like_a_done_ticket_stays(project: Project, name: str) -> None:
    project.ticket("0001", state="done")
    project.git("branch", name)
    sweep_branches(project.workspace, project.workspace.plan.snapshot(), MergeLock())
    assert project.run("clean", "--force") == (0, "", "")
    assert f"refs/heads/{name}" in project.refs()

    project.git("update-ref", f"refs/heads/{name}", project.git("commit-tree", "master^{tree}", "-m", "New"))
    assert project.run("fsck").code == 0


def test_a_broken_worktree_of_a_finished_ticket_is_set_aside_and_named(project: Project) -> None:
    path = worktree(project, "0001-x", "done")
    (path / "precious").write_text("work\n")
    (path / ".git").unlink()
    project.run("clean", "--force")
    [aside] = path.parent.iterdir()
    assert (aside / "precious").read_text() == "work\n"
    [found] = json.loads(project.run("clean", "--json").out)
    assert (found["action"], found["kind"], found["name"]) == ("keep", "directory", f"tickets/{aside.name}")
    assert found["why"] == f"look into it, then 'scriptorium rescue drop tickets/{aside.name}'"


def test_a_rescue_ref_of_what_is_in_master_goes(project: Project) -> None:
    project.git("update-ref", f"{PREFIX}old", "master")
    project.git("update-ref", f"{PREFIX}new", project.git("commit-tree", "master^{tree}", "-m", "New"))
    assert rows(project.run("clean", "--force").out) == {("remove", "rescue", "old"), ("keep", "rescue", "new")}
    assert list(project.refs(PREFIX)) == [f"{PREFIX}new"]


@pytest.mark.parametrize("kind", [LeftoverKind.WORKTREE, LeftoverKind.BRANCH])
@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("state", [None, *State])
def test_nothing_is_removed_that_is_unfinished_or_in_no_ref(
    kind: LeftoverKind, state: State | None, landed: bool
) -> None:
    assert decide(kind, "x", state, busy=True, landed=landed).action is Action.KEEP
    wanted = Action.REMOVE if landed else Action.RESCUE
    unfinished = state not in (None, State.DONE)
    assert decide(kind, "x", state, busy=False, landed=landed).action is (Action.KEEP if unfinished else wanted)
