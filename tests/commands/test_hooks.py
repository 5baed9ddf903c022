"""scriptorium hooks, against real repositories and a stand-in for the steps."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import CHECKOUT

HOOKS = CHECKOUT / "hooks"
NAMES = ("post-commit", "post-merge")
DEADLINE = 30.0
HIGH = 40
"""A descriptor above those that the hooks close. A pipe there closes with the last descendant of a command."""

# runs the command line with the stand-in as the running program, whose path goes into the hooks
FRONT_DOOR = "import sys; sys.argv[0] = {program!r}; from scriptorium.main import main; main()"

STAND_IN = """\
#!/bin/sh
# a stand-in for scriptorium: records how it was started
echo "$0 $*" >>"$RECORDS/steps"
env | sort >"$RECORDS/env"
echo "$$" >"$RECORDS/pid"
echo "told on stdout"
echo "told on stderr" >&2
[ ! -p "$RECORDS/gate" ] || read -r _ <"$RECORDS/gate"
echo "$*" >>"$RECORDS/ended"
"""

EARLIER = """\
#!/bin/sh
# a hook of the user's own
{ echo "args: $*"; cat; } >>"$RECORDS/earlier"
exit 7
"""


@dataclass
class World:
    """A directory with a repository, a stand-in program and its records."""

    home: Path
    repository: Path
    env: dict[str, str]

    @property
    def records(self) -> Path:
        return self.home / "records"

    @property
    def program(self) -> Path:
        return self.home / "stand-in" / "scriptorium"

    def run(
        self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=cwd or self.repository, env={**self.env, **(env or {})}, input=stdin,
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

    def git(self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        done = self.run("git", *argv, cwd=cwd, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def hooks(self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> tuple[int, str, str]:
        code = FRONT_DOOR.format(program=str(self.program))
        done = self.run(sys.executable, "-c", code, "hooks", *argv, cwd=cwd, env=env)
        return done.returncode, done.stdout, done.stderr

    def install(self) -> None:
        status, _, stderr = self.hooks("install")
        assert status == 0, stderr

    def hook(self, name: str) -> Path:
        return self.repository / ".git" / "hooks" / name

    def write(self, path: str, text: str, cwd: Path | None = None) -> None:
        (cwd or self.repository).joinpath(path).write_text(text)
        self.git("add", path, cwd=cwd)

    def settled(self, *argv: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> list[str]:
        """Run git, wait for its background processes, and return the steps that ran."""
        read, write = os.pipe()
        inherited = fcntl.fcntl(write, fcntl.F_DUPFD, HIGH)
        os.close(write)
        try:
            subprocess.run(
                ["git", *argv], cwd=cwd or self.repository, env={**self.env, **(env or {})},
                pass_fds=(inherited,), capture_output=True, timeout=DEADLINE, check=True,
            )  # fmt: skip
        finally:
            os.close(inherited)
        assert select.select([read], [], [], DEADLINE)[0], "something is still running"
        os.close(read)
        return self.steps()

    def commit(
        self, path: str, text: str = "", cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> list[str]:
        """Commit a file and return the steps that ran, as `settled` does."""
        self.write(path, text or path, cwd)
        return self.settled("commit", "--quiet", "--message", f"change {path}", cwd=cwd, env=env)

    def steps(self) -> list[str]:
        """Return the arguments of the stand-in's runs since the last call."""
        file = self.records / "steps"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line.rpartition("/scriptorium ")[2] for line in lines]

    def plan_worktree(self) -> Path:
        path = self.home / "plan"
        self.git("worktree", "add", "--quiet", str(path), "scriptorium/plan")
        return path

    def log(self) -> str:
        return next((self.home / "state").glob("*/hooks.log")).read_text()


def stand_in(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STAND_IN)
    path.chmod(0o755)


def build(home: Path, name: str, branch: str = "master") -> World:
    env = {**os.environ, "SCRIPTORIUM_ROOT": str(home / "state"), "RECORDS": str(home / "records")}
    world = World(home, home / name, env)
    world.records.mkdir(parents=True)
    world.repository.mkdir()
    stand_in(world.program)
    world.git("init", "--quiet", "--initial-branch", branch)
    world.write("README", "a project\n")
    world.git("commit", "--quiet", "--message", "first")
    # a plan branch that a user could make
    world.git("branch", "scriptorium/plan", world.git("commit-tree", "-m", "plan", world.git("mktree")))
    return world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build(tmp_path, "project")


def tree_of(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(directory)): (file.read_bytes(), file.stat().st_mode)
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != "index"
    }


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


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


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
