"""Requests that the user types in a terminal, with a history across sessions and multi-line input."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

from scriptorium.errors import Stopped


def read_lines(history: Path) -> Iterator[str]:
    """Yield each request until Ctrl-D. Ctrl-C discards the input; Alt-Enter or a paste inserts line breaks."""
    from prompt_toolkit import PromptSession  # late: it takes 0.2 s
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    history.touch(mode=0o600)
    session: PromptSession[str] = PromptSession("> ", history=FileHistory(str(history)), key_bindings=keys)

    def leave(signum: int, _frame: object) -> None:
        if session.app.loop is None:
            raise Stopped(signum)
        session.app.loop.call_soon_threadsafe(lambda: session.app.exit(exception=Stopped(signum)))

    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, leave)  # otherwise the terminal would stay without echo
    while True:
        try:
            yield session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
