"""A repository with hooks and a stand-in for scriptorium, which records the steps that the hooks start."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


def tree_of(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(directory)): (file.read_bytes(), file.stat().st_mode)
        for file in sorted(directory.rglob("*"))
        if file.is_file() and file.name != "index"
    }


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
