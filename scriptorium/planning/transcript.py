"""What an agent does and what changes, shown to a person as it comes."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from typing import TextIO

from scriptorium.agents.harness.base import Event, EventKind
from scriptorium.system.text import printable

DIM, RED, GREEN, CYAN = "2", "31", "32", "36"


def say(text: str, stream: TextIO, end: str = "\n") -> None:
    """Print a text at once, with a '?' for what the stream's encoding does not have: it may be anything."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream, end=end, flush=True)


@dataclass
class Transcript:
    """Shows events on a stream; with ``hold`` a text only when it was not the last, which is the answer."""

    stream: TextIO
    hold: bool = False
    last: str = field(default="", init=False)
    """The newest text, whether it has been shown yet or not."""

    def event(self, event: Event) -> None:
        """Show one event; a tool or a thought of many lines by all of them, each text by itself."""
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
        """Show a text that is held, because it was not the answer."""
        if self.hold and self.last:
            self._print(self.last)
            self.last = ""

    def diff(self, path: str, old: str, new: str) -> None:
        """Show how a file has changed, as a unified diff; nothing when it has not."""
        colours = {"+": GREEN, "-": RED, "@": CYAN}
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), f"a/{path}", f"b/{path}", lineterm=""):
            self._print(printable(line), colours.get(line[:1], ""))

    def _print(self, text: str, colour: str = "") -> None:
        plain = not colour or not self.stream.isatty() or os.environ.get("NO_COLOR")
        say(text if plain else f"\x1b[{colour}m{text}\x1b[0m", self.stream)
