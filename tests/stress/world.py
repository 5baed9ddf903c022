"""A project in which commands run as separate processes, and anything may happen in the middle of a command.

A command runs in a fork of the test, which saves the start of Python and makes its events countable: an audit
hook counts the files it opens, renames and removes, and the programs it starts. At a chosen event the process is
killed, gets a signal, or waits while a user or another command acts.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from scriptorium import main
from tests.support import DATE, PLAN, Project, write_script

MAX_ATTEMPTS = 3
NESTED = 2.0
"""Seconds that a command waits for another command in its middle; they may wait for each other."""

WATCHED = frozenset(
    (
        *("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.kill", "shutil.rmtree"),
        *("subprocess.Popen", "os.posix_spawn", "os.fork", "fcntl.flock", "socket.bind", "socket.connect"),
    )
)
"""The audit events that are counted: all changes and reads of a process outside its memory."""

AGENT = '. "$FACTS/$SCRIPTORIUM_ROLE"'

GATE = """
[ -z "$(git status --porcelain)" ] || echo "$PWD" >>"$FACTS/unclean"
[ ! -f "$FACTS/during-gate" ] || { mv "$FACTS/during-gate" "$FACTS/now"; (cd "$REPO" && sh -e "$FACTS/now"); }
tree=$(git rev-parse 'HEAD^{tree}')
if [ -e red ]; then echo "$tree" >>"$FACTS/red"; exit 1; fi
if [ "$(git rev-parse 'master^{tree}')" != "$tree" ]; then echo "$tree" >>"$FACTS/green"; fi
"""
"""A gate that fails if a file named `red` exists. It records the trees that it passes, and the files that it sees."""

VERBS = (
    *("init", "architect", "manager", "assign", "code", "merge", "health", "run", "status", "worktrees"),
    *("fsck", "rescue", "clean", "hooks", "submit_pr"),
)


@dataclass(frozen=True)
class Ended:
    """The result of a command, and whether its disturbance happened; a killed command has a negative code."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    reached: bool

    @property
    def disturbed(self) -> bool:
        return self.reached or self.code < 0


@dataclass(frozen=True)
class Midst:
    """A disturbance at an event of a command: a signal, a shell script of the user, or another command."""

    number: int
    signum: int = 0
    script: str = ""
    argv: tuple[str, ...] = ()


