"""scriptorium merge: an item of the queue comes to an end, and only tested work reaches master."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scriptorium.errors import ExitCode
from scriptorium.gate.command import GateResult, run_gate
from scriptorium.merge_queue import lane
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from scriptorium.project.workspace import Workspace
from tests.support import BUSY, PLAN, Project, busy_pids, gates, is_alive, trailers, until, write_script

COUNT = 'echo gate >>"$$FACTS/gates"'
BRANCH = "refs/heads/scriptorium/ticket-0001"


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.gate(COUNT)


def state(project: Project, name: str) -> str:
    """Return where a ticket is, with a plus when it is queued as well."""
    files = project.plan_files()
    (path,) = (path for path in files if path.startswith("tickets/") and path.endswith(f"/{name}.md"))
    queued = any(path.startswith("queue/") and f"/{name}.md" in text for path, text in files.items())
    return path.split("/")[1] + ("+" if queued else "")


def note(project: Project, name: str) -> str:
    """Return what was added to an open ticket."""
    return project.plan_files()[f"tickets/open/{name}.md"].partition("Do it.\n\n")[2]


# -- green --------------------------------------------------------------------------------------------


def test_green_lands_by_fast_forward_and_the_checkout_follows(project: Project, facts: Path) -> None:
    name = project.queued()
    tip = project.git("rev-parse", BRANCH)
    worktree = project.worktree(name)

    result = project.run("merge")

    assert result == (0, f"{name}\tlanded\n", f"scriptorium: merge queue: ticket '{name}' landed\n")
    assert project.git("rev-parse", "master") == tip
    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").read_text() == f"{name}\n"
    assert state(project, name) == "done"
    assert project.plan_log()[-1] == f"scriptorium: complete ticket {name}"
    assert trailers(project) == {
        "Ticket": name,
        "Move": "in-progress -> done",
        "Attempt": "1",
        "Landed": tip,
        "Agent": "script",
    }
    assert BRANCH not in project.refs()
    assert not worktree.exists()
    assert project.git("worktree", "list").count("\n") == 0
    assert project.run("merge") == (0, "", "")


def test_the_gate_runs_once_for_a_landing_and_health_knows_its_result(project: Project, facts: Path) -> None:
    assert project.run("health").code == 0
    project.queued("0001", 'echo 1 >"$SCRIPTORIUM_TICKET"')
    project.queued("0002", 'echo 2 >"$SCRIPTORIUM_TICKET"')
    assert gates(facts) == 1

    result = project.run("merge", "0002-thing")

    assert result[:2] == (0, "0001-thing\tlanded\n0002-thing\tlanded\n")
    assert gates(facts) == 3
    assert project.run("health")[:2] == (0, f"green {project.git('rev-parse', 'master')}\n")
    assert gates(facts) == 3
    assert project.git("log", "--format=%s", "-1") == "Merge branch 'master' into scriptorium/ticket-0002"


def test_settings_of_the_user_do_not_change_how_work_lands(project: Project) -> None:
    for key, value in {"merge.ff": "only", "merge.autoStash": "true", "commit.gpgSign": "true"}.items():
        project.git("config", "--global", key, value)
    name = project.queued()
    project.git("-c", "commit.gpgSign=false", "commit", "--quiet", "--allow-empty", "-m", "Move on")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_a_repository_that_an_agent_left_beside_its_submission_is_kept(
    project: Project,
) -> None:
    name = project.queued()
    (project.worktree(name) / "own").mkdir()
    for argv in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "One"]):
        project.git(*argv, cwd=project.worktree(name) / "own")

    result = project.run("merge")

    assert (result.code, result.out) == (0, f"{name}\tlanded\n")
    [aside] = project.worktree(name).parent.glob(f"{name}.found-*")
    assert f"'own' is a repository of its own: kept in '{aside}'" in result.err
    assert project.git("log", "--format=%s", cwd=aside / "own") == "One"
    assert aside.name in project.run("rescue", "list").out


def test_a_repository_that_an_agent_made_in_a_tracked_directory_is_kept(project: Project) -> None:
    project.commit({"src/lib/file": "1\n"})
    init = "git init -q; git commit -q --allow-empty -m One"
    name = project.queued(script=f"echo 1 >new; ln -s / link; cd src/lib; {init}")

    result = project.run("merge")

    assert (result.code, result.out) == (0, f"{name}\tlanded\n")
    [aside] = project.worktree(name).parent.glob(f"{name}.found-*")
    assert f"'src/lib/.git' is a repository of its own: kept in '{aside}'" in result.err
    assert project.git("log", "--format=%s", cwd=aside / "src" / "lib") == "One"


def test_unsubmitted_work_is_neither_tested_nor_landed_but_kept(project: Project) -> None:
    project.gate("test ! -e stray")
    name = project.queued()
    (project.worktree(name) / "stray").write_text("precious\n")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    held = f"the worktree of ticket '{name}' held changes that were not submitted: kept as '{rescue}'"
    assert f"scriptorium: {held}\n" in result.err
    assert project.git("show", f"{rescue}:stray") == "precious"
    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nfile"


@pytest.mark.parametrize("setting", ["all", "no"])
def test_what_appears_after_the_gate_does_not_go_with_the_worktree(project: Project, facts: Path, setting: str) -> None:
    project.git("config", "status.showUntrackedFiles", setting)
    project.gate('touch "$$FACTS/gated" "of the gate"')
    name = project.queued(script="echo 1 >new")
    assert project.run("health").code == 0
    (facts / "gated").unlink()
    before = project.git("rev-parse", "master")
    turn = os.open(project.root / ".git", os.O_RDONLY)
    with project.running("merge") as merging:
        until((facts / "gated").exists)
        fcntl.flock(turn, fcntl.LOCK_EX)  # another writer has its turn at the plan
        until(lambda: project.git("rev-parse", "master") != before)
        (project.worktree(name) / "mine").write_text("precious\n")
        os.close(turn)
        assert merging.end().out == f"{name}\tlanded\n"

    (rescue,) = project.refs("refs/scriptorium/rescue/")
    assert project.git("ls-tree", "--name-only", rescue).split() == ["Makefile", "mine", "new"]
    assert not project.worktree(name).exists()


def test_an_item_whose_agent_is_at_work_is_passed_over(project: Project, facts: Path) -> None:
    late = project.ticket("0001", state="in-progress")
    project.agent(
        'echo 1 >late; scriptorium submit-pr x; touch "$FACTS/in"; until test -e "$FACTS/go"; do sleep 0.05; done'
    )
    coding = project.start("code", late)
    until((facts / "in").exists)

    assert project.run("merge") == (0, "", "")
    name = project.queued("0002")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert state(project, late) == "in-progress+"

    (facts / "go").touch()
    assert coding.communicate()[0] == f"{late}\n"
    assert project.run("merge")[:2] == (0, f"{late}\tlanded\n")


# -- master moves -------------------------------------------------------------------------------------


def test_master_that_moves_during_the_gate_is_merged_and_tested_again(project: Project, facts: Path) -> None:
    assert project.run("health").code == 0
    name = project.queued()
    # the person's commit arrives while the ticket's gate runs, once; the worktree sees both files in the end
    write_script(facts / "person", 'cd "$1"; echo 1 >theirs; git add theirs; git commit -qm "Theirs"')
    project.configure(
        gate=f'{COUNT.replace("$$", "$")}; touch leftover; ls >"$FACTS/seen";'
        f' test -e "$FACTS/done" || {{ touch "$FACTS/done"; "$FACTS/person" {project.root}; }}'
    )
    (facts / "done").touch()
    assert project.run("health").code == 0
    (facts / "done").unlink()

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    assert (facts / "seen").read_text() == "Makefile\nfile\nleftover\ntheirs\n"
    assert project.git("log", "--format=%s", "--first-parent", "-2") == (
        "Merge branch 'master' into scriptorium/ticket-0001\n0001-thing"
    )
    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nfile\ntheirs"
    assert project.git("status", "--porcelain") == ""


def test_a_conflict_reopens_with_its_paths_and_cleans_the_worktree(project: Project, facts: Path) -> None:
    name = project.queued("0001", "echo agent >file; mkdir dir; echo agent >'dir/a ü'; echo fine >other")
    master = project.commit({"file": "person\n", "dir/a ü": "person\n"})
    tip = project.git("rev-parse", BRANCH)

    result = project.run("merge")

    assert result == (
        0,
        f"{name}\treopened\n",
        f"scriptorium: merge queue: ticket '{name}' reopened: Merging `master` conflicts in `dir/a ü`, `file`\n",
    )
    assert state(project, name) == "open"
    assert note(project, name) == ("## Attempt 1 failed: conflict\n\nMerging `master` conflicts in `dir/a ü`, `file`\n")
    assert trailers(project)["Cause"] == "conflict"
    assert project.git("rev-parse", "master") == master
    assert project.git("rev-parse", BRANCH) == tip
    assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""
    assert gates(facts) == 1  # of master's health


# -- red ----------------------------------------------------------------------------------------------


def test_red_gate_reopens_the_ticket_and_leaves_master_alone(
    project: Project, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_PASSWORD", "correct-horse")
    project.gate("seq 30; echo $$DEPLOY_PASSWORD; touch leftover; echo junk >>Makefile; test ! -e file")
    name = project.queued()
    master, tip = project.git("rev-parse", "master"), project.git("rev-parse", BRANCH)

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\treopened\n")
    assert state(project, name) == "open"
    written = note(project, name)
    assert written.startswith("## Attempt 1 failed: gate\n\n`make test` failed with exit code 2\n\n  ```\n  13\n  14\n")
    assert "\n  30\n  [removed]\n  make: *** [Makefile:2: test] Error 1\n  ```\n" in written
    assert "correct-horse" not in project.git("log", "-p", PLAN)
    assert project.git("rev-parse", "master", BRANCH) == f"{master}\n{tip}"
    assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""
    assert project.git("status", "--porcelain") == ""

    # the next attempt mends it, in the same worktree
    project.agent("git rm -q file; echo 2 >better; scriptorium submit-pr better")
    assert project.run("assign").out.startswith(name)
    assert project.run("code", name).code == 0
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nbetter"


def test_a_red_gate_at_the_last_attempt_parks_the_ticket(project: Project) -> None:
    project.gate("test ! -e file")
    project.configure(max_attempts=1)
    name = project.queued()

    assert project.run("merge")[:2] == (0, f"{name}\treopened\n")
    assert state(project, name) == "stuck"


def test_a_gate_that_hangs_is_ended_with_its_children_at_its_limit(project: Project, facts: Path) -> None:
    write_script(facts / "hang", f"test -e file || exit 0\n{BUSY}")
    project.gate('"$$FACTS/hang"')
    assert project.run("health").code == 0
    project.configure(timeouts={"gate": 2.5})
    name = project.queued()

    assert project.run("merge")[:2] == (0, f"{name}\treopened\n")

    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []
    assert note(project, name).startswith(
        "## Attempt 1 failed: gate\n\n`make test` was terminated at its limit of 2.5 seconds\n"
    )


# -- signals and crashes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_merge_interrupted_during_the_gate_is_repeated_and_lands_once(
    project: Project, facts: Path, signum: signal.Signals, code: int
) -> None:
    write_script(facts / "hang", f'test -e file || exit 0; touch leftover\ntest -e "$FACTS/pids" && exit 0\n{BUSY}')
    project.gate('"$$FACTS/hang"')
    assert project.run("health").code == 0
    name = project.queued()
    before = project.git("rev-parse", PLAN)
    process = project.start("merge")
    running = busy_pids(facts)

    process.send_signal(signum)

    assert process.communicate()[0] == ""
    assert process.returncode == code
    assert project.git("rev-parse", PLAN) == before
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert [pid for pid in running if is_alive(pid)] == []
    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nfile"
    assert project.plan_log()[-2:] == [f"scriptorium: enqueue ticket {name}", f"scriptorium: complete ticket {name}"]


def test_a_signal_as_the_gate_ends_keeps_the_next_item_from_starting(project: Project, facts: Path) -> None:
    assert project.run("health").code == 0
    first, second = (project.queued(id, f"echo {id} >{id}") for id in ("0001", "0002"))
    project.configure(
        gate='test -e 0001 || exit 0; until test -s "$FACTS/pid"; do sleep 0.01; done; kill -TERM $(cat "$FACTS/pid")'
    )
    assert project.run("health").code == 0
    process = project.start("merge", second)
    (facts / "pid").write_text(f"{process.pid}\n")

    process.communicate()

    assert process.returncode == 143
    assert state(project, first) in ("done", "in-progress+")  # the gate may be over before the signal is looked at
    assert state(project, second) == "in-progress+"


def test_a_crash_between_master_and_plan_is_finished_without_a_second_gate(project: Project, facts: Path) -> None:
    name = project.queued()
    # what a merge leaves that is killed right after master's fast-forward
    assert project.run("health").code == 0
    worktree = project.worktree(name)
    project.git("merge", "--quiet", "--ff-only", "scriptorium/ticket-0001")
    landed = project.git("rev-parse", "master")
    assert project.run("health").code == 0
    assert gates(facts) == 2

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert gates(facts) == 2
    assert state(project, name) == "done"
    assert trailers(project)["Landed"] == landed == project.git("rev-parse", "master")
    assert BRANCH not in project.refs()
    assert not worktree.exists()


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


def submits_and_is_killed(project: Project, facts: Path, before: str, after: str) -> str:
    """Kill the run of an agent that has handed in and goes on; return the ticket's name."""
    name = project.ticket("0001", state="in-progress")
    project.agent(f'{before}; scriptorium submit-pr x; {after}; touch "$FACTS/ready"; exec sleep 60')
    coding = project.start("code", name)
    until((facts / "ready").exists)
    coding.kill()
    coding.wait()
    return name


