"""Runs `scriptorium` in forks of one interpreter that has the libraries loaded: a fifth of the cost of a new one.

Each pytest process starts one server, at its first request, which ends when pytest does. The server has one thread
and runs nothing of its own, so a fork inherits no lock. It loads the libraries, but forgets the modules of
scriptorium itself: every fork imports them anew, with whatever they compute at import.

A fork differs from a new interpreter in this: /proc shows the environment and the arguments of the server, its parent
is the server, it has the umask and the limits of the server, and it ends without tearing its modules down. A test for
which that matters asks for ``fresh=True``. A request with another environment for Python itself gets a new interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, NoReturn, TypedDict

LIBRARIES = ("colorlog", "filelock", "ruamel.yaml", "sh")
"""Libraries that no command imports before it needs them."""

AT_START = ("PYTHON", "LANG", "LC_", "LD_")
"""The prefix of variables that an interpreter reads when it starts."""

MODULE = ("-m", "scriptorium")

DESCRIPTORS = 4
"""The file descriptors of a request: its channel, and stdin, stdout and stderr of the fork."""

PARENT_CHECK = 5.0
"""Seconds between checks that pytest still runs, in case a stray process keeps its socket open."""


class Request(TypedDict):
    """The request for a fork; one line of JSON on its channel, which answers with its id and its exit status."""

    python: Sequence[str]
    """The arguments of the interpreter before those of the program: ``-m MODULE`` or ``-c CODE``."""
    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(AT_START)}


class Forked:
    """A running fork, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, channel: socket.socket, pipes: Sequence[IO[str] | None]) -> None:
        self.stdin, self.stdout, self.stderr = pipes
        self.returncode: int | None = None
        self._channel = channel
        self._replies = channel.makefile("rb")
        self.pid = self._reply()

    def _reply(self) -> int:
        line = self._replies.readline()
        assert line, "the fork server has ended"
        return int(line)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        if self.returncode is None and select.select([self._channel], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status; raises TimeoutExpired if that takes too long."""
        if self.returncode is None:
            if not select.select([self._channel], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("scriptorium", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self.returncode = self._reply()
        self._replies.close()
        self._channel.close()

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: str = "") -> tuple[str, str]:
        """Write to stdin, read all output, wait for the end, and return stdout and stderr."""
        read = ["", ""]

        def drain(number: int, pipe: IO[str]) -> None:
            with pipe:
                read[number] = pipe.read()

        pipes = enumerate((self.stdout, self.stderr))
        threads = [threading.Thread(target=drain, args=(n, pipe)) for n, pipe in pipes if pipe and not pipe.closed]
        for thread in threads:
            thread.start()
        if self.stdin and not self.stdin.closed:
            with contextlib.suppress(BrokenPipeError), self.stdin:
                self.stdin.write(input)
        for thread in threads:
            thread.join()
        self.wait()
        return read[0], read[1]


class ForkServer:
    """The server of this process."""

    def __init__(self) -> None:
        self.known = _at_start(os.environ)
        self._requests, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())]
        environment = {**self.known, "PATH": os.defpath, "HOME": os.devnull}
        self.process = subprocess.Popen(
            argv,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def fork(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
        python: Sequence[str] = MODULE,
    ) -> Forked:
        """Start `python -m scriptorium <argv>`, or with other arguments for Python.

        Each stream is a descriptor, DEVNULL or PIPE, which the caller gets as text.
        """
        theirs: list[int] = []
        pipes: list[IO[str] | None] = []
        for number, wanted in enumerate((stdin, stdout, stderr)):
            pipe, descriptor = _stream(wanted, writing=number == 0)
            pipes.append(pipe)
            theirs.append(descriptor)
        ours, channel = socket.socketpair()
        try:
            socket.send_fds(self._requests, [b"\n"], [channel.fileno(), *theirs])
            request = Request(python=python, argv=argv, cwd=str(cwd), env=dict(env))
            ours.sendall(json.dumps(request).encode() + b"\n")
        finally:
            channel.close()
            for descriptor in theirs:
                os.close(descriptor)
        return Forked(ours, pipes)

    def close(self) -> None:
        """End the server and all its forks."""
        self._requests.close()
        self.process.wait()


def _stream(wanted: int, *, writing: bool) -> tuple[IO[str] | None, int]:
    """Return the near end of a stream, None unless it is a pipe, and a descriptor of its far end."""
    if wanted == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_RDWR)
    if wanted != subprocess.PIPE:
        return None, os.dup(wanted)
    read, write = os.pipe()
    ours, theirs = (write, read) if writing else (read, write)
    return open(ours, "w" if writing else "r", encoding="utf-8", errors="surrogateescape", newline=""), theirs  # noqa: PTH123


@cache
def server() -> ForkServer:
    """Return the server of this pytest process, started when it is first asked for."""
    return ForkServer()


def can_serve(environ: Mapping[str, str]) -> bool:
    """Return whether a fork of the server is as good as a new interpreter with an environment."""
    return _at_start(environ) == server().known


def close() -> None:
    """End the server of this pytest process, if it has one, and wait for it."""
    if server.cache_info().currsize:
        server().close()
        server.cache_clear()


# The rest runs in the server and its forks.


def _preload() -> None:
    """Import the libraries that the commands of scriptorium use, and leave none of its own modules behind."""
    package = import_module("scriptorium.commands")
    commands = [f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
    for name in (*LIBRARIES, *commands):
        import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "scriptorium"]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page


def _serve(requests: socket.socket) -> None:
    """Fork for each request until the other end of the socket is closed, then kill the forks that are left."""
    parent = os.getppid()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    channels: dict[int, socket.socket] = {}
    while os.getppid() == parent:
        ready = select.select([requests, woken], [], [], PARENT_CHECK)[0]
        if woken in ready:
            woken.recv(4096)
            _reap(channels)
        if requests in ready and not _answer(requests, channels):
            break
    for pid in channels:
        os.kill(pid, signal.SIGKILL)


def _reap(channels: dict[int, socket.socket]) -> None:
    """Send the exit status of each fork that has ended."""
    for pid in list(channels):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with channels.pop(pid) as channel:
                _send_status(channel, os.waitstatus_to_exitcode(status))


def _send_status(channel: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # a failed test may have closed it
        channel.sendall(b"%d\n" % number)


def _answer(requests: socket.socket, channels: dict[int, socket.socket]) -> bool:
    """Fork for the next request; return whether there was one."""
    descriptors = socket.recv_fds(requests, 1, DESCRIPTORS)[1]
    if not descriptors:
        return False
    channel, streams = socket.socket(fileno=descriptors[0]), descriptors[1:]
    with channel.makefile("rb") as lines:
        request: Request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        _become(request, streams)
    for descriptor in streams:
        os.close(descriptor)
    channels[pid] = channel
    _send_status(channel, pid)
    return True


def _become(request: Request, streams: Sequence[int]) -> NoReturn:
    """Run in a fork as `python -m scriptorium` runs in a new process, and end in the same way."""
    code = 1
    try:
        _set_up(request, streams)
        code = _run(request)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        code = _flushed(code)
        if code == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 - nothing may run on into the server's own frames
        traceback.print_exc()
    finally:
        os._exit(code)


def _set_up(request: Request, streams: Sequence[int]) -> None:
    """Make this process look like a new process to its program."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(len(streams), os.sysconf("SC_OPEN_MAX"))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.path[0] = "" if request["python"][0] == "-c" else str(Path.cwd())
    sys.argv = [request["python"][0], *request["argv"]]
    sys.orig_argv = [sys.executable, *request["python"], *request["argv"]]
    for name, mode, buffering in (("stdin", "r", -1), ("stdout", "w", -1), ("stderr", "w", 1)):
        old = getattr(sys, name)
        new = open(old.fileno(), mode, buffering, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    _refresh_plumbum()


def _refresh_plumbum() -> None:
    """Update the environment of plumbum, which plumbum copies at import."""
    from plumbum import colors, local
    from plumbum.colorlib.styles import get_color_repr

    local.env.clear()
    local.env.update(os.environ)
    colors.use_color = get_color_repr()


def _run(request: Request) -> int:
    """Run the program and return the exit code of the interpreter, -SIGINT if it would kill itself by SIGINT."""
    option, what = request["python"]
    try:
        if option == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), main.__dict__)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def _flushed(code: int) -> int:
    """Flush stdout and stderr, and return the exit code, which is 120 if stdout cannot be written."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        traceback.print_exc()
        return 120
    return code


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is for pytest
        _preload()
        _serve(socket.socket(fileno=int(sys.argv[1])))
