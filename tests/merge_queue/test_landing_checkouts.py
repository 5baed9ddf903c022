"""Landing: other checkouts of master and of the plan follow, or are reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scriptorium.git.repository import RefUpdate
from scriptorium.merge_queue import landing
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.store import PlanStore
from tests.merge_queue.cases import killed
from tests.support import PLAN, Project

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.commit({"shared": "1\n2\n3\n", "mine": "old\n"})


def test_an_ignored_file_in_a_checkout_of_the_plan_stays_and_is_reported(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", str(tmp_path / "plan"), PLAN)
    with (project.root / ".git" / "info" / "exclude").open("a") as file:
        file.write("0001-thing.md\n")
    project.ticket("0001")
    project.git("reset", "--quiet", "--hard", cwd=tmp_path / "plan")
    mine = tmp_path / "plan" / "tickets" / "in-progress" / "0001-thing.md"
    mine.write_text("precious\n")

    assigned = project.run("assign")

    assert assigned.code == 0
    assert f"the files in '{tmp_path / 'plan'}' are behind" in assigned.err
    assert mine.read_text() == "precious\n"


def test_a_second_checkout_follows_though_the_landing_was_killed(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "--force", str(tmp_path / "second"), "master")
    name = project.queued()
    killed(project, "UserCheckout.follow", "merge")
    assert (project.root / "file").exists()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain", cwd=tmp_path / "second") == ""
    assert (tmp_path / "second" / "file").exists()
    assert not (project.root / ".git" / landing.MARK).exists()


@pytest.mark.parametrize("locked", [True, False])
def test_a_half_written_second_checkout_follows_once_its_lock_is_stale(
    project: Project, tmp_path: Path, locked: bool
) -> None:
    second, lock = tmp_path / "second", project.root / ".git" / "worktrees" / "second" / "index.lock"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued(script="echo it is done >file; echo 2 >mine")
    killed(project, "UserCheckout.follow", "merge")
    (second / "file").write_text("it is")
    (second / "mine").unlink()
    if locked:
        lock.touch()
        os.utime(lock, (0, 0))

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain", cwd=second) == ""
    assert (second / "file").read_text() == "it is done\n"
    assert not lock.exists()


def test_a_second_checkout_updated_before_the_kill_stays_as_it_is(project: Project, tmp_path: Path) -> None:
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued(script="echo 1 >file; echo 2 >mine")
    killed(project, "UserCheckout.follow", "merge")
    project.git("reset", "--quiet", "--hard", cwd=second)
    (second / "mine").write_text("edited\n")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    assert "behind" not in result.err
    assert project.git("status", "--porcelain", cwd=second) == " M mine"


def test_a_second_checkout_edited_since_the_kill_is_reported(project: Project, tmp_path: Path) -> None:
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued(script="echo 1 >file; echo 2 >mine")
    killed(project, "UserCheckout.follow", "merge")
    (second / "mine").write_text("edited\n")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    assert f"the files in '{second}' are behind 'master', as edits are in the way" in result.err
    assert (second / "mine").read_text() == "edited\n"


def test_a_lock_in_a_second_checkout_is_named(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "--force", str(tmp_path / "second"), "master")
    project.queued()
    lock = project.root / ".git" / "worktrees" / "second" / "index.lock"
    lock.touch()

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert f"hint: if no git is at work, remove '{lock}'" in blocked.err


def test_a_checkout_that_is_made_while_refs_are_moved_follows(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = project.queued()
    project.git("checkout", "--quiet", "-b", "mine")
    plain = PlanStore.prepare

    def prepare(store: PlanStore, base: Plan, change: PlanChange) -> RefUpdate:
        project.git("checkout", "--quiet", "master")
        return plain(store, base, change)

    monkeypatch.setattr(PlanStore, "prepare", prepare)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").exists()


def test_where_master_is_a_symbolic_ref_its_target_checkout_follows(tmp_path: Path) -> None:
    project = Project(tmp_path / "main", branch="main")
    project.init()
    project.git("symbolic-ref", "refs/heads/master", "refs/heads/main")
    name = project.queued()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("symbolic-ref", "refs/heads/master") == "refs/heads/main"
    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").exists()