def test_commits_after_the_submit_of_a_killed_run_do_not_land(project: Project, facts: Path) -> None:
    name = submits_and_is_killed(project, facts, "echo 1 >file", "echo 2 >late; git add late; git commit -qm Late")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    why = f"'scriptorium/ticket-0001' has moved since ticket '{name}' was submitted"
    assert f"scriptorium: {why}: kept as '{rescue}'\n" in result.err
    assert project.git("show", f"{rescue}:late") == "2"
    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nfile"


AS_WE_DO = (
    "git checkout -q -b other master; echo 2 >late; git add late; git commit -qm Late; "
    "git checkout -q scriptorium/ticket-0001; "
    "export GIT_COMMITTER_NAME=scriptorium GIT_COMMITTER_EMAIL=scriptorium@localhost; "
    "git merge -q --no-ff -m \"Merge branch 'master' into scriptorium/ticket-0001\" other"
)


def test_a_merge_that_imitates_the_merge_of_the_queue_does_not_land(project: Project, facts: Path) -> None:
    name = submits_and_is_killed(project, facts, "echo 1 >file", AS_WE_DO)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("ls-tree", "--name-only", "master") == "Makefile\nfile"


def test_what_was_submitted_lands_though_the_branch_was_moved_back_since(project: Project, facts: Path) -> None:
    commits = "echo 1 >a; git add a; git commit -qm A; echo 2 >b; git add b; git commit -qm B"
    name = submits_and_is_killed(project, facts, commits, "git reset -q --hard HEAD~1")

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
    """The hand-in is on the second parent then, where a person pushes to the plan from a clone."""
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
    """Commit on a ticket's branch after it was handed in."""
    (project.worktree(name) / "late").write_text("late\n")
    project.git("add", "late", cwd=project.worktree(name))
    project.git("commit", "--quiet", "--message", "Late", cwd=project.worktree(name))


