"""Running agents and gates: limits, and the end of the whole process tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError
from scriptorium.system import process, watchdog
from scriptorium.system.limits import Limits
from scriptorium.system.process import EndReason, Finished
from scriptorium.system.watchdog import members
from tests.support import BUSY, busy_pids, is_alive, until

pytestmark = pytest.mark.slow

NO_LIMITS = Limits(hard=0, no_output=0, no_progress=0)

PARENT = """
import os, signal, sys
from pathlib import Path
from scriptorium.errors import Stopped
from scriptorium.system import process, signals
from scriptorium.system.limits import Limits
with signals.stoppable():
    try:
        process.run_program(["/bin/sh", "-c", sys.argv[1]], cwd=Path(), env=os.environ, output=Path("out"),
                    limits=Limits(hard=0, no_output=0, no_progress=0))
    except Stopped as stop:
        sys.exit(stop.exit_code)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, facts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(script: str, limits: Limits = NO_LIMITS, **more: object) -> Finished:
    argv = ["/bin/sh", "-c", script]
    return process.run_program(argv, cwd=Path(), env=os.environ, output=Path("out"), limits=limits, **more)  # type: ignore[arg-type]


def test_output_goes_to_files_the_prompt_to_stdin() -> None:
    Path("prompt").write_text("hello\n")

    finished = run("cat; echo bad >&2; printf 'no end'; exit 7", errors=Path("err"), prompt=Path("prompt"))

    assert (finished.end, finished.status, finished.ok) == (EndReason.EXIT, 7, False)
    assert Path("out").read_text() == "hello\nno end"
    assert Path("err").read_text() == "bad\n"
    assert run("echo bad >&2").ok
    assert Path("out").read_text() == "bad\n"


def test_a_run_without_a_prompt_reads_nothing() -> None:
    assert run("cat; test ! -t 0").ok
    assert Path("out").read_text() == ""


def test_every_line_is_seen_with_and_without_a_newline() -> None:
    lines: list[bytes] = []

    def watch(line: bytes) -> bool:
        lines.append(line)
        return True

    assert run("seq 3; head -c 100000 /dev/zero; printf '\\377\\nlast'", watch=watch).ok

    assert lines == [b"1", b"2", b"3", b"\0" * 100000 + b"\xff", b"last"]


def test_a_run_killed_by_a_signal_has_its_negative_number() -> None:
    assert run("kill -KILL $$").status == -signal.SIGKILL


def test_a_program_that_is_missing_is_a_configuration_error() -> None:
    with pytest.raises(ScriptoriumError) as caught:
        process.run_program(["no-such"], cwd=Path(), env=os.environ, output=Path("out"), limits=NO_LIMITS)

    assert str(caught.value) == (
        "cannot start 'no-such': not found on PATH\nhint: install it, or name another program in 'scriptorium.json'"
    )
    assert caught.value.code == 78


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"echo hi\n", "it is neither a script nor a program for this machine"),
        (b"#!/no/such/sh -e\n", "its interpreter '/no/such/sh' does not exist"),
        (b"#! /bin/sh\r\n", "its interpreter '/bin/sh\r' does not exist"),
    ],
)
def test_a_file_that_cannot_be_started_is_explained(text: bytes, why: str) -> None:
    program = Path("agent").absolute()
    program.write_bytes(text)
    program.chmod(0o755)

    with pytest.raises(ScriptoriumError) as caught:
        process.run_program([str(program)], cwd=Path(), env=os.environ, output=Path("out"), limits=NO_LIMITS)

    assert (caught.value.message, caught.value.code) == (f"cannot start '{program}': {why}", 78)


@pytest.mark.parametrize(
    ("limits", "end"),
    [
        (Limits(hard=1.5, no_output=0, no_progress=0), EndReason.HARD_LIMIT),
        (Limits(hard=0, no_output=1.5, no_progress=0), EndReason.NO_OUTPUT),
        (Limits(hard=0, no_output=0, no_progress=1.5), EndReason.NO_PROGRESS),
    ],
)
def test_a_limit_ends_children_in_other_sessions_too(facts: Path, limits: Limits, end: EndReason) -> None:
    finished = run(BUSY, limits)

    assert finished.end is end
    assert not finished.ok
    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []


def test_output_resets_one_limit_and_progress_the_other() -> None:
    chatter = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.3; done"

    assert run(chatter, Limits(hard=0, no_output=2, no_progress=0), watch=lambda _: False).end is EndReason.EXIT
    assert run(chatter, Limits(hard=0, no_output=0, no_progress=2), watch=lambda _: True).end is EndReason.EXIT
    assert run(chatter, Limits(hard=0, no_output=0, no_progress=2), watch=lambda _: False).end is EndReason.NO_PROGRESS