class World:
    """A project with its directories, the orders of its agents and its gate."""

    def __init__(self, directory: Path, template: Path) -> None:
        self.directory = directory
        shutil.copytree(template, directory, symlinks=True)
        self.facts = directory / "facts"
        os.environ["SCRIPTORIUM_ROOT"] = str(directory / "root")
        os.environ["FACTS"] = str(self.facts)
        os.environ["REPO"] = str(directory / "project")
        self.project = Project.__new__(Project)  # the copy has everything except its own path
        self.project.root = directory / "project"
        self.project.started, self.project._has_plan = [], True
        agent = write_script(directory / "agent", AGENT)
        self.project.configure(
            harnesses={"script": {"command": [str(agent)]}},
            models=dict.fromkeys(("architect", "manager", "coding", "reviewer"), "script"),
            gate=f"sh '{self.facts / 'gate'}'",
            environment=["FACTS", "REPO"],
            max_attempts=MAX_ATTEMPTS,
            timeouts={"gate": 60, "hard": 60},
            endpoints={"local": "http://127.0.0.1:0"},
        )

    @staticmethod
    def template(directory: Path) -> Path:
        """Create the original of all worlds: a project with a plan."""
        directory.mkdir()
        project = Project(directory / "project")
        project.commit({"shared": "base\n", "notes": "base\n"}, "Begin")
        project.git("branch", "other")
        project.git("tag", "before")
        project.commit({"since": "base\n"}, "Go on")
        project.init()
        spec = "# Spec\n\nMake it.\nAll of it.\n"
        project.commit_plan({"spec.md": spec})
        planned = f"{project.git('rev-parse', f'{PLAN}:spec.md')} spec.md\n"
        project.commit_plan({"planned": planned})
        for id, depends in (("0001", ()), ("0002", ("0001",))):
            project.ticket(id, depends=depends)
        (directory / "facts").mkdir()
        (directory / "facts" / "gate").write_text(GATE)
        (directory / "facts" / "runs").touch()
        for verb in VERBS:  # so that no fork imports them, which would be counted
            importlib.import_module(f"scriptorium.commands.{verb}")
        for module in (
            "sh",
            "filelock",
            "ruamel.yaml",
            "scriptorium.agents.tools.endpoint",
            "uvicorn",
            "starlette.routing",
        ):
            importlib.import_module(module)
        return directory

    # -- commands ----------------------------------------------------------------------------------------

    def step(self, *argv: str, midst: Midst | None = None) -> Ended:
        """Run `scriptorium <argv>` to its end, with a disturbance in its middle."""
        out, err, reached = (self.directory / name for name in ("out", "err", "reached"))
        reached.unlink(missing_ok=True)
        pid = self._fork(argv, out, err, midst)
        status = _wait(pid, argv)
        if midst and midst.argv:
            _wait_for_group(self.directory / "nested")
        return Ended(argv, status, out.read_text(), err.read_text(errors="replace"), reached.exists())

    def _fork(self, argv: tuple[str, ...], out: Path, err: Path, midst: Midst | None = None) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            try:
                self._become(argv, out, err, midst)
            finally:
                os._exit(99)
        return pid

    def _become(self, argv: tuple[str, ...], out: Path, err: Path, midst: Midst | None) -> NoReturn:
        os.setsid()
        for number, file, flags in (
            (0, Path(os.devnull), os.O_RDONLY),
            (1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            os.dup2(os.open(file, flags, 0o600), number)
        sys.stdin, sys.stdout, sys.stderr = (
            io.TextIOWrapper(os.fdopen(number, mode), line_buffering=True)
            for number, mode in ((0, "rb"), (1, "wb"), (2, "wb"))
        )
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL if signum != signal.SIGINT else signal.default_int_handler)
        os.chdir(self.project.root)
        sys.argv = ["scriptorium", *argv]
        if midst:
            self._install(midst)
        code = 0
        try:
            main.main()
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _install(self, midst: Midst) -> None:
        count, done, ours = 0, False, os.getpid()

        def hook(event: str, args: tuple[object, ...]) -> None:
            nonlocal count, done
            if done or os.getpid() != ours or event not in WATCHED or (event == "open" and not self._is_ours(args[0])):
                return
            count += 1
            if count == midst.number:
                done = True
                (self.directory / "reached").write_text(f"{event} {args!r:.300}\n")
                self._happen(midst)

        sys.addaudithook(hook)

    def _is_ours(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(str(self.directory))

    def _happen(self, midst: Midst) -> None:
        if midst.signum == signal.SIGKILL:
            os.killpg(0, midst.signum)
        elif midst.signum:
            os.kill(os.getpid(), midst.signum)
        elif midst.script:
            self.person(midst.script)
        else:
            nested = self.directory / "nested"
            pid = self._fork(midst.argv, self.directory / "nested.out", self.directory / "nested.err")
            nested.write_text(str(pid))
            deadline = time.monotonic() + NESTED
            while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.005)

    # -- people ------------------------------------------------------------------------------------------

    def person(self, script: str) -> None:
        """Run a shell script of the user at the top of the project; failures of the script are ignored."""
        environment = {**os.environ, "GIT_AUTHOR_DATE": DATE, "GIT_COMMITTER_DATE": DATE}
        subprocess.run(
            ["/bin/sh", "-ec", script],
            cwd=self.project.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def order(self, role: str, script: str) -> None:
        """Set the order that the agents of a role follow from now on."""
        (self.facts / role).write_text(script)

    def lines(self, fact: str) -> list[str]:
        """Return the records of agents, gates and users."""
        file = self.facts / fact
        return file.read_text().splitlines() if file.exists() else []

    def close(self) -> None:
        """End the processes that killed commands have left, and remove all files."""
        mark = f"SCRIPTORIUM_ROOT={self.directory / 'root'}"
        from scriptorium.system import watchdog

        watchdog.end(mark, first=signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


def _wait(pid: int, argv: tuple[str, ...], seconds: float = 120) -> int:
    deadline = time.monotonic() + seconds
    while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"{argv} hangs")
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def _wait_for_group(file: Path) -> None:
    """Wait for the end of a command that was started in the middle of another command."""
    if not file.exists():
        return
    pid, deadline = int(file.read_text()), time.monotonic() + 60
    file.unlink()

    def alive() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

    while alive():
        assert time.monotonic() < deadline, "a command in the midst of another hangs"
        time.sleep(0.005)


def texts(*roots: Path) -> list[str]:
    """Return the small files of some directories, without git's own files."""
    found = []
    for root in roots:
        for directory, names, files in os.walk(root):
            names[:] = [name for name in names if name != ".git"]
            for name in files:
                path = Path(directory, name)
                if path.is_file() and path.stat().st_size < 200:
                    found.append(path.read_text(errors="replace").rstrip("\n"))
    return found
