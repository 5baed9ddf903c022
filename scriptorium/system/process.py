"""Starts agents and gates, enforces their limits and ends their process trees; no other module does.

Output goes straight to files. A killed run leaves all its output, and a slow or dead reader does
not block the program.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.system import watchdog
from scriptorium.system.limits import Limits
from scriptorium.system.signals import raise_if_stopped

MAX_LINE = 16 * 1024 * 1024
"""Bytes of a line of output that are parsed; the file has the whole line."""

MAX_OUTPUT = 512 * 1024 * 1024
"""Bytes of output after which a run is ended, before it fills the disk."""

MAX_SHEBANG = 256
"""Bytes of a script's first line that the kernel reads."""

POLL_INTERVAL = 0.1
"""Seconds between two checks of output and limits; the end of a run is noticed at once."""


class EndReason(StrEnum):
    """Why a run ended."""

    EXIT = "exit"
    HARD_LIMIT = "hard limit"
    NO_OUTPUT = "no output"
    NO_PROGRESS = "no progress"
    TOO_MUCH = "too much output"


@dataclass(frozen=True)
class Finished:
    """The result of a run; ``status`` is the exit code, or the negative number of a signal."""

    end: EndReason
    status: int
    seconds: float

    @property
    def ok(self) -> bool:
        return self.end is EndReason.EXIT and self.status == 0


def start_helper(argv: Sequence[str], inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a helper process. It must exit at the end of its stdin, and so ends when this process dies."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=inherited,
        start_new_session=True,
        cwd="/",
    )


def stop_helper(process: subprocess.Popen[bytes]) -> None:
    """Close the stdin of a helper and wait for its end."""
    process.communicate()


