"""scriptorium merge: exactly the submitted commit lands, whatever happened to its ticket and branch since."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.gate.command import GateResult, run_gate
from scriptorium.merge_queue import lane
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from scriptorium.project.workspace import Workspace
from tests.commands.merge_cases import BRANCH, COUNT, note, state
from tests.support import PLAN, Project, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.gate(COUNT)


@pytest.mark.parametrize("where", ["open", "done", "stuck", ""])
def test_a_queue_item_of_a_ticket_that_is_not_in_progress_is_dropped(project: Project, where: str) -> None:
    name = project.queued()
    moved: dict[str, str | None] = {f"tickets/in-progress/{name}.md": None}
    if where:
        moved[f"tickets/{where}/{name}.md"] = project.plan_files()[f"tickets/in-progress/{name}.md"]
    project.commit_plan(moved)
    master = project.git("rev-parse", "master")

    result = project.run("merge")

    assert result == (
        0,
        "",
        f"scriptorium: dropped the queue item of ticket '{name}', which is not in progress\n",
    )
    assert not [path for path in project.plan_files() if path.startswith("queue/merge/pending/0")]
    assert project.git("rev-parse", "master", BRANCH).splitlines()[0] == master


@pytest.mark.parametrize("where", ["open", "stuck", "", "in-progress"])
@pytest.mark.parametrize("checked_out", [True, False])
def test_a_ticket_that_the_user_withdraws_during_its_gate_does_not_land(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str, checked_out: bool
) -> None:
    name = project.queued()
    master = project.git("rev-parse", "master")
    if not checked_out:
        project.git("checkout", "--quiet", "-b", "mine")
    plain = run_gate
    files = project.plan_files()
    taken: dict[str, str | None] = {path: None for path in files if name in path}
    if where:
        taken[f"tickets/{where}/{name}.md"] = files[f"tickets/in-progress/{name}.md"]

    def run(workspace: Workspace, directory: Path, subject: str) -> GateResult:
        if subject == name:
            project.commit_plan(taken)
        return plain(workspace, directory, subject)

    monkeypatch.setattr(lane, "run_gate", run)

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.DROPPED)

    assert f"ticket '{name}' does not land: it left the queue while it was tested" in caplog.text
    assert project.git("rev-parse", "master") == master
    assert [path for path in project.plan_files() if name in path] == [path for path, text in taken.items() if text]
    assert BRANCH in project.refs()


def killed_after_submit(project: Project, facts: Path, before: str, after: str) -> str:
    """Kill the run of an agent that has submitted and continues; return the name of the ticket."""
    name = project.ticket("0001", state="in-progress")
    project.agent(f'{before}; scriptorium submit-pr x; {after}; touch "$FACTS/ready"; exec sleep 60')
    coding = project.start("code", name)
    until((facts / "ready").exists)
    coding.kill()
    coding.wait()
    return name


def test_commits_after_the_submit_of_a_killed_run_do_not_land(project: Project, facts: Path) -> None:
    name = killed_after_submit(project, facts, "echo 1 >file", "echo 2 >late; git add late; git commit -qm Late")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    why = f"'scriptorium/ticket-0001' has moved since ticket '{name}' was submitted"
    assert f"scriptorium: {why}: kept as '{rescue}'\n" in result.err
    assert project.git("show", f"{rescue}:late") == "2"
    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nfile"


IMITATED_MERGE = (
    "git checkout -q -b other master; echo 2 >late; git add late; git commit -qm Late; "
    "git checkout -q scriptorium/ticket-0001; "
    "export GIT_COMMITTER_NAME=scriptorium GIT_COMMITTER_EMAIL=scriptorium@localhost; "
    "git merge -q --no-ff -m \"Merge branch 'master' into scriptorium/ticket-0001\" other"
)


def test_a_merge_that_imitates_the_merge_of_the_queue_does_not_land(project: Project, facts: Path) -> None:
    name = killed_after_submit(project, facts, "echo 1 >file", IMITATED_MERGE)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nfile"


def test_what_was_submitted_lands_though_the_branch_was_moved_back_since(project: Project, facts: Path) -> None:
    commits = "echo 1 >a; git add a; git commit -qm A; echo 2 >b; git add b; git commit -qm B"
    name = killed_after_submit(project, facts, commits, "git reset -q --hard HEAD~1")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("ls-tree", "--name-only", "master") == "Makefile\na\nb"


def test_a_branch_that_was_reset_to_master_gets_back_what_was_submitted(project: Project) -> None:
    name = project.queued()
    project.git("reset", "--quiet", "--hard", "master", cwd=project.worktree(name))

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("show", "master:file") == name


def test_commits_added_by_the_user_to_a_queued_ticket_are_only_kept(project: Project) -> None:
    name = project.queued()
    (project.worktree(name) / "mine").write_text("mine\n")
    project.git("add", "mine", cwd=project.worktree(name))
    project.git("commit", "-qm", "Mine", cwd=project.worktree(name))

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    (rescue,) = project.refs("refs/scriptorium/rescue/")
    assert project.git("show", f"{rescue}:mine") == "mine"
    assert "mine" not in project.git("ls-tree", "--name-only", "master").split()


def test_a_ticket_queued_again_by_hand_lands_as_the_user_left_it(project: Project) -> None:
    name = project.queued()
    (item,) = (path for path in project.plan_files() if path.startswith("queue/merge/pending/0"))
    project.commit({"file": "person\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    project.git("merge", "-q", "-X", "ours", "-m", "Resolved", "master", cwd=project.worktree(name))
    text = project.plan_files()[f"tickets/open/{name}.md"]
    queued = {f"tickets/in-progress/{name}.md": text, item: f"**Ticket:** {name}\n"}
    project.commit_plan({f"tickets/open/{name}.md": None, **queued})

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("log", "-1", "--format=%s") == "Resolved"


def test_a_ticket_queued_by_hand_without_a_branch_is_not_done(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.commit_plan({f"queue/merge/pending/0001-{name}.md": f"**Ticket:** {name}\n"})

    assert project.run("merge")[:2] == (0, f"{name}\treopened\n")

    assert note(project, name) == "## Attempt 1 failed: lost\n\nThere is no branch `scriptorium/ticket-0001`\n"


@pytest.mark.parametrize("name", ["0001-a  b", "0001-a\u3000b"])
def test_the_submitted_commit_lands_whatever_the_ticket_is_called(project: Project, name: str) -> None:
    project.queued(name)
    adds_more(project, name)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert "late" not in project.git("ls-tree", "--name-only", "master").split()


def test_the_submitted_commit_lands_though_the_plan_was_merged_since(project: Project, tmp_path: Path) -> None:
    """A push to the plan from a clone puts the submission on the second parent."""
    clone = tmp_path / "clone"
    project.git("clone", "--quiet", "--branch", PLAN, ".", str(clone))
    (clone / "areas" / "mine.md").write_text("# Mine\n")
    project.git("add", ".", cwd=clone)
    project.git("commit", "--quiet", "--message", "Mine", cwd=clone)
    name = project.queued()
    project.git("pull", "--quiet", "--no-rebase", "--no-edit", "origin", PLAN, cwd=clone)
    project.git("push", "--quiet", "origin", f"HEAD:{PLAN}", cwd=clone)
    adds_more(project, name)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert "late" not in project.git("ls-tree", "--name-only", "master").split()


def adds_more(project: Project, name: str) -> None:
    """Commit on the branch of a ticket after it was submitted."""
    (project.worktree(name) / "late").write_text("late\n")
    project.git("add", "late", cwd=project.worktree(name))
    project.git("commit", "--quiet", "--message", "Late", cwd=project.worktree(name))


def test_a_submitted_commit_that_is_nowhere_any_more_is_not_taken_for_done(project: Project) -> None:
    name = project.queued()
    submitted = project.git("rev-parse", BRANCH)
    project.git("reset", "--quiet", "--hard", "master", cwd=project.worktree(name))
    (project.root / ".git" / "objects" / submitted[:2] / submitted[2:]).unlink()

    assert project.run("merge")[:2] == (0, f"{name}\treopened\n")

    assert state(project, name) == "open"
    assert note(project, name) == (
        "## Attempt 1 failed: lost\n\n`scriptorium/ticket-0001` no longer holds what was submitted\n\n"
        f"  ```\n  {submitted}\n  ```\n"
    )
