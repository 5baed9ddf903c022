"""scriptorium merge: signals, crashes and failures of the system cost neither work nor an attempt."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.merge_cases import BRANCH, COUNT, state
from tests.support import BUSY, PLAN, Project, busy_pids, gates, is_alive, trailers, until, write_script

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.gate(COUNT)


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
    assert state(project, first) in ("done", "in-progress+")  # the gate may end before the signal is handled
    assert state(project, second) == "in-progress+"


def test_a_crash_between_master_and_plan_is_finished_without_a_second_gate(project: Project, facts: Path) -> None:
    name = project.queued()
    # the state of a merge that was killed right after the fast-forward of master
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