class Watchdog:
    """The helper process that ends the programs of this process when this process dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._mark = ""
        self._helper: subprocess.Popen[bytes] | None = None

    def ensure_running(self) -> str:
        """Start the helper unless it runs, and return the mark that programs need in their environment.

        Any thread may call this. A forked process gets a mark and a helper of its own.
        """
        with self._lock:
            if self._owner != os.getpid():
                self._owner, self._helper = os.getpid(), None
                self._mark = f"SCRIPTORIUM_SESSION={secrets.token_hex(8)}"
            if self._helper is None or self._helper.poll() is not None:
                self._helper = start_helper([sys.executable, "-I", "-S", watchdog.__file__, self._mark])
            return self._mark


_watchdog = Watchdog()


class _Tail:
    """Reads the complete lines that are added to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self.size = 0

    def lines(self) -> list[bytes]:
        data = self._file.read(MAX_LINE)
        self.size += len(data)
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-MAX_LINE:]
        return whole

    def written(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> Iterator[bytes]:
        """Yield the remaining lines; of a large remainder only the last `MAX_LINE` bytes, which hold the result."""
        end = self.written()
        if end - self._file.tell() > MAX_LINE:
            self._file.seek(end - MAX_LINE)
            self._rest = b""
        yield from self.lines()
        self._file.close()
        if self._rest:
            yield self._rest


def run_program(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: Path,
    errors: Path | None = None,
    prompt: Path | None = None,
    limits: Limits,
    watch: Callable[[bytes], bool] | None = None,
    stderr_is_progress: bool = False,
    first_signal: int = signal.SIGTERM,
) -> Finished:
    """Run a program until it exits or reaches a limit, and end its whole process tree.

    ``output`` receives stdout, and stderr too unless ``errors`` is given; ``prompt`` is its stdin.
    ``watch`` is called with each line of output and returns whether the line shows progress. With
    ``stderr_is_progress``, output on stderr counts as progress, too. Raises `Stopped`, after ending
    the program, if a stop is requested.
    """
    session = _watchdog.ensure_running()
    mark = f"SCRIPTORIUM_RUN={secrets.token_hex(8)}"
    environment = {**env, **dict([mark.split("=", 1), session.split("=", 1)])}
    done = threading.Event()
    with output.open("wb") as out, _open_errors(errors, out) as err, Path(prompt or os.devnull).open("rb") as stdin:
        process = _launch(argv, _cwd=str(cwd), _env=environment, _in=stdin, _out=out, _err=err)
        started = time.monotonic()
        # sh notices the end up to a second late, so a thread waits for it
        threading.Thread(target=_set_at_end, args=(process, done), daemon=True).start()
        tail = _Tail(output)
        try:
            end = _watch(done, tail, errors, limits, started, watch, stderr_is_progress=stderr_is_progress)
        finally:
            # the id of a leader that has exited may be reused
            watchdog.end(mark, *([] if done.is_set() else [process.pid]), first=first_signal)
            done.wait(5)
            for line in tail.close():
                if watch:
                    watch(line)
    status = process.exit_code if done.is_set() else -signal.SIGKILL
    return Finished(end, -signal.SIGKILL if status is None else int(status), time.monotonic() - started)


def _launch(argv: Sequence[str], **settings: Any) -> Any:
    """Start a program in a session of its own, connected to files; return sh's process."""
    import sh  # late: 54 ms

    try:
        program = sh.Command(argv[0])
        running = program(
            *argv[1:], _tty_in=False, _tty_out=False, _bg=True, _bg_exc=False, _new_session=True, **settings
        )
    except (sh.CommandNotFound, sh.ForkException) as error:
        why, hint = _start_failure(argv[0], error)
        raise ScriptoriumError(f"cannot start '{argv[0]}': {why}", hint, ExitCode.CONFIG) from error
    return running.process


def _start_failure(name: str, error: Exception) -> tuple[str, str]:
    """Return why a program cannot be started, and a hint; for a missing interpreter the system names the script."""
    program = shutil.which(name)
    if program is None:
        return "not found on PATH", "install it, or name another program in 'scriptorium.json'"
    with Path(program).open("rb") as file:
        is_script, words = file.read(2) == b"#!", file.readline(MAX_SHEBANG).strip(b" \t\n").split(b" ")
    interpreter = os.fsdecode(words[0])
    if is_script and not shutil.which(interpreter):
        return f"its interpreter '{interpreter}' does not exist", "install it, or correct the first line of the script"
    if not is_script and "Exec format error" in str(error):
        return "it is neither a script nor a program for this machine", "begin a script with a line such as '#!/bin/sh'"
    return str(error).strip().rpartition("\n")[2].strip(), "check that it runs from a shell"


def _set_at_end(process: Any, done: threading.Event) -> None:
    process.wait()
    done.set()


@contextmanager
def _open_errors(errors: Path | None, out: Any) -> Iterator[Any]:
    if errors is None:
        yield out
        return
    with errors.open("wb") as err:
        yield err


def _watch(
    done: threading.Event,
    tail: _Tail,
    errors: Path | None,
    limits: Limits,
    started: float,
    watch: Callable[[bytes], bool] | None,
    *,
    stderr_is_progress: bool,
) -> EndReason:
    """Wait until a run exits or reaches a limit, and return which."""
    heard = progressed = started
    size = complained = 0
    while not done.wait(POLL_INTERVAL):
        raise_if_stopped()
        lines = tail.lines()
        now = time.monotonic()
        other = errors.stat().st_size if errors else 0
        said = tail.size + other
        if said != size:
            size, heard = said, now
            shown = [watch(line) for line in lines] if watch else [True]
            if any(shown) or (stderr_is_progress and other != complained):
                progressed = now
            complained = other
        if tail.written() + other > MAX_OUTPUT:
            return EndReason.TOO_MUCH
        if limits.hard and now - started > limits.hard:
            return EndReason.HARD_LIMIT
        if limits.no_output and now - heard > limits.no_output:
            return EndReason.NO_OUTPUT
        if limits.no_progress and now - progressed > limits.no_progress:
            return EndReason.NO_PROGRESS
    return EndReason.EXIT


@dataclass(frozen=True)
class ProgramOutput:
    """The output of a short program; ``complaint`` is one line on why it failed, '' if it succeeded."""

    out: str
    complaint: str


def run_for_output(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], seconds: float) -> ProgramOutput:
    """Run a short program within a time limit and return its output. Creates a temporary directory in ``cwd``."""
    with tempfile.TemporaryDirectory(dir=cwd) as directory:
        output, errors = Path(directory, "stdout"), Path(directory, "stderr")
        limits = Limits(hard=seconds, no_output=0, no_progress=0)
        finished = run_program(argv, cwd=cwd, env=env, output=output, errors=errors, limits=limits)
        out, err = (file.read_text(errors="replace") for file in (output, errors))
    if finished.ok:
        return ProgramOutput(out, "")
    if finished.end is not EndReason.EXIT:
        return ProgramOutput(out, f"'{argv[0]}' gave no answer within {seconds:g} seconds")
    said = (line.strip() for line in (*err.splitlines(), *out.splitlines()))
    words = next((line for line in said if line and not line.startswith("WARNING")), "")
    return ProgramOutput(out, words[:300] or f"'{argv[0]}' ended with exit code {finished.status}")


def run_in_foreground(argv: Sequence[str], directory: Path) -> int:
    """Run a program on this terminal and return its exit code."""
    return subprocess.run(argv, cwd=directory, check=False).returncode


def terminate_leftovers(mark: str) -> None:
    """End the processes that a crashed run left behind; ``mark`` is ``NAME=value`` in their environment."""
    watchdog.end(mark, first=signal.SIGINT)
