"""scriptorium hooks, against real repositories and a stand-in for the steps."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pytest

from tests.commands.hooks_cases import EARLIER, HOOKS, NAMES, World, build, tree_of

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build(tmp_path, "project")


# -- install, uninstall, status ---------------------------------------------------------------------


def test_install_twice_changes_nothing_the_second_time(world: World) -> None:
    status, stdout, stderr = world.hooks("install")
    assert (status, stdout) == (0, "post-commit\tinstalled\npost-merge\tinstalled\n")
    assert stderr.startswith("scriptorium: steps that they start write to '")
    before = tree_of(world.repository / ".git")
    assert {world.hook(name).stat().st_mode & 0o777 for name in NAMES} == {0o755}
    assert world.hooks("install") == (0, "", "")
    assert tree_of(world.repository / ".git") == before


def test_install_makes_the_hooks_directory_where_git_made_none(world: World) -> None:
    shutil.rmtree(world.repository / ".git" / "hooks")
    world.install()
    assert sorted(path.name for path in (world.repository / ".git" / "hooks").iterdir()) == list(NAMES)


def test_uninstall_restores_what_was_there_byte_for_byte_and_with_its_mode(world: World) -> None:
    world.hook("post-commit").write_bytes(b"#!/bin/sh\n# \xff no newline at the end")
    world.hook("post-commit").chmod(0o744)
    world.hook("post-merge").symlink_to("../../tracked-hook")
    before = tree_of(world.repository / ".git")
    world.install()
    assert world.hooks("uninstall") == (0, "post-commit\tuninstalled\npost-merge\tuninstalled\n", "")
    assert tree_of(world.repository / ".git") == before
    assert world.hook("post-merge").readlink() == Path("../../tracked-hook")


def test_uninstall_without_installation_does_nothing(world: World) -> None:
    world.hook("post-commit").write_text("#!/bin/sh\n")
    before = tree_of(world.repository / ".git")
    assert world.hooks("uninstall") == (0, "", "")
    assert tree_of(world.repository / ".git") == before


@pytest.mark.parametrize("text", ["#!/bin/sh\n# somebody else's\n", None], ids=["replaced", "edited"])
def test_uninstall_leaves_a_hook_that_was_changed_after_installation(world: World, text: str | None) -> None:
    world.install()
    hook = world.hook("post-commit")
    theirs = text or hook.read_text() + "# one more line\n"
    hook.write_text(theirs)
    status, stdout, stderr = world.hooks("uninstall")
    assert (status, stdout) == (1, "post-merge\tuninstalled\n")
    assert stderr == (
        "scriptorium: 'post-commit' changed after installation and stays as it is\n"
        f"hint: look at it in '{hook.parent}', and delete it if it is not needed\n"
    )
    assert hook.read_text() == theirs
    assert not world.hook("post-merge").exists()


def test_uninstall_leaves_a_replaced_hook_and_the_earlier_hook(world: World) -> None:
    world.hook("post-commit").write_text(EARLIER)
    world.install()
    world.hook("post-commit").write_text("#!/bin/sh\n# from another tool\n")
    assert world.hooks("uninstall")[0] == 1
    assert world.hook("post-commit").read_text() == "#!/bin/sh\n# from another tool\n"
    assert world.hook("post-commit.before-scriptorium").read_text() == EARLIER


def test_install_refuses_to_overwrite_an_edited_hook(world: World) -> None:
    world.install()
    with world.hook("post-merge").open("a") as file:
        file.write("echo mine\n")
    before = tree_of(world.repository / ".git")
    status, stdout, stderr = world.hooks("install")
    assert (status, stdout) == (1, "")
    assert stderr.startswith("scriptorium: hook 'post-merge' was changed after it was installed\nhint: move what")
    assert tree_of(world.repository / ".git") == before


def test_install_refuses_when_the_place_for_the_earlier_hook_is_taken(world: World) -> None:
    world.hook("post-merge").write_text("one")
    world.hook("post-merge.before-scriptorium").write_text("two")
    before = tree_of(world.repository / ".git")
    status, stdout, stderr = world.hooks("install")
    assert (status, stdout) == (1, "")
    assert "there are both a hook 'post-merge' and a hook 'post-merge.before-scriptorium'\nhint: keep one" in stderr
    assert tree_of(world.repository / ".git") == before


def test_a_crash_between_the_two_renames_loses_no_hook(world: World) -> None:
    world.hook("post-commit.before-scriptorium").write_text(EARLIER)  # already renamed, and our hook is not there yet
    world.install()
    assert world.hooks("uninstall")[0] == 0
    assert world.hook("post-commit").read_text() == EARLIER
    world.hook("post-commit").rename(world.hook("post-commit.before-scriptorium"))
    assert world.hooks("uninstall") == (0, "post-commit\tuninstalled\n", "")
    assert world.hook("post-commit").read_text() == EARLIER


def test_a_second_installation_at_the_same_time_gives_way(world: World) -> None:
    world.hook("post-commit").write_text(EARLIER)
    assert world.hooks("uninstall") == (0, "", "")
    before = tree_of(world.repository / ".git")
    with next((world.home / "state").glob("*/locks/hooks.lock")).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, stdout, stderr = world.hooks("install")
    assert (status, stdout) == (75, "")
    assert stderr.startswith("scriptorium: another process is at work on 'hooks'\nhint: ")
    assert tree_of(world.repository / ".git") == before


def test_status_tells_each_hook_and_what_it_runs_first(world: World) -> None:
    assert world.hooks("status") == (0, "post-commit\tabsent\npost-merge\tabsent\n", "")
    world.hook("post-commit").write_text(EARLIER)
    assert world.hooks("status") == (0, "post-commit\tforeign\npost-merge\tabsent\n", "")
    world.install()
    world.hook("post-merge").write_text(world.hook("post-merge").read_text() + "\n")
    expected = "post-commit\tinstalled\tpost-commit.before-scriptorium\npost-merge\tchanged\n"
    assert world.hooks("status") == (0, expected, "")


def test_status_as_json(world: World) -> None:
    world.hook("post-commit").write_text(EARLIER)
    world.install()
    status, stdout, stderr = world.hooks("status", "--json")
    facts = json.loads(stdout)
    assert (status, stderr) == (0, "")
    assert Path(facts.pop("log")).parent.parent == world.home / "state"
    assert facts == {
        "directory": str(world.repository / ".git" / "hooks"),
        "hooks_path": None,
        "hooks": [
            {"name": "post-commit", "state": "installed", "earlier": "post-commit.before-scriptorium"},
            {"name": "post-merge", "state": "installed", "earlier": None},
        ],
    }


def test_hooks_are_outdated_after_another_branch_is_configured(world: World) -> None:
    world.install()
    (world.repository / "scriptorium.json").write_text('{"branch": "it\'s-main"}')
    assert world.hooks("status")[1] == "post-commit\toutdated\npost-merge\toutdated\n"
    assert world.hooks("install")[1] == "post-commit\tinstalled\npost-merge\tinstalled\n"
    assert world.commit("a") == []
    world.git("checkout", "--quiet", "-b", "it's-main")
    assert world.commit("b") == ["health"]


def test_a_hook_that_may_not_run_is_outdated_and_repaired(world: World) -> None:
    world.install()
    world.hook("post-commit").chmod(0o644)
    assert world.hooks("status")[1] == "post-commit\toutdated\npost-merge\tinstalled\n"
    assert world.hooks("install")[1] == "post-commit\tinstalled\n"
    assert world.commit("a") == ["health"]


def test_a_broken_configuration_does_not_keep_the_hooks_installed(world: World) -> None:
    world.install()
    (world.repository / "scriptorium.json").write_text("{")
    assert world.hooks("install")[0] == 78
    assert world.hooks("uninstall") == (0, "post-commit\tuninstalled\npost-merge\tuninstalled\n", "")


@pytest.mark.parametrize("argv", [("frobnicate",), ("install", "--json"), ()])
def test_anything_else_is_a_usage_error(world: World, argv: tuple[str, ...]) -> None:
    status, stdout, stderr = world.hooks(*argv)
    assert (status, stdout) == (2, "")
    assert "hint: " in stderr


# -- core.hooksPath ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["system", "global", "local", "worktree"])
def test_a_foreign_hooks_path_of_any_level_refuses_and_says_what_to_unset(world: World, level: str) -> None:
    world.env |= {"GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_SYSTEM": str(world.home / "system")}
    world.git("config", "extensions.worktreeConfig", "true")
    elsewhere = world.home / "elsewhere"
    world.git("config", f"--{level}", "core.hooksPath", str(elsewhere))
    before = tree_of(world.home)
    status, stdout, stderr = world.hooks("install")
    assert (status, stdout) == (1, "")
    assert stderr.startswith(
        f"scriptorium: git takes its hooks from '{elsewhere}' ('core.hooksPath', {level} configuration)\n"
        f"hint: 'git config --{level} --unset-all core.hooksPath', or let"
    )
    assert tree_of(world.home) == before
    status, stdout, stderr = world.hooks("status")
    assert (status, stdout) == (0, "post-commit\tabsent\npost-merge\tabsent\n")
    assert "git ignores these: 'core.hooksPath'" in stderr
    assert json.loads(world.hooks("status", "--json")[1])["hooks_path"] == str(elsewhere)
    world.git("config", f"--{level}", "--unset-all", "core.hooksPath")
    world.install()


def test_a_hooks_path_that_leads_to_the_repositorys_own_hooks_is_none(world: World) -> None:
    world.git("config", "core.hooksPath", ".git/hooks")
    world.install()
    assert world.commit("a") == ["health"]


def test_a_hook_elsewhere_can_call_ours_as_the_hint_says(world: World) -> None:
    world.git("config", "core.hooksPath", str(world.home / "elsewhere"))
    call = world.hooks("install")[2].rstrip("\n").rpartition(" likewise) end with: ")[2]
    assert call == f'sh {HOOKS / "post-commit"} "$@"'
    hook = world.home / "elsewhere" / "post-commit"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\n{call}\n")
    hook.chmod(0o755)
    path = f"{world.program.parent}:{world.env['PATH']}"
    assert world.commit("a", env={"PATH": path}) == ["health"]
