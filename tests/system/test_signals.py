"""Stop tokens: who requests a stop, and where it is raised, in the main thread and in others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scriptorium.errors import Stopped
from scriptorium.system import process, signals
from scriptorium.system.limits import Limits
from scriptorium.system.signals import StopToken
from tests.support import is_alive, until

NO_LIMITS = Limits(hard=0, no_output=0, no_progress=0)


def test_a_signal_is_acted_upon_only_at_safe_points() -> None:
    script = textwrap.dedent("""
        import os, signal
        from scriptorium.errors import Stopped
        from scriptorium.system import signals
        with signals.stoppable(), signals.stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            print("still here")
            try:
                signals.raise_if_stopped()
            except Stopped as stop:
                print(stop.exit_code)
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "still here\n143\nTrue\n", "")


def test_without_a_token_nothing_stops() -> None:
    signals.raise_if_stopped()
    with signals.stoppable() as token:
        token.request(signal.SIGINT)
        with pytest.raises(Stopped):
            signals.raise_if_stopped()
    signals.raise_if_stopped()


def test_an_inner_block_shares_the_token_of_the_outer_one() -> None:
    with signals.stoppable() as outer, signals.stoppable() as inner:
        assert inner is outer


def test_a_thread_shares_the_token_and_leaves_signal_handlers_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with signals.stoppable() as token:
            seen.append(token)
            seen.append(signal.getsignal(signal.SIGTERM) is before)
            try:
                signals.raise_if_stopped()
            except Stopped as stop:
                seen.append(stop.exit_code)

    with signals.stoppable() as token:
        token.request(signal.SIGTERM)
        signals.start_thread(work).join()
    assert seen == [token, True, 143]


def test_a_thread_of_its_own_has_a_token_that_no_signal_reaches() -> None:
    def work() -> tuple[StopToken, bool]:
        with signals.stoppable() as token:
            return token, signal.getsignal(signal.SIGTERM) == token.handle_signal

    with signals.stoppable() as outer, ThreadPoolExecutor(1) as pool:
        token, handled = pool.submit(work).result()
    assert token is not outer
    assert not handled


def test_one_request_stops_the_programs_of_two_threads(tmp_path: Path) -> None:
    token = StopToken()
    barrier = threading.Barrier(2)

    def work(name: str) -> int:
        script = f"echo $$ >{tmp_path / name}.new; mv {tmp_path / name}.new {tmp_path / name}; exec sleep 600"
        barrier.wait()  # both start their program, and the watchdog, at once
        with signals.stoppable(token):
            try:
                argv = ["/bin/sh", "-c", script]
                output = tmp_path / f"{name}.out"
                process.run_program(argv, cwd=tmp_path, env=os.environ, output=output, limits=NO_LIMITS)
            except Stopped as stop:
                return stop.signum
        return 0

    files = [tmp_path / "one", tmp_path / "two"]
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(work, file.name) for file in files]
        until(lambda: all(file.exists() for file in files))
        running = [int(file.read_text()) for file in files]
        assert all(is_alive(pid) for pid in running)
        token.request(signal.SIGINT)
        assert [result.result() for result in results] == [signal.SIGINT, signal.SIGINT]
    assert [pid for pid in running if is_alive(pid)] == []
