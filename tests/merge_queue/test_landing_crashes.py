"""Landing: a git that was killed leaves locks and half-written files, and the next landing repairs them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from scriptorium.merge_queue import landing
from tests.merge_queue.cases import begin_landing, killed
from tests.support import Project

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.commit({"shared": "1\n2\n3\n", "mine": "old\n"})


def test_locks_that_a_killed_git_left_do_not_keep_a_ticket_from_landing(project: Project) -> None:
    name = project.queued()
    git = project.root / ".git"
    branches = git / "refs" / "heads"
    worktree = git / "worktrees" / name
    left = [git / "index.lock", git / "HEAD.lock", branches / "master.lock", branches / "scriptorium" / "plan.lock"]
    left += [branches / "scriptorium" / "ticket-0001.lock", worktree / "HEAD.lock", worktree / "index.lock"]
    for lock in left:
        lock.touch()
        os.utime(lock, (0, 0))
    for _ in range(2):
        waiting = project.run("merge")
        assert waiting[:2] == (1, "")  # the user's git may hold the index of the checkout
        assert "index.lock': File exists" in waiting.err
    begin_landing(project)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert [lock for lock in left if lock.exists()] == []
    assert project.git("status", "--porcelain") == ""


def test_what_a_killed_fast_forward_had_half_written_is_written_anew(project: Project) -> None:
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file; echo new >other")
    begin_landing(project)
    (project.root / "file").write_text("it is")
    (project.root / "other").touch()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").read_text() == "it is done\n"
    assert not (project.root / ".git" / landing.MARK).exists()


@pytest.mark.parametrize("path", ["caf\udce9", "a\nb", "in/a\nb"])
def test_what_was_half_written_is_found_by_any_name(project: Project, path: str) -> None:
    project.commit({path: "before\n"})
    name = project.queued(script=f"echo it is done >'{path}'")
    begin_landing(project)
    (project.root / path).write_text("it is")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / path).read_text() == "it is done\n"


def test_what_was_half_written_is_found_where_git_ignores_it(project: Project) -> None:
    project.commit({".gitignore": "*.log\nbuild/\n"})
    name = project.queued(script="mkdir build; echo it is done | tee a.log build/b c; git add -f .; git commit -qm x")
    begin_landing(project)
    (project.root / "build").mkdir()
    for path in ("a.log", "build/b", "c"):
        (project.root / path).write_text("it is")
    (project.root / "mine.log").write_text("precious\n")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / "build" / "b").read_text() == "it is done\n"
    assert (project.root / "mine.log").read_text() == "precious\n"


def test_a_note_of_a_landing_that_is_torn_counts_as_none(project: Project) -> None:
    name = project.queued()
    (project.root / ".git" / landing.MARK).write_bytes(os.fsencode(project.root) + b"\n\xff\xfe\n")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


@pytest.mark.parametrize("half", [False, True])
def test_a_killed_fast_forward_is_undone_whatever_becomes_of_its_ticket(project: Project, half: bool) -> None:
    """This holds also when the state directory is gone, as /tmp is after a reboot."""
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file; echo new >other")
    begin_landing(project)
    if half:
        (project.root / "file").write_text("it is")
        (project.root / "other").touch()
    else:  # everything is written except the branch, which moves last
        project.git("read-tree", "-m", "-u", "master", "scriptorium/ticket-0001")
    shutil.rmtree(project.root.parent / "root")
    project.commit_plan({path: None for path in project.plan_files() if name in path})
    project.ticket("0002")
    assert project.run("assign").code == 0
    project.agent("echo 2 >second; scriptorium submit-pr x")
    assert project.run("code").code == 0

    assert project.run("merge")[:2] == (0, "0002-thing\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").read_text() == "before\n"
    assert not (project.root / "other").exists()


def test_a_killed_fast_forward_is_undone_once_its_lock_is_stale(project: Project) -> None:
    """A run that is restarted at once waits for the locks to become stale, and does not blame the user."""
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file")
    begin_landing(project)
    (project.root / "file").write_text("it is")
    git = project.root / ".git"
    for lock in ("index.lock", "HEAD.lock", "refs/heads/master.lock"):
        (git / lock).touch()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert project.git("status", "--porcelain") == ""


def test_stale_locks_are_removed_after_a_kill_when_master_had_moved(project: Project) -> None:
    """The tool may never need these locks again, but the next commit of the user would fail."""
    name = project.queued()
    begin_landing(project)
    project.git("merge", "--quiet", "--ff-only", "scriptorium/ticket-0001")
    locks = [project.root / ".git" / lock for lock in ("HEAD.lock", "refs/heads/master.lock")]
    for lock in locks:
        lock.touch()
        os.utime(lock, (0, 0))

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert not any(lock.exists() for lock in locks)
    project.commit({"mine": "1\n"})


def test_edits_from_before_and_after_a_killed_fast_forward_stay(project: Project) -> None:
    project.commit({"file": "before\n"})
    project.queued(script="echo it is done >file; echo new >other; echo more >third")
    (project.root / "other").write_text("n")  # half of the content in the commit, but older
    begin_landing(project)
    (project.root / "file").write_text("it was")
    (project.root / "third").write_text("mo")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert "local changes in" in blocked.err
    assert (project.root / "file").read_text() == "it was"
    assert (project.root / "other").read_text() == "n"
    assert not (project.root / "third").exists()


def test_a_second_kill_just_after_the_first_leaves_nothing_behind(project: Project) -> None:
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file; echo new >other")
    begin_landing(project)
    (project.root / "file").write_text("it is done\n")
    (project.root / "other").touch()
    killed(project, "UserCheckout.fast_forward", "merge")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert project.git("status", "--porcelain") == ""