def test_a_blocked_landing_keeps_its_merge_of_master_for_the_next_try(project: Project) -> None:
    name = project.queued()
    project.git("commit", "--quiet", "--allow-empty", "-m", "Move on")
    (project.root / "file").write_text("in the way\n")
    assert project.run("merge").code == 1
    tip = project.git("rev-parse", BRANCH)
    assert project.git("log", "-1", "--format=%P", tip).count(" ") == 1

    (project.root / "file").unlink()
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("rev-parse", "master") == tip
    assert project.refs("refs/scriptorium/") == {}


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


def test_two_merges_at_once_land_every_item_once(project: Project, facts: Path) -> None:
    assert project.run("health").code == 0
    name = project.queued()
    project.configure(gate='test -e file || exit 0; touch "$FACTS/in"; until test -e "$FACTS/go"; do sleep 0.05; done')
    assert project.run("health").code == 0
    first = project.start("merge")
    until((facts / "in").exists)

    assert project.run("merge") == (
        75,
        "",
        "scriptorium: another process is at work on 'merge'\nhint: wait for it, or look with 'scriptorium status'\n",
    )

    (facts / "go").touch()
    assert first.communicate()[0] == f"{name}\tlanded\n"
    assert project.plan_log().count(f"scriptorium: complete ticket {name}") == 1


