"""Tests: what makes the other tests cheap is as good as what it stands for."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.support import DATE, PLAN, Project, is_alive, until

FACTS = """
import json, os, resource, signal, sys
print(json.dumps({
    "arguments": sys.argv[1:],
    "directory": os.getcwd(),
    "environment": dict(os.environ),
    "files": [name for name in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{name}")],
    "group": os.getpgrp(),
    "ignored": [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN],
    "blocked": [number for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "limits": [resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
    "umask": os.umask(0),
    "input": sys.stdin.read(),
}))
"""


@pytest.fixture
def facts_verb(project: Project) -> Project:
    """A project where `scriptorium facts` becomes a program that prints what it was started with."""
    program = project.root.parent / "home" / "bin" / "scriptorium-facts"
    program.write_text(f"#!{sys.executable} -I\n{FACTS}")
    program.chmod(0o755)
    return project


def test_fork_is_started_as_a_new_interpreter_is(facts_verb: Project, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    argv, env = ("facts", "a b", "\udcff"), {"MINE": "\udcfe", "TZ": "Asia/Tokyo"}
    given = {"input": "one\ntwo", "cwd": tmp_path / "elsewhere", "env": env}
    forked, fresh = (facts_verb.run(*argv, fresh=fresh, **given) for fresh in (False, True))  # type: ignore[arg-type]
    assert forked.code == 0, forked.err
    assert json.loads(forked.out) == json.loads(fresh.out)
    assert (forked.err, json.loads(forked.out)["input"]) == ("", "one\ntwo")


def test_fork_inherits_nothing_from_an_earlier_one(facts_verb: Project) -> None:
    first = facts_verb.run("facts", env={"FIRST": "1"})
    assert "FIRST" in json.loads(first.out)["environment"]
    assert "FIRST" not in json.loads(facts_verb.run("facts").out)["environment"]


@pytest.mark.parametrize(
    "argv", [("--version",), ("status",), ("stats",), ("status", "--x"), ("submit-pr",), ("init",)]
)
def test_fork_says_and_returns_the_same(project: Project, argv: tuple[str, ...]) -> None:
    if argv == ("init",):  # the second finds what the first has made
        assert project.run(*argv).code == 0
    assert project.run(*argv) == project.run(*argv, fresh=True)


def test_forks_mark_what_they_start_each_in_its_own_way(project: Project, facts: Path) -> None:
    project.init()
    for number in range(2):
        project.gate(f"echo $$SCRIPTORIUM_RUN $$SCRIPTORIUM_SESSION | tr ' ' '\\n' >>{facts}/marks; : {number}")
        assert project.run("health").code == 0
    marks = (facts / "marks").read_text().splitlines()
    assert len(marks) == len(set(marks)) == 4


def test_fork_tells_by_which_signal_it_ended(project: Project) -> None:
    project.init()
    project.agent("true")
    process = project.start("run")
    assert process.stdout is not None
    assert "[INFO]" in process.stdout.readline()
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == process.poll() == -signal.SIGKILL
    process.kill()  # which is no error


def test_wait_for_a_fork_has_a_limit(project: Project) -> None:
    project.init()
    process = project.start("run")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)


def test_other_python_settings_get_a_new_interpreter(project: Project) -> None:
    result = project.run("stats", env={"PYTHONVERBOSE": "1"})
    assert "import 'scriptorium" in result.err
    assert "import 'scriptorium" not in project.run("stats").err


KILLED = """
import os, signal, sys
from subprocess import DEVNULL
from tests.fork_server import server
forked = server().fork(["run"], sys.argv[1], os.environ, DEVNULL, DEVNULL, DEVNULL)
print(server().process.pid, forked.pid, flush=True)
signal.pause()
"""


def test_fork_server_ends_when_its_parent_is_killed(project: Project) -> None:
    project.init()
    with subprocess.Popen([sys.executable, "-c", KILLED, str(project.root)], stdout=PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert all(is_alive(pid) for pid in pids)
        parent.kill()
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_fork_server_leaves_no_modules_of_scriptorium_behind() -> None:
    code = "import sys; from tests import fork_server; fork_server._preload(); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert {"plumbum", "sh", "filelock", "ruamel.yaml"} <= set(modules)
    assert not [name for name in modules if name.startswith(("scriptorium", "mcp", "uvicorn", "pydantic"))]


def tree(root: Path) -> dict[str, object]:
    """Return the mode and the content of each file below a directory, without git's index, which holds times."""
    files = {path for path in root.rglob("*") if path.name != "index"}
    return {
        str(path.relative_to(root)): (stat.S_IMODE(path.stat().st_mode), path.is_file() and path.read_bytes())
        for path in files
    }


def test_copied_project_is_as_git_makes_it(project: Project, tmp_path: Path) -> None:
    made = Project(tmp_path / "made")
    assert tree(project.root) == tree(made.root)
    for argv in (("ls-files", "--stage", "--debug"), ("status", "--porcelain"), ("diff-files",), ("fsck",)):
        outs = [re.sub(r"(ctime|mtime|dev|ino|uid|size): .*", "", one.git(*argv)) for one in (project, made)]
        assert outs[0] == outs[1]


def test_project_is_not_copied_where_git_is_configured(tmp_path: Path) -> None:
    with Path(os.environ["GIT_CONFIG_GLOBAL"]).open("a") as config:
        config.write("[user]\n\tname = Other\n")
    project = Project.copied(tmp_path / "project")
    assert project.git("log", "--format=%an") == "Other"


def submitted(project: Project) -> dict[str, object]:
    """Return all that a submitted ticket leaves behind, without what is drawn by chance or measured."""
    home, worktree = project.paths.home, project.worktree("0001-thing")
    plan, refs = f"refs/heads/{PLAN}", project.refs()
    attempt = json.loads((project.paths.attempts / "0001-thing" / "attempt-01.json").read_text())
    messages = project.git("log", "--format=%an %ae %cn %ce %B", plan)
    return {
        "refs": {name: commit for name, commit in refs.items() if name != plan},
        "plan": {name: text.replace(str(home), "HOME") for name, text in project.plan_files().items()},
        "messages": re.sub("Transaction: .*", "", messages),
        "worktree": {path.name: path.read_bytes() for path in worktree.iterdir() if path.name != ".git"},
        "status": project.git("status", "--porcelain=v2", "--branch", "--ignored", cwd=worktree),
        "attempt": {**attempt, "trailers": sorted(attempt["trailers"])},
        "state": sorted(str(path.relative_to(home)) for path in home.rglob("*")),
    }


def test_queued_ticket_is_as_code_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
        monkeypatch.setenv(name, DATE)
    queued, coded = Project(tmp_path / "queued"), Project(tmp_path / "coded")
    queued.queued(body="Do it well.")
    coded.ticket("0001", body="Do it well.", state="in-progress")
    coded.agent("echo \"$SCRIPTORIUM_TICKET\" >file\nscriptorium submit-pr 'done'")
    assert coded.run("code", "1").code == 0
    assert submitted(queued) == submitted(coded)