def test_stderr_counts_as_output() -> None:
    chatter = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i >&2; sleep 0.3; done"

    assert run(chatter, Limits(hard=0, no_output=2, no_progress=0), errors=Path("err")).end is EndReason.EXIT


def test_an_exit_ends_the_tree_and_waits_for_no_open_pipe(facts: Path) -> None:
    finished = run(BUSY.replace("exec sleep 600\n", "exit 5"))

    assert (finished.end, finished.status) == (EndReason.EXIT, 5)
    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []


def test_a_child_without_the_mark_is_ended_as_a_descendant(facts: Path) -> None:
    finished = run('env -i setsid sleep 600 & echo $! >"$FACTS/pids"; exec sleep 600', Limits(1.5, 0, 0))

    assert finished.end is EndReason.HARD_LIMIT
    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_to_the_parent_ends_the_tree(facts: Path, signum: signal.Signals, code: int) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, BUSY])
    running = busy_pids(facts)

    parent.send_signal(signum)

    assert parent.wait() == code
    assert [pid for pid in running if is_alive(pid)] == []


def test_the_watchdog_ends_the_tree_of_a_killed_parent(facts: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, BUSY])
    running = busy_pids(facts)

    parent.kill()

    assert parent.wait() == -signal.SIGKILL
    until(lambda: not any(is_alive(pid) for pid in running))


def test_the_watchdog_spares_programs_of_another_parent(facts: Path) -> None:
    bystander = subprocess.Popen(["sleep", "600"], env={**os.environ, "SCRIPTORIUM_SESSION": "another"})
    parent = subprocess.Popen([sys.executable, "-c", PARENT, BUSY])
    running = busy_pids(facts)
    try:
        parent.kill()
        parent.wait()
        until(lambda: not any(is_alive(pid) for pid in running))

        assert is_alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


def test_threads_that_start_programs_at_once_share_one_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    barrier = threading.Barrier(8)

    def start(_: list[str]) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "600"]))
        return started[-1]

    def ensure(watchdog: process.Watchdog) -> str:
        barrier.wait()
        return watchdog.ensure_running()

    monkeypatch.setattr(process, "start_helper", start)
    try:
        with ThreadPoolExecutor(8) as pool:
            marks = set(pool.map(ensure, [process.Watchdog()] * 8))
    finally:
        for helper in started:
            helper.kill()
            helper.wait()
    assert (len(started), len(marks)) == (1, 1)


def test_a_forked_process_has_a_watchdog_and_a_mark_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = process.Watchdog()
    running = subprocess.Popen(["sleep", "600"])
    monkeypatch.setattr(process, "start_helper", lambda _: running)
    try:
        mark = watchdog.ensure_running()
        assert watchdog.ensure_running() == mark
        monkeypatch.setattr(os, "getpid", lambda: 1)
        assert watchdog.ensure_running() != mark
    finally:
        running.kill()
        running.wait()


def test_leftovers_of_a_crash_are_found_by_their_mark(tmp_path: Path) -> None:
    mark = f"SCRIPTORIUM_WORKTREE={tmp_path}"
    left = subprocess.Popen(
        ["setsid", "sleep", "600"],
        env={"SCRIPTORIUM_WORKTREE": str(tmp_path), "PATH": os.environ["PATH"]},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in the background of a script
    )
    other = subprocess.Popen(
        ["sleep", "600"], env={"SCRIPTORIUM_WORKTREE": f"{tmp_path}-2", "PATH": os.environ["PATH"]}
    )
    try:
        process.terminate_leftovers(mark)

        assert left.wait() == -signal.SIGINT
        assert is_alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_a_flood_of_output_costs_little_and_its_last_line_is_seen(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"flood\n" * 10_000_000 + b"the end")
    tail = process._Tail(tmp_path / "out")

    count, last = 0, b""
    for line in tail.close():
        count, last = count + 1, line

    assert last == b"the end"
    assert count <= process.MAX_LINE / len(b"flood\n") + 2


EXECUTES = 'exec /bin/sh -c "$0" "$0"'
"""A shell script that executes itself again and again."""


def test_a_process_during_an_exec_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["/bin/sh", "-c", EXECUTES, EXECUTES]
    with subprocess.Popen(argv, env={"MARK": "x", "PATH": os.environ["PATH"]}) as process:
        # all others of the machine would be looked at as well, which takes a hundred times as long
        monkeypatch.setattr(watchdog, "_parents", lambda: {process.pid: os.getpid()})
        seen = [process.pid in members("MARK=x") for _ in range(10_000)]
        process.kill()
    assert all(seen)
