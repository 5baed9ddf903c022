"""Unexpected changes during an agent's run are reported and not undone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scriptorium.agents import unexpected_changes
from scriptorium.gate.results import record_verdict
from scriptorium.project.held import TicketLock
from scriptorium.worktrees.tickets import TicketWorktree
from tests.support import PLAN, Project, until

NAME = "0001-thing"


@pytest.fixture
def watched(project: Project) -> Project:
    """A project with a ticket in progress that has its worktree, and another branch, tag and file."""
    project.init()
    project.commit({"file": "one\n"})
    project.git("branch", "topic")
    project.git("tag", "v1")
    project.git("update-ref", "refs/scriptorium/rescue/late", "HEAD")
    project.git("worktree", "add", "--quiet", "-b", "beside", "../beside")
    for text in ("first", "second"):
        (project.root / "file").write_text(f"{text}\n")
        project.git("stash", "--quiet")
    project.ticket("0001", state="in-progress")
    TicketWorktree(project.workspace, TicketLock(NAME)).ensure()
    return project


def warnings(project: Project, caplog: pytest.LogCaptureFixture, script: str, ticket: str = NAME) -> str:
    """Return the warning about a run with a script as the agent; HEAD and refs stay as the script leaves them."""
    worktree = project.worktree(NAME)
    known = {"WORKTREE": str(worktree), "PLAN": f"refs/heads/{PLAN}", "PYTHON": sys.executable}
    with unexpected_changes.watch_for_changes(project.workspace, worktree, "coding", ticket):
        argv = ["/bin/sh", "-euc", script]
        env = {**os.environ, **known}
        done = subprocess.run(argv, cwd=project.root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return "\n".join(record.getMessage() for record in caplog.records)


MOVES = {
    "a commit on master": ("git commit -qm x --allow-empty", "'refs/heads/master' {} -> {}"),
    "master taken back": ("git reset -q --soft HEAD~1", "'refs/heads/master' {} -> {}"),
    "a new branch": ("git branch stray", "'refs/heads/stray' none -> {}"),
    "a branch that is gone": ("git branch -qD topic", "'refs/heads/topic' {} -> none"),
    "a packed branch that is gone": ("git pack-refs --all; git branch -qD topic", "'refs/heads/topic' {} -> none"),
    "a tag": ("git tag -f v1 HEAD~1", "'refs/tags/v1' {} -> {}"),
    "a stash": ("echo two >file; git stash -q", "'refs/stash' {} -> {}"),
    "an older stash": ("git stash drop -q stash@{1}", "'.git/logs/refs/stash'"),
    "what was rescued": ("git update-ref -d refs/scriptorium/rescue/late", "'refs/scriptorium/rescue/late' {} -> none"),
    "another worktree": ("git -C ../beside switch -q --detach", "/beside (HEAD)'"),
    "another worktree that is gone": ("git worktree remove ../beside", "/beside (HEAD)'"),
    "a switch": ("git switch -q topic", "'HEAD' refs/heads/master -> refs/heads/topic"),
    "a detached HEAD": ("git switch -q --detach", "'HEAD' refs/heads/master -> {}"),
    "the index": ("echo two >file; git add file", "'.git/index'"),
    "a file in conflict": ("git update-index --chmod=+x file", "'.git/index'"),
    "configuration": ("git config user.name Agent", "'.git/config'"),
    "a hook": ("echo exit 1 >.git/hooks/pre-commit", "'.git/hooks/pre-commit'"),
    "a hook that is gone": ("rm .git/hooks/pre-push.sample", "'.git/hooks/pre-push.sample'"),
    "what git ignores": ("echo '*' >.git/info/exclude", "'.git/info/exclude'"),
    "the plan": ("git update-ref $PLAN $(git commit-tree -p $PLAN -m x $PLAN^{tree})", "'{plan}' by the commit {}"),
    "the plan taken back": ("git update-ref $PLAN $PLAN~1", "'{plan}' {} -> {}"),
    "the plan rewritten": ("git update-ref $PLAN $(git commit-tree -m x $PLAN^{tree})", "'{plan}' {} -> {}"),
    "the plan deleted": ("git update-ref -d $PLAN", "'{plan}' {} -> none"),
    "its own branch left": ("git -C $WORKTREE switch -q --detach", "(not on 'scriptorium/ticket-0001')"),
    "its worktree deleted": ("rm -r $WORKTREE", "(gone)"),
    "its worktree cut off": ("rm $WORKTREE/.git", "(gone)"),
}


@pytest.mark.parametrize("what", MOVES)
def test_a_change_by_an_agent_is_reported_and_not_undone(
    watched: Project, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    script, words = MOVES[what]
    told = warnings(watched, caplog, script)
    pattern = words.replace("{plan}", f"refs/heads/{PLAN}").split("{}")
    assert told.startswith(f"while the agent of ticket '{NAME}' ran, these moved: ")
    assert told.count("\n") == 0
    at = 0
    for piece in pattern:
        at = told.index(piece, at) + len(piece)
    assert told.endswith("; nothing is undone: check whether you did it")


def test_the_commits_that_moved_are_named(watched: Project, caplog: pytest.LogCaptureFixture) -> None:
    old = watched.git("rev-parse", "HEAD")
    told = warnings(watched, caplog, "git commit -qm x --allow-empty; git tag v2")
    new = watched.git("rev-parse", "HEAD")
    assert f"'refs/heads/master' {old[:12]} -> {new[:12]}, 'refs/tags/v2' none -> {new[:12]};" in told


QUIET = {
    "nothing": "true",
    "work on its own branch": "cd $WORKTREE; echo x >file; git add file; git commit -qm x",
    "refs that are packed": "git pack-refs --all",
    "git's own clean-up": "git update-server-info",
    "a status that refreshes the index": "touch -d 2001-01-01 file; git status --porcelain",
    "work that was rescued": "git update-ref refs/scriptorium/rescue/x HEAD",
    "a bisection": "git update-ref refs/bisect/bad HEAD",
    "another ticket assigned": "$PYTHON -m scriptorium assign",
    "another ticket coded and reopened": "$PYTHON -m scriptorium assign; $PYTHON -m scriptorium code 2 || test $? = 1",
    "another ticket landed": "$PYTHON -m scriptorium merge",
    "another ticket landed, the plan not yet told": "git update-ref refs/heads/master scriptorium/ticket-0003",
}


@pytest.mark.parametrize("what", QUIET)
def test_allowed_changes_are_not_reported(watched: Project, caplog: pytest.LogCaptureFixture, what: str) -> None:
    if "landed" in what:
        watched.queued("0003")
    watched.agent("echo x >x; git add x; git commit -qm x")
    watched.ticket("0002")
    if "not yet" in what:  # so much the merge queue has done before it moves master
        workspace = watched.workspace
        record_verdict(workspace, workspace.repository.tree_of("scriptorium/ticket-0003"), green=True)
        watched.git("switch", "--quiet", "--detach")
    before = watched.git("rev-parse", PLAN, "master"), (watched.root / ".git" / "index").read_bytes()
    assert warnings(watched, caplog, QUIET[what]) == ""
    after = watched.git("rev-parse", PLAN, "master"), (watched.root / ".git" / "index").read_bytes()
    assert (before[0] != after[0]) == what.startswith("another")
    assert (before[1] != after[1]) == (what in ("a status that refreshes the index", "another ticket landed"))


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_every_version_of_the_index_is_read(watched: Project, caplog: pytest.LogCaptureFixture, version: str) -> None:
    watched.git("update-index", "--index-version", "4" if version == "4" else "2")
    watched.commit({"other": "x\n", "an/empty": ""})
    if version == "3":
        watched.git("update-index", "--skip-worktree", "other")
    assert (watched.root / ".git" / "index").read_bytes()[4:8] == bytes([0, 0, 0, int(version)])
    if version != "4":  # which is not read, so that a status that refreshes it counts
        assert warnings(watched, caplog, "touch -d 2001-01-01 file; git status") == ""
    assert "'.git/index'" in warnings(watched, caplog, "git rm -q --cached an/empty")


def test_git_and_the_files_give_the_same_refs(watched: Project) -> None:
    watched.git("pack-refs", "--all")
    watched.git("branch", "loose")
    watched.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/master")
    repository = watched.workspace.repository
    assert unexpected_changes.refs_by_git(repository) == unexpected_changes.refs_in_files(repository.common_dir)
    assert unexpected_changes.refs_in_files(repository.common_dir)["HEAD"] == "refs/heads/master"


def test_a_planning_agent_is_named_by_its_role(project: Project) -> None:
    project.init()
    project.commit_plan({"spec.md": "# Spec\n\nA thing\n"})
    project.agent('git -C "$SCRIPTORIUM_REPO" branch stray; echo x >areas/core.md')
    result = project.run("architect")
    assert (result.code, result.out) == (0, "core\n")
    assert "while the architect agent ran, these moved: 'refs/heads/stray' none -> " in result.err


def test_changes_in_a_stopped_run_are_reported(watched: Project, facts: Path) -> None:
    watched.agent('git -C "$SCRIPTORIUM_REPO" branch stray; touch "$FACTS/there"; sleep 600')
    with watched.running("code", NAME) as command:
        until((facts / "there").exists)
        result = command.end(signal.SIGTERM)
    assert result.code == 143
    assert "these moved: 'refs/heads/stray' none -> " in result.err


def test_a_repository_that_became_unreadable_is_reported(watched: Project, caplog: pytest.LogCaptureFixture) -> None:
    told = warnings(watched, caplog, "git update-ref $PLAN $PLAN~1; rm -r .git/objects")
    assert told.startswith(f"cannot tell what moved while the agent of ticket '{NAME}' ran: ")


def test_the_branch_of_an_idle_ticket_must_not_move(watched: Project, caplog: pytest.LogCaptureFixture) -> None:
    watched.ticket("0002", state="stuck")
    watched.git("branch", "scriptorium/ticket-0002")
    told = warnings(watched, caplog, "git branch -f scriptorium/ticket-0002 HEAD~1; git branch -f scriptorium/ticket-3")
    assert "'refs/heads/scriptorium/ticket-0002' " in told
    assert "'refs/heads/scriptorium/ticket-3' none -> " in told
