"""Bad neighbours: misbehaving gates, concurrent clean-up, large files, read-only directories, and clock jumps."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scriptorium.agents import cooldown
from scriptorium.coding.assign import assign_next
from scriptorium.coding.attempt import AttemptOutcome as Out
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from scriptorium.plan.cause import Cause
from tests.neighbours.cases import BRANCH, in_order, kept, lands, rescued, show, submitted, tree, worked_on
from tests.support import Project, is_alive, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project) -> None:
    project.init()


# -- gates -------------------------------------------------------------------------------------------------


def test_what_a_gate_writes_into_the_tree_does_not_land(project: Project) -> None:
    project.commit({"tracked": "1\n", ".gitignore": "ignored\n"})
    project.configure(gate="echo gate >tracked; echo gate >untracked; echo gate >ignored; rm Makefile")
    lands(project)
    second = lands(project, "echo 2 >second", "0002")

    assert tree(project) == [".gitignore", "Makefile", "file", "second", "tracked"]
    assert (show(project, "tracked"), rescued(project)) == ("1", [])
    assert project.git("status", "--porcelain") == ""
    in_order(project, second)


HIDES = {
    "assume-unchanged": "git update-index --assume-unchanged lib",
    "skip-worktree": "git update-index --skip-worktree lib",
    "both": "git update-index --skip-worktree lib; git update-index --assume-unchanged lib",
    "version 4": "git update-index --index-version 4 --assume-unchanged lib",
    "split": "git update-index --split-index; git update-index --skip-worktree lib",
    "core.ignoreStat": "git config core.ignoreStat true; touch lib; git reset -q --hard",
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", HIDES)
def test_an_edit_hidden_from_git_is_submitted_or_kept(project: Project, how: str, when: str) -> None:
    project.commit({"lib": "bad\n", "a/b": "1\n", "z": "1\n"})
    project.gate("grep -q good lib || ! test -e new")
    hidden = f"{HIDES[how]}; echo good >lib"
    script = f"echo 1 >new; {hidden if when == 'before' else ':'}; scriptorium submit-pr done"
    name, result = worked_on(project, script if when == "before" else f"{script}; {hidden}")
    assert result is Out.SUBMITTED

    landed = process_next(project.workspace)

    assert landed == ItemResult(name, ItemOutcome.LANDED if when == "before" else ItemOutcome.REOPENED)
    assert (show(project, "lib"), kept(project, "lib")) == (("good", []) if when == "before" else ("bad", ["good"]))


LEAVES_OUT = [
    "git update-index --skip-worktree t/it; rm t/it",
    "git update-index --skip-worktree t/it; git update-index --assume-unchanged t/it; rm -r t",
    "git sparse-checkout set --no-cone '/*' '!/t/'",
    "git sparse-checkout set --cone --sparse-index a",
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", LEAVES_OUT)
def test_a_gate_runs_with_the_files_that_a_sparse_checkout_omits(project: Project, how: str, when: str) -> None:
    project.commit({"lib": "good\n", "a/b": "1\n", "t/it": "grep -q good lib\n"})
    project.gate("test ! -f t/it || sh t/it")
    script = f"echo bad >lib; {how if when == 'before' else ':'}; scriptorium submit-pr done"
    name, result = worked_on(project, script if when == "before" else f"{script}; {how}")
    assert result is Out.SUBMITTED
    project.commit({"theirs": "1\n"})

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.REOPENED)

    assert "make test` failed" in project.plan_files()[f"tickets/open/{name}.md"]
    assert show(project, "t/it", BRANCH) == "grep -q good lib"
    lands(project, "test -f t/it; echo good >lib; echo 1 >new")


def test_a_sparse_file_is_removed_when_something_else_replaces_it(project: Project) -> None:
    project.commit({"t/it": "1\n", "z": "1\n"})
    lands(project, "git update-index --skip-worktree t/it; rm -r t; echo 2 >t")
    assert (tree(project), show(project, "t")) == (["Makefile", "t", "z"], "2")


@pytest.mark.parametrize("end", ["exit 0", "exit 1"])
def test_a_gate_that_removes_its_own_worktree_loses_nothing(project: Project, end: str) -> None:
    assert project.run("health").code == 0
    name = submitted(project, "echo 1 >file")
    tip = project.git("rev-parse", BRANCH)
    green = project.root.parent / "green"
    project.configure(gate=f'case $PWD in */tickets/*) test -e {green} || {{ rm -rf "$PWD"; {end}; }};; esac')

    merged = process_next(project.workspace)

    if end == "exit 0":
        assert merged == ItemResult(name, ItemOutcome.LANDED)
    else:
        assert merged == ItemResult(name, ItemOutcome.REOPENED)
        assert project.git("rev-parse", BRANCH) == tip
        green.touch()
        lands(project, "echo 2 >second")
    assert show(project) == "1"
    in_order(project, name)


def test_what_a_gate_leaves_running_is_ended_and_the_ticket_lands(project: Project, facts: Path) -> None:
    left = 'setsid sh -c "trap : TERM INT HUP; echo \\$\\$ >>$FACTS/pids; while :; do sleep 600; done" &'
    project.configure(gate=f'{left} until test -s "$FACTS/pids"; do sleep 0.01; done')
    lands(project)
    pids = [int(word) for word in (facts / "pids").read_text().split()]
    assert pids
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_gate_that_reads_stdin_or_the_terminal_gets_nothing(project: Project) -> None:
    project.configure(gate="! read line && ! (exec </dev/tty) 2>/dev/null")
    lands(project)


def test_an_endless_gate_reopens_the_ticket_and_a_better_gate_lands_it(project: Project) -> None:
    assert project.run("health").code == 0
    name = submitted(project, "printf 'test:\\n\\t@sleep 600\\n' >Makefile; echo 1 >file")
    project.configure(timeouts={"gate": 0.5})
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.REOPENED)
    assert "was terminated at its limit of 0.5 seconds" in project.plan_files()[f"tickets/open/{name}.md"]

    project.configure(timeouts={"gate": 60})
    assert lands(project, "printf 'test:\\n\\t@true\\n' >Makefile") == name
    assert show(project) == "1"


# -- clean-up of others, meanwhile -------------------------------------------------------------------------


@contextmanager
def meanwhile(project: Project, *commands: str) -> Iterator[list[int]]:
    """Repeat git commands, one after the other, for the length of a block."""
    codes: list[int] = []
    done = threading.Event()

    def loop() -> None:
        while not done.is_set():
            for command in commands:
                codes.append(
                    subprocess.run(["git", *command.split()], cwd=project.root, capture_output=True).returncode
                )

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield codes
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "commands",
    [
        ("gc --quiet", "worktree prune --expire=now"),
        ("repack -adq", "pack-refs --all --prune"),
        ("maintenance run --task=loose-objects --task=incremental-repack", "reflog expire --all --expire=now"),
    ],
    ids=["gc", "repack", "maintenance"],
)
def test_tickets_land_while_git_cleans_up_in_a_loop(project: Project, commands: tuple[str, ...]) -> None:
    with meanwhile(project, *commands) as codes:
        for number in range(1, 4):
            name = submitted(project, f"echo {number} >file; git add file && git commit -qm x || true", f"{number:04d}")
            (project.worktree(name) / "mine").write_text(f"{number}\n")
            assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
        until(lambda: len(codes) > 2)

    in_order(project, name)
    assert sorted(kept(project, "mine")) == ["1", "2", "3"]
    project.git("fsck", "--strict", "--no-dangling")


def test_rescued_work_outlives_the_hardest_clean_up(project: Project) -> None:
    name = submitted(project)
    (project.worktree(name) / "mine").write_text("of a person\n")
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    project.git("reflog", "expire", "--all", "--expire=now", "--expire-unreachable=now")
    project.git("gc", "--quiet", "--prune=now")
    assert kept(project, "mine") == ["of a person"]


# -- directories that cannot be written --------------------------------------------------------------------

# Permissions do not bind root until it drops the capability to override them (prctl(2)).
BOUND = """
import ctypes, os, sys
if os.geteuid() == 0:
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "scriptorium", *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("place", "master_moves"),
    [("refs/heads", False), ("refs", False), ("refs/heads/scriptorium", True), ("objects", True)],
)
def test_a_read_only_git_directory_delays_only_the_landing(project: Project, place: str, master_moves: bool) -> None:
    """If only the plan cannot be written, master has moved already; the ticket is completed later."""
    name = submitted(project)
    before = project.git("rev-parse", "master")
    closed = project.root / ".git" / place
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [closed, *closed.rglob("*")] if path.is_dir()}
    for path in modes:
        path.chmod(0o500)
    with project.running("merge", python=("-c", BOUND)) as started:
        result = started.end()
    for path, mode in modes.items():
        path.chmod(mode)

    assert (result.code, result.out) == (1, "")
    assert "ermission denied" in result.err
    assert result.err.splitlines()[-1] == "hint: see whether you may write to the repository and the disk has room"
    assert (project.git("rev-parse", "master") != before) == master_moves
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


