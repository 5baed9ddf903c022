"""The steps that hooks start, and the costs of a commit that starts none."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.hooks_cases import DEADLINE, NAMES, World, build, until

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build(tmp_path, "project")


# -- the steps that hooks start ---------------------------------------------------------------------


def test_a_commit_on_master_starts_health_and_returns_at_once(world: World) -> None:
    world.install()
    gate = world.records / "gate"
    os.mkfifo(gate)
    world.write("a", "a")
    # git's output reaches its end, so the step that waits at the gate does not hold it open
    done = world.run("git", "commit", "--quiet", "--message", "change a")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (world.records / "ended").exists()
    with gate.open("w") as file:  # opens once the step reads it
        pid = int((world.records / "pid").read_text())
        assert (os.getsid(pid) == pid) == bool(shutil.which("setsid"))
        file.write("go on\n")
    until(lambda: (world.records / "ended").exists())
    assert world.steps() == ["health"]


def test_the_step_keeps_no_descriptor_of_the_callers(world: World) -> None:
    world.install()
    os.mkfifo(world.records / "gate")
    world.write("a", "a")
    read, write = os.pipe()
    as_nine = f"import os; os.dup2({write}, 9); os.close({write}); os.execvp('git', ['git', 'commit', '-qm', 'a'])"
    subprocess.run(
        [sys.executable, "-c", as_nine], cwd=world.repository, env=world.env, pass_fds=(write,),
        stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    os.close(write)
    assert select.select([read], [], [], DEADLINE)[0], "the step holds the caller's descriptor"
    assert os.read(read, 1) == b""
    os.close(read)
    (world.records / "gate").write_text("go on\n")
    until(lambda: (world.records / "ended").exists())


def test_the_step_tells_all_to_the_log(world: World) -> None:
    world.install()
    world.commit("a")
    first, *rest = world.log().splitlines()
    assert first.endswith("Z] [INFO] post-commit starts 'scriptorium health'")
    assert rest == ["told on stdout", "told on stderr"]


def test_nothing_of_the_commits_environment_reaches_the_step(world: World) -> None:
    world.install()
    world.git("worktree", "add", "--quiet", "-b", "side", str(world.home / "side"))
    world.git("checkout", "--quiet", "--detach")
    side = world.home / "side"
    world.git("checkout", "--quiet", "master", cwd=side)
    mine = {"GIT_AUTHOR_DATE": "2001-02-03T04:05:06Z", "GIT_COMMITTER_NAME": "Me", "GIT_EDITOR": "true"}
    world.write("a", "a", cwd=side)
    assert world.settled("-c", "a.b=c", "commit", "--quiet", "-m", "a", cwd=side, env=mine) == ["health"]
    seen = dict(line.split("=", 1) for line in (world.records / "env").read_text().splitlines() if "=" in line)
    leaked = {name for name in seen if name.startswith("GIT_")} - {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"}
    assert leaked == set()
    assert seen["SCRIPTORIUM_HOOK"] == "1"
    assert seen["PWD"] == str(world.repository)


def test_amending_merging_and_reverting_on_master_start_health_once_each(world: World) -> None:
    world.git("checkout", "--quiet", "-b", "feature")
    world.write("f", "f")
    world.git("commit", "--quiet", "-m", "f")
    world.git("checkout", "--quiet", "master")
    world.install()
    assert world.settled("merge", "--quiet", "--ff-only", "feature") == ["health"]
    assert world.settled("commit", "--quiet", "--amend", "-m", "other words") == ["health"]
    assert world.settled("revert", "--no-edit", "HEAD") == ["health"]
    world.git("checkout", "--quiet", "feature")
    assert world.commit("g") == []
    world.git("checkout", "--quiet", "master")
    assert world.settled("merge", "--quiet", "--no-edit", "feature") == ["health"]
    assert world.git("rev-list", "--count", "--merges", "HEAD") == "1"


def test_squashing_into_master_starts_nothing_before_the_commit(world: World) -> None:
    world.git("checkout", "--quiet", "-b", "feature")
    world.write("f", "f")
    world.git("commit", "--quiet", "-m", "f")
    world.git("checkout", "--quiet", "master")
    world.install()
    assert world.settled("merge", "--quiet", "--squash", "feature") == []
    assert world.settled("commit", "--quiet", "-m", "squashed") == ["health"]


def test_rebasing_and_detached_commits_start_nothing(world: World) -> None:
    world.install()
    world.git("checkout", "--quiet", "-b", "feature", "HEAD")
    assert world.commit("f") == []
    world.git("checkout", "--quiet", "master")
    assert world.commit("m") == ["health"]
    assert world.settled("rebase", "--quiet", "feature") == []
    world.git("checkout", "--quiet", "--detach")
    assert world.commit("d") == []


def test_a_changed_spec_on_the_plan_branch_starts_the_architect(world: World) -> None:
    world.install()
    plan = world.plan_worktree()
    assert world.commit("spec.md", "# Spec\n", cwd=plan) == ["architect"]
    assert world.commit("notes.md", cwd=plan) == []
    assert world.commit("spec.md", "# Spec\nmore\n", cwd=plan) == ["architect"]
    world.git("rm", "--quiet", "spec.md", cwd=plan)
    assert world.settled("commit", "--quiet", "-m", "gone", cwd=plan) == ["architect"]


def test_a_step_starts_though_the_worktree_is_removed_at_once(world: World) -> None:
    world.install()
    plan = world.plan_worktree()
    world.write("spec.md", "# Spec\n", cwd=plan)
    world.program.write_text('#!/bin/sh\nread -r _ <"$RECORDS/gate"; pwd >"$RECORDS/place"\n')
    os.mkfifo(world.records / "gate")
    world.git("commit", "--quiet", "--message", "Ask for it", cwd=plan)
    world.git("worktree", "remove", str(plan))
    (world.records / "gate").write_text("go on\n")
    until(lambda: (world.records / "place").exists() and bool((world.records / "place").read_text()))
    assert (world.records / "place").read_text() == f"{world.repository}\n"


def test_a_step_stays_in_a_worktree_of_a_bare_repository(world: World) -> None:
    world.install()
    world.git("config", "core.bare", "true")
    plan = world.plan_worktree()
    world.write("spec.md", "# Spec\n", cwd=plan)
    assert world.settled("commit", "--quiet", "-m", "Ask for it", cwd=plan) == ["architect"]
    assert f"PWD={plan}\n" in (world.records / "env").read_text()


def test_the_first_commit_of_the_plan_branch_starts_the_architect(world: World) -> None:
    world.git("branch", "--quiet", "-D", "scriptorium/plan")
    world.install()
    world.git("checkout", "--quiet", "--orphan", "scriptorium/plan")
    assert world.commit("spec.md", "# Spec\n") == ["architect"]


def test_a_merge_with_a_changed_spec_starts_the_architect(world: World) -> None:
    world.install()
    plan = world.plan_worktree()
    world.commit("spec.md", "# Spec\n", cwd=plan)
    for path, expected in (("spec.md", ["architect"]), ("notes.md", [])):
        world.git("checkout", "--quiet", "-B", "draft", cwd=plan)
        world.commit(path, "two commits: one\n", cwd=plan)
        world.commit("another.md", f"beside {path}\n", cwd=plan)
        world.git("checkout", "--quiet", "scriptorium/plan", cwd=plan)
        assert world.settled("merge", "--quiet", "--ff-only", "draft", cwd=plan) == expected


@pytest.mark.parametrize("name", ["SCRIPTORIUM_ROLE", "SCRIPTORIUM_HOOK"])
def test_agents_and_steps_start_nothing(world: World, name: str) -> None:
    world.install()
    assert world.commit("a", env={name: ""}) == []
    assert world.commit("b") == ["health"]


def test_the_default_branch_plays_master_where_there_is_none(tmp_path: Path) -> None:
    world = build(tmp_path, "project", branch="trunk")
    world.install()
    assert world.commit("a") == ["health"]


def test_a_path_and_a_branch_with_all_that_needs_quoting(tmp_path: Path) -> None:
    home = tmp_path / 'ho\'me "$HOME" `x` ü'
    world = build(home, "it's a $(touch never) 'project' \\ ü", branch="ma'in$x")
    (world.repository / "scriptorium.json").write_text(json.dumps({"branch": "ma'in$x"}))
    world.env["SCRIPTORIUM_ROOT"] = str(home / "state")
    world.install()
    assert world.commit("a") == ["health"]
    assert world.log().endswith("told on stdout\ntold on stderr\n")
    assert world.settled("commit", "--quiet", "--amend", "-m", "again") == ["health"]
    assert not list(tmp_path.rglob("never"))


# -- costs ------------------------------------------------------------------------------------------


def trap(world: World) -> dict[str, str]:
    """Return an environment in which every program that the hook could call records its run."""
    directory = world.home / "trap"
    directory.mkdir()
    for name in (
        "git",
        "mkdir",
        "find",
        "id",
        "date",
        "setsid",
        "nohup",
        "scriptorium",
        "env",
        "cat",
        "sed",
        "readlink",
    ):
        program = directory / name
        program.write_text(f'#!/bin/sh\necho {name} >>"$RECORDS/caught"\n')
        program.chmod(0o755)
    return {"PATH": str(directory)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("head", ["scriptorium/ticket-0001", "feature/master", "masterly", "--detach"])
def test_a_commit_elsewhere_starts_no_process_at_all(world: World, name: str, head: str) -> None:
    world.install()
    world.git("checkout", "--quiet", *(["-b"] if head != "--detach" else []), head)
    done = world.run("/bin/sh", str(world.hook(name)), env=trap(world))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (world.records / "caught").exists()


def test_an_agents_commit_on_master_starts_no_process_at_all(world: World) -> None:
    world.install()
    done = world.run("/bin/sh", str(world.hook("post-commit")), env={**trap(world), "SCRIPTORIUM_ROLE": "coding"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (world.records / "caught").exists()


def test_the_trap_of_the_tests_above_does_catch(world: World) -> None:
    world.install()
    world.run("/bin/sh", str(world.hook("post-commit")), env=trap(world))
    assert "git" in (world.records / "caught").read_text().split()
