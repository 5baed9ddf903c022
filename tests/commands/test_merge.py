"""scriptorium merge: an item of the queue lands or is reopened, and only tested work reaches master."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from scriptorium.errors import ExitCode
from tests.commands.merge_cases import BRANCH, COUNT, note, state
from tests.support import BUSY, PLAN, Project, busy_pids, gates, is_alive, trailers, until, write_script

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.gate(COUNT)


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
        fcntl.flock(turn, fcntl.LOCK_EX)  # another writer holds the lock of the plan
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
    # a commit of the user arrives once while the gate runs; the worktree has both files in the end
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
    assert gates(facts) == 1  # the gate run for the health of master


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

    # the next attempt repairs it, in the same worktree
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


def test_a_ticket_broken_by_hand_is_passed_over_and_holds_up_nobody(project: Project) -> None:
    broken = project.queued("0001")
    sound = project.queued("0002")
    project.commit_plan({f"tickets/in-progress/{broken}.md": "---\narea: [\n---\n# Broken\n"})

    result = project.run("merge")

    assert (result.code, result.out) == (0, f"{sound}\tlanded\n")
    assert f"ticket '{broken}': its front matter is not YAML" in result.err
    assert f"tickets/in-progress/{broken}.md" in project.plan_files()


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
