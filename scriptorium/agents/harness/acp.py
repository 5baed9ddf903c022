"""Any agent that speaks the Agent Client Protocol, such as opencode and gemini; it needs configuration only.

The program `acp_client` talks to the agent and prints the lines that this module reads; they are described there.
Tokens are those of one run, the cost is the cost of the whole session.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from scriptorium.agents.harness.base import Event, EventKind, Report, Task, parse_event
from scriptorium.agents.harness.classify import classify
from scriptorium.agents.harness.command import CommandHarness
from scriptorium.agents.harness.usage import Usage, amount, count
from scriptorium.plan.cause import Cause
from scriptorium.system.interpreter import command_for

AUTH_REQUIRED = -32000
"""The protocol's error code for an agent that is not signed in."""

MAX_MESSAGE = 256 * 1024
"""Characters of a message that are kept; it comes in pieces, and joining them all takes quadratic time."""


class Acp(CommandHarness):
    """A configured program with the protocol `acp`."""

    wants_endpoint = True
    stderr_is_progress = False
    can_resume = True

    def argv(self, task: Task, _last_message: Path) -> list[str]:
        options = {
            "endpoint": task.endpoint,
            "model": self._model(task.model),
            "mode": self._program.mode,
            "effort": task.effort,
            "session": task.session.id if task.session else "",
            "spent": task.session.spent.cost_usd if task.session else 0,
            "read_only": task.read_only,
        }
        client = command_for("scriptorium.agents.harness.acp_client")
        return [*client, json.dumps(options), *super().argv(task, _last_message)]

    def label(self, model: str) -> str:
        return super().label(self._model(model) or self.name)

    def _model(self, model: str) -> str:
        """Return the role's model, or the program's configured model if the role only names the program."""
        return model if model != self.name else self._program.model

    def read(self, line: bytes, report: Report) -> Iterator[Event]:
        event = parse_event(line)
        text = str(event.get("text", ""))
        kind = event.get("type")
        report.worked |= kind in ("text", "thinking", "plan", "tool", "permission")
        match kind:
            case "session":
                report.session = str(event.get("id", ""))
            case "text":
                report.message = text if event.get("new") else (report.message + text)[-MAX_MESSAGE:]
                yield Event(EventKind.TEXT, text)
            case "thinking" | "plan":
                yield Event(EventKind.THINKING, text)
            case "tool":
                yield Event(EventKind.TOOL, str(event.get("title", "")))
            case "permission":
                yield Event(EventKind.TOOL, "" if event.get("allowed") else f"refused: {event.get('title')}")
            case "note":
                yield Event(EventKind.NOTE, text)
            case "cost":
                report.total = Usage(cost_usd=amount(event, "usd"))
            case "end":
                used = event.get("usage")
                tokens = {f"tokens_{name}": count(used, name) for name in ("in", "cached", "out", "reasoning")}
                report.usage = Usage(**tokens)
            case "error":
                report.error = str(event.get("message", ""))
                code = count(event, "code")  # gemini sends an HTTP status; the protocol's own codes are negative
                report.status = code if 400 <= code < 600 else 0
                required = event.get("code") == AUTH_REQUIRED
                report.cause = Cause.AUTH if required else classify(report.status, report.error)
                yield Event(EventKind.NOTE, report.error)
