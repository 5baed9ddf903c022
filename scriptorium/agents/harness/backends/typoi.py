"""Typoi, the original's own agent, for every model that no other backend takes.

No public copy of the program exists. The following is assumed, and tested with a stand-in only:

- it is called as ``typoi --model MODEL`` in the working directory, with the prompt on stdin, and exits
  with 0 if it is done;
- a line of its output is plain text, or a JSON object with a ``type``: ``text`` and ``thinking`` with a
  ``text``, ``tool`` with a ``name``, ``error`` with a ``message``, ``usage`` with ``input_tokens``,
  ``cached_tokens``, ``output_tokens``, ``reasoning_tokens`` and ``cost_usd``; any other type counts as progress only;
- it has no MCP, and submits by ``scriptorium submit-pr``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scriptorium.agents.harness.base import Event, EventKind, Harness, Report, Task, parse_event
from scriptorium.agents.harness.classify import classify
from scriptorium.agents.harness.usage import Usage, amount, count

if TYPE_CHECKING:
    from scriptorium.project.config import Config


class Typoi(Harness):
    """The `typoi` on PATH."""

    name = "typoi"
    model_prefixes = ("",)
    needs = ("TYPOI_*", "OPENAI_*")

    def __init__(self, model: str, configured: Collection[str]) -> None:
        self._model = model
        self._configured = configured

    @classmethod
    def create(cls, config: Config, model: str) -> Typoi:
        return cls(model, config.harnesses)

    def argv(self, task: Task, _last_message: Path) -> list[str]:
        return ["typoi", *self.model_options(task)]

    def program(self) -> str:
        return "typoi"

    def install_hint(self) -> str:
        """Return the models that the user may have meant; few users have typoi."""
        from difflib import get_close_matches  # late, for `status`

        from scriptorium.agents.harness.registry import builtin

        why = f"only typoi takes model '{self._model}'"
        near = get_close_matches(self._model, self._configured, 1)
        if near:
            return f"{why}; did you mean '{near[0]}'?"
        others = [kind for kind in builtin().values() if kind is not type(self)]
        known = [f"{_prefixes(kind)} ({kind.name})" for kind in others]
        known += [f"'{name}'" for name in sorted(self._configured)]
        return f"{why}; known: {', '.join(known)}"

    def read(self, line: bytes, report: Report) -> Iterator[Event]:
        event = parse_event(line)
        kind = event.get("type")
        if kind == "error":
            report.error = str(event.get("message", ""))
            report.cause = classify(0, report.error)
            yield Event(EventKind.NOTE, report.error)
        elif kind == "usage":
            report.usage = Usage(
                count(event, "input_tokens"),
                count(event, "cached_tokens"),
                count(event, "output_tokens"),
                count(event, "reasoning_tokens"),
                amount(event, "cost_usd"),
            )
        else:
            report.worked = True
            report.error, report.cause = "", None
            yield _shown(line, event, report)


def _prefixes(kind: type[Harness]) -> str:
    return " and ".join(f"'{prefix}…'" for prefix in kind.model_prefixes)


def _shown(line: bytes, event: dict[str, object], report: Report) -> Event:
    """Return the event in a line of output."""
    match event.get("type"):
        case "thinking":
            return Event(EventKind.THINKING, str(event.get("text", "")))
        case "tool":
            return Event(EventKind.TOOL, str(event.get("name", "")))
        case None | "text":
            report.message = str(event["text"]) if "text" in event else line.decode(errors="replace").strip()
            return Event(EventKind.TEXT, report.message)
    return Event(EventKind.TOOL, "")