def test_a_ticket_broken_by_hand_is_passed_over_and_holds_up_nobody(project: Project) -> None:
    broken = project.queued("0001")
    sound = project.queued("0002")
    project.commit_plan({f"tickets/in-progress/{broken}.md": "---\narea: [\n---\n# Broken\n"})

    result = project.run("merge")

    assert (result.code, result.out) == (0, f"{sound}\tlanded\n")
    assert f"ticket '{broken}': its front matter is not YAML" in result.err
    assert f"tickets/in-progress/{broken}.md" in project.plan_files()


def test_a_merge_that_cannot_be_undone_is_no_conflict_and_loses_nothing(project: Project) -> None:
    project.commit({"file": "before\n", ".gitattributes": "file filter=mine\n"})
    name = project.queued("0001", "echo agent >file")
    project.commit({"file": "person\n", "theirs": "text\n"})
    filter = write_script(project.root.parent / "filter", 'read -r line; [ "$line" != agent ] && echo "$line"')
    project.git("config", "filter.mine.clean", "cat")
    project.git("config", "filter.mine.smudge", str(filter))
    project.git("config", "filter.mine.required", "true")

    failed = project.run("merge")

    assert failed[:2] == (1, "")
    assert "'git merge' failed: error: external filter" in failed.err
    assert state(project, name) == "in-progress+"
    project.git("config", "filter.mine.smudge", "cat")
    assert project.run("merge")[:2] == (0, f"{name}\treopened\n")
    assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""


