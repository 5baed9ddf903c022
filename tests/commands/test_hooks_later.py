"""Installed hooks beside earlier hooks, after changes of the system, and inside other hooks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.hooks_cases import EARLIER, FRONT_DOOR, HOOKS, NAMES, World, build, stand_in, until

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build(tmp_path, "project")


# -- an earlier hook --------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["master", "feature"])
@pytest.mark.parametrize("role", [{}, {"SCRIPTORIUM_ROLE": "coding"}], ids=["person", "agent"])
def test_an_earlier_hook_runs_first_and_its_status_is_kept(world: World, branch: str, role: dict[str, str]) -> None:
    world.hook("post-merge").write_text(EARLIER)
    world.hook("post-merge").chmod(0o755)
    world.install()
    world.git("checkout", "--quiet", "-B", branch)
    done = world.run(str(world.hook("post-merge")), "0", "two words", env=role, stdin="some input")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert (world.records / "earlier").read_text() == "args: 0 two words\nsome input"
    if branch == "master" and not role:
        until(lambda: (world.records / "ended").exists())
        assert world.steps() == ["health"]


def test_an_earlier_hook_that_git_would_not_run_is_not_run(world: World) -> None:
    world.hook("post-commit").write_text(EARLIER)
    world.hook("post-commit").chmod(0o644)
    world.install()
    assert world.commit("a") == ["health"]
    assert not (world.records / "earlier").exists()
    done = world.run(str(world.hook("post-commit")), env={"SCRIPTORIUM_ROLE": "coding"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_earlier_hook_runs_even_if_another_tool_has_renamed_ours(world: World) -> None:
    world.hook("post-commit").write_text(EARLIER)
    world.hook("post-commit").chmod(0o755)
    world.install()
    legacy = world.hook("post-commit").rename(world.hook("post-commit.legacy"))
    assert world.run(str(legacy)).returncode == 7
    assert (world.records / "earlier").exists()


# -- changes after installation ---------------------------------------------------------------------


def test_the_program_on_path_serves_when_the_installed_one_is_gone(world: World) -> None:
    world.install()
    world.program.rename(world.program.with_name("moved"))
    other = world.home / "other" / "scriptorium"
    stand_in(other)
    assert world.commit("a", env={"PATH": f"{other.parent}:{world.env['PATH']}"}) == ["health"]


def test_without_any_program_the_hook_ends_in_silence(world: World) -> None:
    world.install()
    world.program.unlink()
    empty = world.home / "empty"
    empty.mkdir()
    done = world.run("/bin/sh", str(world.hook("post-commit")), env={"PATH": str(empty)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_there_is_no_setsid_nohup_serves(world: World) -> None:
    world.install()
    tools = world.home / "tools"
    tools.mkdir()
    for name in ("git", "sh", "mkdir", "find", "id", "date", "nohup", "env", "sort"):
        (tools / name).symlink_to(shutil.which(name) or name)
    world.run("/bin/sh", str(world.hook("post-commit")), env={"PATH": str(tools)})
    until(lambda: (world.records / "ended").exists())
    assert world.steps() == ["health"]
    assert world.log().endswith("starts 'scriptorium health'\ntold on stdout\ntold on stderr\n")


def test_a_state_root_that_a_reboot_took_is_made_again_and_private(world: World) -> None:
    world.install()
    shutil.rmtree(world.home / "state")
    assert world.commit("a") == ["health"]
    assert "told on stdout" in world.log()
    modes = {path.stat().st_mode & 0o777 for path in (world.home / "state", *(world.home / "state").iterdir())}
    assert modes == {0o700}


def test_nothing_is_written_through_a_state_root_that_is_a_link(world: World) -> None:
    world.install()
    (world.home / "state").rename(world.home / "theirs")
    (world.home / "state").symlink_to(world.home / "theirs")
    assert world.commit("a") == ["health"]
    assert not list((world.home / "theirs").rglob("hooks.log"))


def test_a_reftable_repository_is_asked_for_its_branch(world: World) -> None:
    world.install()
    (world.repository / ".git" / "HEAD").write_text("ref: refs/heads/.invalid\n")
    git = world.home / "reftable" / "git"
    git.parent.mkdir()
    git.write_text(
        '#!/bin/sh\n# a stand-in for a git that knows reftable\n[ "$1" != symbolic-ref ] || echo refs/heads/master\n'
    )
    git.chmod(0o755)
    path = f"{git.parent}:{world.env['PATH']}"
    assert world.run(str(world.hook("post-commit")), env={"PATH": path}).returncode == 0
    until(lambda: (world.records / "ended").exists())
    assert world.steps() == ["health"]


# -- inside other hooks -----------------------------------------------------------------------------


def test_installing_inside_a_hook_uses_the_current_directory(world: World) -> None:
    other = build(world.home / "other", "project")
    linked = world.home / "linked"
    world.git("worktree", "add", "--quiet", "-b", "side", str(linked))
    code = FRONT_DOOR.format(program=str(world.program))
    outer = world.hook("pre-commit")
    outer.write_text(
        f'#!/bin/sh\necho "$GIT_DIR" >"$RECORDS/outer"\ncd \'{other.repository}\' || exit\n'
        f"exec {sys.executable} -c {json.dumps(code)} hooks install\n"
    )
    outer.chmod(0o755)
    world.write("a", "a", cwd=linked)
    world.git("commit", "--quiet", "-m", "a", cwd=linked)
    assert (world.records / "outer").read_text() == f"{world.repository}/.git/worktrees/linked\n"
    assert [other.hook(name).exists() for name in NAMES] == [True, True]
    assert [world.hook(name).exists() for name in NAMES] == [False, False]


def test_installing_from_a_linked_worktree_serves_all_worktrees(world: World) -> None:
    linked = world.home / "linked"
    world.git("worktree", "add", "--quiet", "-b", "side", str(linked))
    status, stdout, _ = world.hooks("install", cwd=linked)
    assert (status, stdout) == (0, "post-commit\tinstalled\npost-merge\tinstalled\n")
    assert world.commit("a", cwd=linked) == []
    assert world.commit("b") == ["health"]


# -- the files of the hooks -------------------------------------------------------------------------


def test_both_hooks_are_plain_shell_and_the_same_below_the_line() -> None:
    line = "# ---- from here on, post-commit and post-merge are the same\n"
    heads, bodies = zip(*((HOOKS / name).read_text().split(line) for name in NAMES), strict=True)
    assert bodies[0] == bodies[1]
    assert heads[0] != heads[1]
    for name in NAMES:
        assert subprocess.run(["sh", "-n", HOOKS / name], check=False).returncode == 0
        assert os.access(HOOKS / name, os.X_OK)
