"""A transcript of an agent's work for the user, as it happens."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from typing import TextIO

from scriptorium.agents.harness.base import Event, EventKind
from scriptorium.system.text import printable

DIM, RED, GREEN, CYAN = "2", "31", "32", "36"


def say(text: str, stream: TextIO, end: str = "\n") -> None:
    """Print a text and flush, with '?' for characters that the stream's encoding does not have."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream, end=end, flush=True)


@dataclass
class Transcript:
    """Shows events on a stream. With ``hold`` each text waits for the next event, and so the answer is not shown."""

    stream: TextIO
    hold: bool = False
    last: str = field(default="", init=False)
    """The newest text, shown or held."""

    def event(self, event: Event) -> None:
        """Show one event, with all its lines."""
        text = printable(event.text).strip()
        if not text:
            return
        self.flush()
        if event.kind is EventKind.TEXT:
            self.last = text
            if not self.hold:
                self._print(text)
        else:
            self._print(f"[{event.kind}] {text}", DIM)

    def flush(self) -> None:
        """Show the held text, because it was not the answer."""
        if self.hold and self.last:
            self._print(self.last)
            self.last = ""

    def diff(self, path: str, old: str, new: str) -> None:
        """Show the change of a file as a unified diff; show nothing if it is unchanged."""
        colours = {"+": GREEN, "-": RED, "@": CYAN}
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), f"a/{path}", f"b/{path}", lineterm=""):
            self._print(printable(line), colours.get(line[:1], ""))

    def _print(self, text: str, colour: str = "") -> None:
        plain = not colour or not self.stream.isatty() or os.environ.get("NO_COLOR")
        say(text if plain else f"\x1b[{colour}m{text}\x1b[0m", self.stream)
