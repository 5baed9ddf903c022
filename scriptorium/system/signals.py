"""Signals that ask for a stop: remembered when they arrive, raised as `Stopped` where it is safe to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from scriptorium.errors import Stopped


class _Signals:
    """Remembers a signal to stop; acted upon where stopping is safe."""

    def __init__(self) -> None:
        self.received = 0

    def note(self, signum: int, _frame: object) -> None:
        self.received = self.received or signum


_signals = _Signals()


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Stopped` at the next safe point within a block; may be nested."""
    if signal.getsignal(signal.SIGTERM) == _signals.note:
        yield
        return
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    _signals.received = 0
    before = {signum: signal.signal(signum, _signals.note) for signum in watched}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _signals.received = 0  # a session goes on after a turn that was stopped


def raise_if_stopped() -> None:
    """Raise `Stopped` if a signal has arrived: this is a safe point."""
    if _signals.received:
        raise Stopped(_signals.received)