def test_a_lock_file_that_a_killed_git_left_in_the_worktree_is_no_conflict(project: Project) -> None:
    name = project.queued("0001")
    (project.root / ".git" / "worktrees" / name / "index.lock").touch()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_a_gate_that_checks_out_another_branch_does_not_move_it(project: Project) -> None:
    project.git("checkout", "--quiet", "-b", "mine")
    master = project.git("rev-parse", "master")
    name = project.queued()
    project.configure(gate="[ ! -f file ] || { git checkout --quiet master; exit 1; }")

    assert project.run("merge")[:2] == (0, f"{name}\treopened\n")

    assert project.git("rev-parse", "master") == master
    assert project.git("show", "scriptorium/ticket-0001:file") == name


def test_commits_made_while_a_red_gate_ran_are_kept(project: Project) -> None:
    name = project.queued()
    project.configure(gate="[ ! -f file ] || { git commit --quiet --allow-empty -m precious; exit 1; }")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\treopened\n")
    assert "'scriptorium/ticket-0001' got commits while the gate ran: kept as" in result.err
    (kept,) = project.refs("refs/scriptorium/rescue/").values()
    assert project.git("log", "-1", "--format=%s", kept) == "precious"


@pytest.mark.parametrize("more", ["", "echo more >untracked"])
def test_commits_on_no_branch_made_while_a_green_gate_ran_are_kept(project: Project, more: str) -> None:
    name = project.queued()
    commit = "git checkout --quiet --detach; git commit --quiet --allow-empty -m precious"
    project.configure(gate=f"[ ! -f file ] || {{ {commit}; {more or ':'}; }}")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    assert f"the worktree of ticket '{name}' had left its branch: kept as" in result.err
    (kept,) = project.refs("refs/scriptorium/rescue/").values()
    assert "precious" in project.git("log", "--format=%s", kept).splitlines()
    assert ("untracked" in project.git("ls-tree", "--name-only", kept)) == bool(more)
    assert not project.worktree(name).exists()


def test_an_item_without_a_worktree_holds_up_no_other(project: Project) -> None:
    first, second = project.queued("0001"), project.queued("0002", "echo y >other")
    project.git("worktree", "remove", "--force", str(project.worktree(first)))
    tip = project.git("rev-parse", "scriptorium/ticket-0001")
    project.git("branch", "-D", "scriptorium/ticket-0001")
    project.git("branch", "scriptorium/ticket-0001/in-the-way", tip)
    assert project.run("merge")[:2] == (0, f"{second}\tlanded\n")
    result = project.run("merge")
    assert (result.code, result.out) == (ExitCode.FAILED, "")
    assert result.err.startswith(f"scriptorium: ticket '{first}': cannot create its worktree: ")
    project.git("branch", "-D", "scriptorium/ticket-0001/in-the-way")
    project.git("branch", "scriptorium/ticket-0001", tip)
    assert project.run("merge")[:2] == (0, f"{first}\tlanded\n")


def test_a_merge_that_cannot_write_is_not_the_ticket_s_failure(project: Project) -> None:
    lines = [f"{number} {'x' * 90}\n" for number in range(2000)]
    project.commit({"big": "".join(lines)})
    name = project.queued(script="sed -i '$s/x/y/' big")
    project.commit({"big": "".join(["first\n", *lines])})
    project.run("health")
    log = project.plan_log()

    limited = f"ulimit -f 100; exec {sys.executable} -m scriptorium merge"  # blocks of 512 bytes, half the file
    done = subprocess.run(["/bin/sh", "-c", limited], cwd=project.root, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("scriptorium: 'git merge' failed: "), done.stderr
    assert project.plan_log() == log
    result = project.run("merge")
    assert (result.code, result.out) == (0, f"{name}\tlanded\n"), result.err