@pytest.mark.parametrize(("code", "outcome"), [(0, "landed"), (1, "reopened")])
def test_undeletable_files_of_the_gate_do_not_change_its_result(project: Project, code: int, outcome: str) -> None:
    assert project.run("health").code == 0
    name = submitted(project)
    project.configure(gate=f"[ ! -f file ] || {{ mkdir cache; touch cache/it; chmod 500 cache; exit {code}; }}")

    with project.running("merge", python=("-c", BOUND)) as started:
        result = started.end()

    assert (result.code, result.out) == (0, f"{name}\t{outcome}\n"), result.err
    [left] = project.worktree(name).parent.glob(f"{name}.left-*")
    assert f"the former worktree of ticket '{name}' is in '{left}'" in result.err
    if code:
        assert f"failed with exit code {code}" in project.plan_files()[f"tickets/open/{name}.md"]
        assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""
    else:
        in_order(project, name)


# -- the clock ---------------------------------------------------------------------------------------------

YEAR = 365 * 24 * 3600
CLOCK = """
import datetime, os, time
_offset, _time = float(os.environ["OFFSET"]), time.time
time.time = lambda: _time() + _offset
"""


def jumped(project: Project, offset: float) -> dict[str, str]:
    """Return an environment in which the clock of a command, and of git, is off by so many seconds."""
    directory = project.root.parent / "clock"
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(CLOCK)
    date = f"{int(time.time() + offset)} +0000"
    path = os.pathsep.join([str(directory), os.environ["PYTHONPATH"]])
    return {"PYTHONPATH": path, "OFFSET": str(offset), "GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date}


@pytest.mark.parametrize("offsets", [(0, -YEAR, 0), (0, YEAR, 0), (YEAR, -YEAR, YEAR)], ids=["back", "on", "both"])
def test_a_clock_that_jumps_between_the_steps_changes_nothing(project: Project, offsets: tuple[float, ...]) -> None:
    name = project.ticket("0001")
    project.agent("echo 1 >file; scriptorium submit-pr x")
    for step, offset in zip((("assign",), ("code", name), ("merge",)), offsets, strict=True):
        result = project.run(*step, env=jumped(project, offset))
        assert result.code == 0, result.err
    in_order(project, name)
    assert show(project) == "1"
    assert project.run("fsck", env=jumped(project, -YEAR)) == (0, "", "")


JUMPS = (
    CLOCK
    + """
_at = os.environ["FACTS"] + "/jumped"
time.time = lambda: _time() + (_offset if os.path.exists(_at) else 0)
"""
)


@pytest.mark.parametrize("offset", [-YEAR, YEAR])
@pytest.mark.parametrize("hangs", [False, True])
def test_a_clock_jump_ends_the_agent_neither_early_nor_late(
    project: Project, facts: Path, offset: int, hangs: bool
) -> None:
    project.configure(timeouts={"hard": 120, "no_output": 3 if hangs else 60})
    name = project.ticket("0001")
    then = "exec sleep 30" if hangs else "sleep 1; echo 1 >file; scriptorium submit-pr x"  # long enough for a look
    project.agent(f'sleep 0.5; touch "$FACTS/jumped"; {then}')
    assert assign_next(project.workspace)
    jump = jumped(project, offset)
    (project.root.parent / "clock" / "sitecustomize.py").write_text(JUMPS)

    result = project.run("code", name, env=jump)

    assert (facts / "jumped").exists()
    if hangs:
        assert result[:2] == (1, "")
        assert "without output" in result.err
    else:
        assert result[:2] == (0, f"{name}\n")
        assert project.run("merge", env=jump)[:2] == (0, f"{name}\tlanded\n")


@pytest.mark.parametrize("offset", [-YEAR, YEAR])
def test_the_cooldown_of_a_backend_does_not_outlast_a_clock_jump(project: Project, offset: int) -> None:
    name, result = worked_on(project, "exit 1")
    assert result is Out.FAILED
    for _ in range(6):  # each in a row doubles it
        cooldown.record(project.workspace.paths.ensure(project.paths.backends), "script", Cause.RATE_LIMIT, "429")
    assert cooldown.active(project.paths.backends, "script") is not None
    project.agent("echo 1 >file; scriptorium submit-pr x")
    assert project.run("assign").code == 0

    assert project.run("code", name).code == 75
    assert project.run("code", name, env=jumped(project, offset))[:2] == (0, f"{name}\n")


@pytest.mark.parametrize("offset", [-YEAR, YEAR])
def test_a_red_answer_does_not_outlast_a_clock_that_jumped(project: Project, offset: int) -> None:
    name = submitted(project)
    project.configure(gate=f"test -e {project.root.parent}/green")
    assert project.run("merge").code == 3
    (project.root.parent / "green").touch()
    answers = [file for file in project.paths.gates.iterdir() if file.read_text().startswith("red")]
    for file in answers:
        os.utime(file, (time.time() + offset, time.time() + offset))
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
