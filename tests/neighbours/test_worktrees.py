"""Bad neighbours: what others do to the worktree, the branch and the locks of a ticket."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import pytest

from scriptorium.coding.attempt import AttemptOutcome as Out
from scriptorium.errors import ScriptoriumError
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import clean_up_after_crash, process_next
from tests.neighbours.cases import BRANCH, git_dir, in_order, kept, lands, shell, show, submitted, waits, worked_on
from tests.support import Project

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    project.init()


HARMS = {
    "the directory is gone": 'rm -rf "$WORKTREE"',
    "no .git file": 'rm "$WORKTREE/.git"',
    "the .git file leads nowhere": 'echo "gitdir: /nowhere" >"$WORKTREE/.git"',
    "an empty .git file": ': >"$WORKTREE/.git"',
    "a broken HEAD": 'echo garbage >"$ADMIN/HEAD"',
    "an empty HEAD": ': >"$ADMIN/HEAD"',
    "an index of garbage": 'echo garbage >"$ADMIN/index"',
    "an empty index": ': >"$ADMIN/index"',
    "a torn index": 'head -c 90 "$ADMIN/index" >torn; mv torn "$ADMIN/index"',
    "no index": 'rm "$ADMIN/index"',
    "git knows no such worktree": 'rm -r "$ADMIN"',
    "no commondir": 'rm "$ADMIN/commondir"',
    "no way back": 'rm "$ADMIN/gitdir"',
    "pruned": 'rm -r "$WORKTREE"; git worktree prune',
    "no branch": 'git update-ref -d "$BRANCH"',
    "an empty branch": ': >".git/$BRANCH"',
    "an empty branch without a log": ': >".git/$BRANCH"; rm ".git/logs/$BRANCH"',
    "an empty branch without a worktree": ': >".git/$BRANCH"; rm -r "$WORKTREE" "$ADMIN"',
    "an empty branch that is packed": 'git pack-refs --all; mkdir -p .git/refs/heads/scriptorium; : >".git/$BRANCH"',
    "a lock on the index": 'touch "$ADMIN/index.lock"',
    "a lock on HEAD": 'touch "$ADMIN/HEAD.lock"',
    "a lock on the branch": 'touch ".git/$BRANCH.lock"',
    "a lock on the configuration": "touch .git/config.lock",
}
"""Damage to a worktree, to its git directory and to its branch, as shell commands."""


DELETED = ("the directory is gone", "pruned", "an empty branch without a worktree")


LOGGED = {
    "an index of garbage": "ticket '0001-thing': rebuilt the broken index of its worktree",
    "an empty index": "ticket '0001-thing': rebuilt the broken index of its worktree",
    "a torn index": "ticket '0001-thing': rebuilt the broken index of its worktree",
    "an empty branch": f"'{BRANCH}' was empty; restored ",
    "no branch": "ticket '0001-thing': 'scriptorium/ticket-0001' was gone; created it again at ",
}


def harm(project: Project, name: str, what: str) -> None:
    places = {"WORKTREE": str(project.worktree(name)), "ADMIN": str(git_dir(project, name)), "BRANCH": BRANCH}
    shell(project, HARMS[what], **places)


@pytest.mark.parametrize("what", HARMS)
def test_a_ticket_lands_whatever_became_of_its_worktree(
    project: Project, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    first = "echo 1 >committed; git add committed; git commit --quiet --message One; echo 2 >uncommitted"
    name, result = worked_on(project, first)
    assert result is Out.FAILED
    tip = project.git("rev-parse", BRANCH)

    harm(project, name, what)
    assert submitted(project, "echo 3 >second") == name
    assert project.git("merge-base", "--is-ancestor", tip, BRANCH) == ""
    (project.worktree(name) / "mine").write_text("of a person\n")
    harm(project, name, what)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)

    in_order(project, name)
    assert [show(project, path) for path in ("committed", "uncommitted", "second")] == ["1", "2", "3"]
    assert kept(project, "mine") == ([] if what in DELETED else ["of a person"])
    assert LOGGED.get(what, "") in caplog.text


def test_a_branch_deleted_during_the_run_is_recreated_before_the_commit(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    name = submitted(project, f"git commit -q --allow-empty -m One; echo 1 >file; git update-ref -d {BRANCH}")

    assert project.git("log", "--format=%s", "master..scriptorium/ticket-0001") == f"{name}\nOne"
    assert "'scriptorium/ticket-0001' was gone; created it again at " in caplog.text
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


def test_a_branch_lost_with_its_worktree_is_recreated_as_submitted(project: Project) -> None:
    name = submitted(project, "echo 1 >first")
    shutil.rmtree(project.worktree(name))
    project.git("worktree", "prune")
    project.git("branch", "--quiet", "-D", "scriptorium/ticket-0001")

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)

    in_order(project, name)
    assert show(project, "first") == "1"


def test_a_worktree_that_the_user_locked_stays_after_the_landing(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    name = submitted(project)
    worktree = project.worktree(name)
    project.git("worktree", "lock", str(worktree))

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert f"the worktree of ticket '{name}' stays: it is locked" in caplog.text
    assert (worktree / "file").read_text() == f"{name}\n"
    caplog.clear()
    lands(project, "echo 2 >second", "0002")
    assert "locked" not in caplog.text

    project.git("worktree", "unlock", str(worktree))
    lands(project, "echo 3 >third", "0003")
    in_order(project, name)


def test_a_git_file_naming_the_users_repository_leaves_its_locks_alone(project: Project) -> None:
    lock = project.root / ".git" / "index.lock"
    lock.touch()
    _, result = worked_on(project, f"echo 'gitdir: {project.root / '.git'}' >.git")
    assert result is Out.FAILED
    assert lock.exists()

    name = submitted(project)
    assert waits(project, name).blocked_by.startswith(f"'{project.root}' cannot follow: 'git merge' failed")
    assert lock.exists()
    lock.unlink()
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


# -- locks that a killed git left in the repository --------------------------------------------------------


def lock_of(project: Project, path: str, age: float) -> Path:
    """Leave a lock of this age in seconds in the repository. A negative age is in the future and never stale."""
    lock = project.root / ".git" / path
    lock.touch()
    os.utime(lock, (time.time() - age, time.time() - age))
    return lock


@pytest.mark.parametrize("path", ["index.lock", "HEAD.lock", "refs/heads/master.lock"])
def test_a_lock_in_the_way_of_the_users_checkout_is_named_and_waited_for(project: Project, path: str) -> None:
    name = submitted(project)
    lock = lock_of(project, path, -600)

    merged = waits(project, name)

    assert str(lock) in merged.blocked_by
    assert merged.hint == f"if no git is at work, remove '{lock}'"
    assert lock.exists()
    lock.unlink()
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert project.git("status", "--porcelain") == ""
    in_order(project, name)


def test_a_lock_on_packed_refs_keeps_the_landed_branch_and_blocks_nothing(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    name = submitted(project)
    lock = lock_of(project, "packed-refs.lock", -600)

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert "the branch 'scriptorium/ticket-0001' stays: 'git update-ref' failed: " in caplog.text
    second = submitted(project, "echo 2 >second", "0002")
    assert process_next(project.workspace) == ItemResult(second, ItemOutcome.LANDED)

    lock.unlink()
    lands(project, "echo 3 >third", "0003")


def test_a_lock_on_the_plan_is_named_and_the_ticket_lands_without_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = submitted(project)
    monkeypatch.setattr("scriptorium.plan.store.MAX_TRIES", 3)
    lock = lock_of(project, "refs/heads/scriptorium/plan.lock", -600)

    with pytest.raises(ScriptoriumError, match="could not be written to 'scriptorium/plan'") as raised:
        process_next(project.workspace)
    assert raised.value.hint == f"if no git is at work, remove '{lock}'"

    lock.unlink()
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


@pytest.mark.parametrize(
    "path", ["HEAD.lock", "packed-refs.lock", "refs/heads/master.lock", "refs/heads/scriptorium/plan.lock"]
)
def test_a_lock_that_has_outlasted_every_git_is_taken_away(project: Project, path: str) -> None:
    name = submitted(project)
    lock = lock_of(project, path, 600)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
    assert not lock.exists()


def test_a_lock_on_a_rescue_ref_that_nobody_will_want_again_is_taken_away(project: Project) -> None:
    (project.root / ".git" / "refs" / "scriptorium" / "rescue").mkdir(parents=True)
    old, young = (lock_of(project, f"refs/scriptorium/rescue/{age}.lock", age) for age in (600, 0))
    clean_up_after_crash(project.workspace)
    assert (old.exists(), young.exists()) == (False, True)
