"""Checkouts of the plan branch follow the branch, and keep the edits of the user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scriptorium.plan.change import PlanChange
from scriptorium.plan.store import PlanStore
from tests.plan.store_cases import written
from tests.support import PLAN, Project


def test_a_checkout_of_the_plan_follows(project: Project, store: PlanStore, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    written(store, PlanChange("x", writes={"areas/core.md": b"# Core\n"}, removes=["decisions/.gitkeep"]))

    assert (checkout / "areas" / "core.md").read_text() == "# Core\n"
    assert not (checkout / "decisions").exists()
    assert project.git("status", "--porcelain", cwd=checkout) == ""


def test_an_overtaken_writer_does_not_move_a_plan_checkout_back(
    project: Project, store: PlanStore, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    base = store.snapshot().commit
    first = written(store, PlanChange("x", writes={"areas/one.md": b"1\n"})).commit
    written(store, PlanChange("x", writes={"areas/two.md": b"2\n"}))
    store.checkouts.follow(base, first)  # the first writer follows late
    assert project.git("status", "--porcelain", cwd=checkout) == ""
    assert (checkout / "areas" / "two.md").exists()


@pytest.mark.parametrize("then", ["assign", "run"])
def test_a_checkout_of_the_plan_follows_a_command_that_was_killed(project: Project, tmp_path: Path, then: str) -> None:
    """Otherwise the next commit in that checkout would undo the work of the command."""
    project.init()
    project.agent("true")
    project.ticket("0001")
    plan = tmp_path / "plan"
    project.git("worktree", "add", "--quiet", str(plan), PLAN)
    code = (
        "import os, signal, sys; from scriptorium import main; from scriptorium.plan.checkouts import PlanCheckouts\n"
    )
    code += "sys.argv = ['scriptorium', 'assign']\n"
    code += "PlanCheckouts.follow = lambda *_: os.kill(os.getpid(), signal.SIGKILL); main.main()"
    assert subprocess.run([sys.executable, "-c", code], cwd=project.root, check=False).returncode == -signal.SIGKILL
    assert project.git("status", "--porcelain", cwd=plan) != ""

    if then == "assign":
        project.ticket("0002")  # a commit in another worktree moves no files here
        assert project.run("assign").code == 0
    else:
        assert project.run("run", "--once").code == 0

    assert not (plan / "tickets" / "open" / "0001-thing.md").exists()
    (plan / "notes").write_text("1\n")
    project.git("add", "notes", cwd=plan)
    project.git("commit", "--quiet", "--message", "Note", cwd=plan)
    assert "tickets/in-progress/0001-thing.md" in project.plan_files()


@pytest.mark.parametrize("locked", [True, False])
def test_a_half_written_checkout_of_the_plan_follows_without_its_lock(
    project: Project, tmp_path: Path, locked: bool
) -> None:
    project.init()
    project.ticket("0001")
    plan, lock = tmp_path / "plan", project.root / ".git" / "worktrees" / "plan" / "index.lock"
    project.git("worktree", "add", "--quiet", str(plan), PLAN)
    code = (
        "import os, signal, sys\nfrom scriptorium import main\nfrom scriptorium.git.user_checkout import UserCheckout\n"
    )
    code += "sys.argv = ['scriptorium', 'assign']\n"
    code += "UserCheckout._read_tree = lambda *_: os.kill(os.getpid(), signal.SIGKILL); main.main()"
    assert subprocess.run([sys.executable, "-c", code], cwd=project.root, check=False).returncode == -signal.SIGKILL
    (plan / "tickets" / "in-progress" / "0001-thing.md").touch()
    if locked:
        lock.touch()
        os.utime(lock, (0, 0))
    project.ticket("0002")

    assigned = project.run("assign")

    assert assigned.code == 0
    assert "behind" not in assigned.err
    assert project.git("status", "--porcelain", cwd=plan) == ""
    assert not lock.exists()


def test_a_lock_in_a_checkout_of_the_plan_stays_and_is_named(
    project: Project, store: PlanStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project.git("worktree", "add", "--quiet", str(tmp_path / "plan"), PLAN)
    lock = project.root / ".git" / "worktrees" / "plan" / "index.lock"
    for number in range(2):
        lock.touch()
        os.utime(lock, (0, 0))
        written(store, PlanChange("x", writes={f"areas/{number}.md": b"1\n"}))
        assert f"Unable to create '{lock}': File exists" in caplog.text

    lock.unlink()
    written(store, PlanChange("x", writes={"areas/last.md": b"1\n"}))
    assert project.git("status", "--porcelain", cwd=tmp_path / "plan") == ""


@pytest.mark.parametrize("how", [["checkout", "--quiet", "HEAD~1", "--", "spec.md"], ["revert", "--no-commit", "HEAD"]])
def test_what_a_person_takes_back_in_a_checkout_of_the_plan_stays_so(
    project: Project, store: PlanStore, tmp_path: Path, how: list[str]
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    written(store, PlanChange("x", writes={"spec.md": b"old\n"}))
    (checkout / "spec.md").write_text("new\n")
    project.git("commit", "--quiet", "--all", "--message", "New", cwd=checkout)
    project.git(*how, cwd=checkout)

    for name in ("one", "two"):
        written(store, PlanChange("x", writes={f"areas/{name}.md": b"1\n"}))

    assert (checkout / "areas" / "two.md").exists()
    assert (checkout / "spec.md").read_text() == "old\n"
    assert project.git("status", "--porcelain", cwd=checkout) == "M  spec.md"


def test_a_checkout_of_the_plan_follows_what_a_person_commits_elsewhere(
    project: Project, store: PlanStore, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    written(store, PlanChange("x", writes={"areas/one.md": b"1\n"}))
    project.commit_plan({"areas/two.md": "1\n"})

    written(store, PlanChange("x", writes={"areas/three.md": b"1\n"}))

    assert project.git("status", "--porcelain", cwd=checkout) == ""


def test_edits_in_a_checkout_of_the_plan_are_kept(
    project: Project, store: PlanStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkout = tmp_path / "checkout"
    project.git("worktree", "add", "--quiet", str(checkout), PLAN)
    (checkout / "spec.md").write_text("being written\n")

    written(store, PlanChange("x", writes={"areas/core.md": b"# Core\n"}))
    assert (checkout / "areas" / "core.md").exists()
    assert (checkout / "spec.md").read_text() == "being written\n"

    written(store, PlanChange("x", writes={"spec.md": b"by somebody else\n"}))
    assert (checkout / "spec.md").read_text() == "being written\n"
    assert "are behind 'scriptorium/plan', as edits are in the way" in caplog.text
