"""Bad neighbours: a branch that is checked out elsewhere, moved repositories, and disks that are away."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from scriptorium.coding.assign import assign_next
from scriptorium.coding.attempt import AttemptOutcome as Out
from scriptorium.coding.attempt import run_attempt
from scriptorium.errors import ScriptoriumError
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import clean_up_after_crash, process_next
from scriptorium.system import locks
from scriptorium.worktrees.tickets import TicketWorktree
from tests.neighbours.cases import in_order, kept, lands, shell, show, submitted, waits, worked_on
from tests.support import Project

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    project.init()


def test_a_branch_that_the_user_has_checked_out_is_not_moved(project: Project) -> None:
    name, _ = worked_on(project, "echo 1 >first")
    shutil.rmtree(project.worktree(name))
    project.git("worktree", "prune")
    project.git("checkout", "--quiet", "scriptorium/ticket-0001")
    project.agent("echo 2 >second; scriptorium submit-pr x")

    with pytest.raises(ScriptoriumError, match=f"'scriptorium/ticket-0001' is checked out in '{project.root}'"):
        assign_next(project.workspace)
    with pytest.raises(ScriptoriumError) as raised:
        run_attempt(project.workspace, name)
    assert raised.value.hint == "check out another branch there"
    assert project.git("status", "--porcelain") == ""

    project.git("checkout", "--quiet", "master")
    assert run_attempt(project.workspace, name).result is Out.SUBMITTED
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


def test_a_branch_gets_no_worktree_while_the_user_rebases_it(project: Project) -> None:
    name, _ = worked_on(project, "echo 1 >first")
    shutil.rmtree(project.worktree(name))
    project.git("worktree", "prune")
    project.git("checkout", "--quiet", "scriptorium/ticket-0001")
    shell(project, "git rebase --quiet --interactive master", GIT_SEQUENCE_EDITOR="sed -i 1s/pick/edit/")
    project.agent("echo 2 >second; scriptorium submit-pr x")

    with pytest.raises(ScriptoriumError, match="'scriptorium/ticket-0001' is being rebased") as raised:
        assign_next(project.workspace)
    assert raised.value.hint == f"finish the rebase in '{project.root / '.git'}'"
    assert not project.worktree(name).exists()

    project.git("rebase", "--abort")
    project.git("checkout", "--quiet", "master")
    assert run_attempt(project.workspace, name).result is Out.SUBMITTED
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


def test_a_rebase_that_an_agent_left_in_its_worktree_does_not_hold_it_up(project: Project) -> None:
    edit = "GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git rebase --quiet --interactive master"
    worked_on(project, f"echo 1 >first; git add first; git commit --quiet --message One; {edit}")
    lands(project, "echo 2 >second")
    assert [show(project, path) for path in ("first", "second")] == ["1", "2"]


def test_a_staged_file_deleted_from_a_landed_worktree_stays_staged(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = submitted(project)
    with monkeypatch.context() as patch:
        patch.setattr(TicketWorktree, "remove", lambda *_: None)  # as if it were killed at this point
        assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    (project.worktree(name) / "mine").write_text("precious\n")
    project.git("add", "mine", cwd=project.worktree(name))
    (project.worktree(name) / "mine").unlink()

    clean_up_after_crash(project.workspace)

    assert project.git("show", ":mine", cwd=project.worktree(name)) == "precious"


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_an_edit_hidden_from_git_in_a_landed_worktree_stays(
    project: Project, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    name = submitted(project)
    with monkeypatch.context() as patch:
        patch.setattr(TicketWorktree, "remove", lambda *_: None)  # as if it were killed at this point
        assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    (project.worktree(name) / "file").write_text("precious\n")
    project.git("update-index", flag, "file", cwd=project.worktree(name))

    clean_up_after_crash(project.workspace)

    assert (project.worktree(name) / "file").read_text() == "precious\n"


def test_an_edit_hidden_from_git_after_the_gate_is_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    name = submitted(project)
    remove = TicketWorktree.remove

    def late(*args: Any) -> None:
        (project.worktree(name) / "file").write_text("precious\n")
        project.git("update-index", "--skip-worktree", "file", cwd=project.worktree(name))
        remove(*args)

    monkeypatch.setattr(TicketWorktree, "remove", late)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)

    in_order(project, name)
    assert kept(project, "file") == ["precious"]


@pytest.mark.parametrize("what", ["the repository", "the root"])
@pytest.mark.parametrize("change", ["", "echo of a person >mine"])
def test_a_ticket_goes_on_after_a_move_and_what_its_worktree_held_is_kept(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, change: str
) -> None:
    name, _ = worked_on(project, "echo 1 >first")
    work = project.worktree(name)
    shell(project, f"cd {work}; {change or ':'}")
    if what == "the root":
        monkeypatch.setenv("SCRIPTORIUM_ROOT", str(tmp_path / "other"))
    else:
        project.root = project.root.rename(tmp_path / "moved")

    assert lands(project, "echo 2 >second") == name

    assert [show(project, path) for path in ("first", "second")] == ["1", "2"]
    assert kept(project, "mine") == (["of a person"] if change else [])
    assert not work.exists()


def test_a_ticket_renamed_in_progress_goes_on_and_keeps_its_files(project: Project) -> None:
    name, _ = worked_on(project, "echo 1 >first")
    work, renamed = project.worktree(name), "0001-better"
    (work / "mine").write_text("of a person\n")
    text = project.plan_files()[f"tickets/open/{name}.md"]
    project.commit_plan({f"tickets/open/{name}.md": None, f"tickets/in-progress/{renamed}.md": text})
    project.agent("echo 2 >second; scriptorium submit-pr x")

    there = f"is checked out in '{work}'"
    with locks.hold(project.paths.ticket_lock(name), name), pytest.raises(ScriptoriumError, match=there):
        run_attempt(project.workspace, renamed)  # its agent is still at work there
    assert run_attempt(project.workspace, renamed).result is Out.SUBMITTED
    assert process_next(project.workspace) == ItemResult(renamed, ItemOutcome.LANDED)

    in_order(project, renamed)
    assert [show(project, path) for path in ("first", "second")] == ["1", "2"]
    assert kept(project, "mine") == ["of a person"]
    assert not work.exists()


def test_a_second_ticket_with_the_same_id_leaves_the_first_worktree_alone(project: Project) -> None:
    name, _ = worked_on(project, "echo 1 >first")
    text = project.plan_files()[f"tickets/open/{name}.md"]
    project.commit_plan({"tickets/in-progress/0001-other.md": text})

    with pytest.raises(ScriptoriumError, match=f"is checked out in '{project.worktree(name)}'"):
        run_attempt(project.workspace, "0001-other")


def test_an_edit_hidden_from_git_outlives_a_move(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = worked_on(project, "echo 1 >first")
    shell(project, f"cd {project.worktree(name)}; echo precious >first; git update-index --skip-worktree first")
    monkeypatch.setenv("SCRIPTORIUM_ROOT", str(tmp_path / "other"))

    lands(project, "echo 2 >second")

    assert kept(project, "first") == ["precious"]


def test_a_copied_repository_continues_and_leaves_the_original_alone(project: Project, tmp_path: Path) -> None:
    name, _ = worked_on(project, "echo 1 >first")
    for branch in ("master", "scriptorium/plan"):
        project.git("worktree", "add", "--quiet", "--force", str(tmp_path / branch), branch)
    first = project.root
    before = project.refs(), project.git("status", "--porcelain"), project.git("worktree", "list", "--porcelain")
    project.root = Path(shutil.copytree(first, tmp_path / "copy", symlinks=True))

    assert submitted(project, "echo 2 >second") == name
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)

    assert [show(project, path) for path in ("first", "second")] == ["1", "2"]
    assert project.git("status", "--porcelain") == ""
    project.root = first
    assert before == (
        project.refs(), project.git("status", "--porcelain"), project.git("worktree", "list", "--porcelain")
    )  # fmt: skip
    for place in (tmp_path / "master", tmp_path / "scriptorium/plan", project.worktree(name)):
        assert project.git("status", "--porcelain", cwd=place) == ""


@pytest.mark.parametrize("copied", [True, False])
def test_leftovers_of_a_removal_go_and_the_users_worktrees_stay(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    for place in ("linked", "plain"):
        project.git("worktree", "add", "--quiet", "-b", place, str(tmp_path / place))
    if copied:
        project.root = Path(shutil.copytree(project.root, tmp_path / "copy", symlinks=True))
    (tmp_path / "plain" / ".git").unlink()  # now a plain directory
    link = (tmp_path / "linked" / ".git").read_text()
    name = submitted(project)
    with monkeypatch.context() as patch:
        patch.setattr(TicketWorktree, "remove", lambda *_: None)  # as if it were killed at this point
        assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    (project.worktree(name) / ".git").unlink()

    clean_up_after_crash(project.workspace)

    assert (tmp_path / "linked" / ".git").read_text() == link
    assert not (tmp_path / "plain" / ".git").exists()
    in_order(project, name)


@pytest.mark.parametrize("half", ["", "index"])
def test_a_users_worktree_that_lost_its_gitdir_loses_nothing_else(project: Project, tmp_path: Path, half: str) -> None:
    project.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    project.git("commit", "--quiet", "--allow-empty", "--message", "Mine", cwd=tmp_path / "linked")
    tip = project.git("rev-parse", "HEAD", cwd=tmp_path / "linked")
    record = project.root / ".git" / "worktrees" / "linked"
    (record / "gitdir").write_text("")
    if half:
        (record / half).unlink()

    lands(project)
    clean_up_after_crash(project.workspace)

    assert (record / "HEAD").exists() == (not half)
    assert list(project.refs("refs/scriptorium/rescue/").values()) == [tip]


def test_a_landing_waits_for_a_locked_checkout_of_master_that_is_away(project: Project, tmp_path: Path) -> None:
    disk, away = tmp_path / "disk", tmp_path / "away"
    project.git("worktree", "add", "--quiet", "--force", str(disk), "master")
    project.git("worktree", "lock", str(disk))
    name = submitted(project)
    disk.rename(away)

    waiting = waits(project, name)
    assert waiting.blocked_by == f"'{disk}', where 'master' is checked out, is missing"
    assert waiting.hint == f"bring it back, or 'git worktree unlock {disk}' if it is gone for good"

    away.rename(disk)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert (disk / "file").read_text() == f"{name}\n"
    assert project.git("status", "--porcelain", cwd=disk) == ""
    in_order(project, name)


def test_a_checkout_of_the_plan_that_was_away_follows_when_it_is_back(project: Project, tmp_path: Path) -> None:
    disk, away = tmp_path / "disk", tmp_path / "away"
    project.git("worktree", "add", "--quiet", str(disk), "scriptorium/plan")
    project.git("worktree", "lock", str(disk))
    disk.rename(away)
    name = lands(project)

    away.rename(disk)
    lands(project, "echo 2 >second", "0002")

    assert (disk / f"tickets/done/{name}.md").exists()
    assert project.git("status", "--porcelain", cwd=disk) == ""


@pytest.mark.parametrize("root", ["root", "link/root"])
@pytest.mark.parametrize("merges", [True, False])
def test_commits_on_no_branch_outlive_a_worktree_that_was_deleted(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merges: bool, root: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("SCRIPTORIUM_ROOT", str(tmp_path / root))
    name = submitted(project)
    work = project.worktree(name)
    project.git("checkout", "--quiet", "--detach", cwd=work)
    (work / "mine").write_text("of a person\n")
    project.git("add", "mine", cwd=work)
    project.git("commit", "--quiet", "--message", "Mine", cwd=work)
    shutil.rmtree(work)

    if merges:
        assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    else:
        clean_up_after_crash(project.workspace)
    assert kept(project, "mine") == ["of a person"]
