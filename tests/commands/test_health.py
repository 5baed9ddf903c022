"""scriptorium health: the gate runs on a clean checkout of master, once for each tree."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scriptorium.gate.results import RED_FOR
from tests.support import PLAN, Project, busy_pids, gates, is_alive, until

pytestmark = pytest.mark.slow

COUNT = 'echo gate >>"$$FACTS/gates"'


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.gate(f"{COUNT}; test ! -e broken")


def age(project: Project, seconds: float) -> None:
    """Make all results of the gate look older."""
    for file in project.paths.gates.iterdir():
        then = time.time() - seconds
        os.utime(file, (then, then))


def red_message(project: Project) -> str:
    log = max(project.paths.attempts.glob("health/gate-*.log"))
    return f"scriptorium: `make test` failed with exit code 2; see '{log}'\n"


def test_green_is_asked_once_for_a_tree_and_kept_for_good(project: Project, facts: Path) -> None:
    commit = project.git("rev-parse", "master")

    assert project.run("health") == (0, f"green {commit}\n", "")
    age(project, 10 * RED_FOR)
    assert project.run("health") == (0, f"green {commit}\n", "")

    assert gates(facts) == 1
    again = project.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "The same tree")
    project.git("merge", "--quiet", again)
    assert project.run("health") == (0, f"green {again}\n", "")
    assert gates(facts) == 1
    assert project.git("worktree", "list").count("\n") == 0
    assert project.git("status", "--porcelain") == ""


def test_red_exits_3_and_is_asked_again_after_a_while(project: Project, facts: Path) -> None:
    commit = project.commit({"broken": "1\n"})

    result = project.run("health")
    assert result == (3, f"red {commit}\n", red_message(project))
    assert project.run("health")[:2] == (3, f"red {commit}\n")
    assert gates(facts) == 1

    age(project, RED_FOR + 1)
    assert project.run("health")[:2] == (3, f"red {commit}\n")
    assert gates(facts) == 2

    age(project, -RED_FOR)  # a clock that was set back
    assert project.run("health")[:2] == (3, f"red {commit}\n")
    assert gates(facts) == 3


def test_the_users_own_files_do_not_count(project: Project) -> None:
    project.gate("test -e needed && test ! -e broken")
    (project.root / "needed").write_text("untracked\n")
    commit = project.git("rev-parse", "master")
    assert project.run("health")[:2] == (3, f"red {commit}\n")

    commit = project.commit({"needed": "1\n"})
    (project.root / "broken").write_text("edited\n")
    assert project.run("health") == (0, f"green {commit}\n", "")
    assert (project.root / "broken").read_text() == "edited\n"


def test_another_gate_is_another_question(project: Project, facts: Path) -> None:
    assert project.run("health").code == 0
    project.configure(gate="echo no; exit 9")

    result = project.run("health")

    assert result.code == 3
    assert result.err.startswith("scriptorium: `echo no; exit 9` failed with exit code 9; see '")
    project.configure(gate="make test")
    assert project.run("health").code == 0
    assert gates(facts) == 1


def test_red_master_lets_nothing_land_until_it_is_green_again(project: Project, facts: Path) -> None:
    name = project.queued()
    commit = project.commit({"broken": "1\n"})
    plan = project.git("rev-parse", PLAN)
    for _ in range(2):
        refused = project.run("merge")
        assert (refused.code, refused.out) == (3, "")
        first, hint = refused.err.splitlines()
        assert first == f"scriptorium: master is red at '{commit[:12]}', so nothing lands"
        assert hint.startswith("hint: repair it on master, or by a ticket marked 'repair: true'; `make test` fail")
        assert Path(hint.partition("see '")[2].rstrip("'")).exists()

    assert gates(facts) == 1
    assert project.git("rev-parse", "master", PLAN).splitlines() == [commit, plan]
    assert project.worktree(name).is_dir()

    project.git("rm", "--quiet", "broken")
    project.git("commit", "--quiet", "-m", "Repair")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_a_repair_passes_the_others_and_turns_master_green(project: Project) -> None:
    first = project.queued("0001", "echo x >file")
    project.commit({"broken": "1\n"})
    repair = "0002-repair"
    project.commit_plan({f"tickets/in-progress/{repair}.md": "---\narea: core\nrepair: true\n---\n# Repair\n"})
    project.agent("git rm -q broken; scriptorium submit-pr repaired")
    assert project.run("code", repair).code == 0

    assert project.run("merge")[:2] == (0, f"{repair}\tlanded\n")

    assert project.run("health")[:2] == (0, f"green {project.git('rev-parse', 'master')}\n")
    assert project.run("merge")[:2] == (0, f"{first}\tlanded\n")


def test_a_repair_that_does_not_repair_is_reopened(project: Project) -> None:
    commit = project.commit({"broken": "1\n"})
    repair = "0001-repair"
    project.commit_plan({f"tickets/in-progress/{repair}.md": "---\narea: core\nrepair: true\n---\n# Repair\n"})
    project.agent("echo x >file; scriptorium submit-pr repaired")
    assert project.run("code", repair).code == 0

    assert project.run("merge")[:2] == (0, f"{repair}\treopened\n")
    assert project.git("rev-parse", "master") == commit


def test_a_red_answer_that_was_a_fluke_does_not_close_the_gate_for_good(project: Project, facts: Path) -> None:
    project.gate('test -e "$$FACTS/calm"')
    name = project.queued()
    assert project.run("merge").code == 3
    (facts / "calm").touch()
    assert project.run("merge").code == 3

    age(project, RED_FOR + 1)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_two_at_once_run_the_gate_once(project: Project, facts: Path) -> None:
    project.gate(COUNT + '; until test -e "$$FACTS/go"; do sleep 0.05; done')
    first = project.start("health")
    until((facts / "gates").exists)
    second = project.start("health")
    (facts / "go").touch()

    assert first.communicate() == second.communicate() == (f"green {project.git('rev-parse', 'master')}\n", "")
    assert gates(facts) == 1


def test_killed_during_the_gate_it_leaves_nothing_that_stands_in_the_way(project: Project, facts: Path) -> None:
    until_gone = 'test ! -e "$$FACTS/go" || exit 0; touch leftover; setsid sleep 600 & echo $$$$ $$! >"$$FACTS/new"'
    project.gate(f'{until_gone}; mv "$$FACTS/new" "$$FACTS/pids"; wait')
    process = project.start("health")
    running = busy_pids(facts)

    process.kill()

    process.communicate()
    until(lambda: not any(is_alive(pid) for pid in running))
    (facts / "go").touch()
    assert project.run("health") == (0, f"green {project.git('rev-parse', 'master')}\n", "")
    assert project.git("worktree", "list").count("\n") == 0


def test_while_master_is_known_to_be_red_only_repairs_are_assigned(project: Project) -> None:
    project.ticket("0001")
    project.commit({"broken": "1\n"})
    assert project.run("health").code == 3

    refused = project.run("assign")
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith("scriptorium: master is red, so no ticket is assigned\nhint: ")

    text = "---\narea: core\nrepair: true\n---\n# Mend it\n"
    project.commit_plan({"tickets/open/0002-mend.md": text})
    assert project.run("assign").out.startswith("0002-mend\t")


def test_a_worktree_of_the_users_whose_disk_is_away_is_not_forgotten(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "-b", "theirs", str(tmp_path / "disk" / "theirs"))
    (tmp_path / "disk").rename(tmp_path / "away")
    project.commit({"file": "so that the gate is run\n"})

    assert project.run("health").code == 0

    (tmp_path / "away").rename(tmp_path / "disk")
    assert project.git("status", "--porcelain", "--branch", cwd=tmp_path / "disk" / "theirs") == "## theirs"
    assert [path.name for path in (project.root / ".git" / "worktrees").iterdir()] == ["theirs"]


@pytest.mark.parametrize("to", ["nowhere", "project"])
def test_a_link_in_place_of_the_checkout_is_renamed_and_not_followed(project: Project, to: str) -> None:
    path = project.paths.health_worktree
    project.paths.ensure(path.parent)
    path.symlink_to(project.root.parent / to)

    assert project.run("health").code == 0

    assert [link.is_symlink() for link in path.parent.glob("health*")] == [True]
    assert project.git("status", "--porcelain") == ""
