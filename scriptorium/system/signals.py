"""Stop requests: a signal or another thread makes one, and `Stopped` is raised at the next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from scriptorium.errors import Stopped


class StopToken:
    """Remembers that a stop was requested. Any thread or signal handler may request one."""

    def __init__(self) -> None:
        self._signum = 0

    def request(self, signum: int) -> None:
        """Request a stop as if this signal had arrived; the first request decides the exit code."""
        self._signum = self._signum or signum

    def handle_signal(self, signum: int, _frame: object) -> None:
        self.request(signum)

    def raise_if_stopped(self) -> None:
        """Raise `Stopped` if a stop was requested."""
        if self._signum:
            raise Stopped(self._signum)


_current: ContextVar[StopToken | None] = ContextVar("stop_token", default=None)


@contextmanager
def stoppable(token: StopToken | None = None) -> Iterator[StopToken]:
    """Make `raise_if_stopped` obey a stop token within a block, and yield the token.

    Without ``token`` an inner block shares the token of the outer block. The outermost block makes
    a new token; in the main thread SIGINT, SIGTERM and SIGHUP then request a stop on it.
    """
    found = token or _current.get()
    if found is not None:
        with _installed(found):
            yield found
        return
    new = StopToken()
    with _handlers(new), _installed(new):
        yield new


@contextmanager
def _installed(token: StopToken) -> Iterator[None]:
    before = _current.set(token)
    try:
        yield
    finally:
        _current.reset(before)


@contextmanager
def _handlers(token: StopToken) -> Iterator[None]:
    """Let signals request a stop within a block; Python allows signal handlers in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, token.handle_signal) for signum in signals}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def raise_if_stopped() -> None:
    """Raise `Stopped` if a stop was requested on the token of the surrounding `stoppable` block."""
    token = _current.get()
    if token is not None:
        token.raise_if_stopped()


def start_thread(target: Callable[..., object], *arguments: object) -> threading.Thread:
    """Start a daemon thread that shares the stop token of the calling thread."""
    thread = threading.Thread(target=copy_context().run, args=(target, *arguments), daemon=True)
    thread.start()
    return thread
