"""Codex's output, without the program; tests/integration runs the real one."""

from __future__ import annotations

import json
from collections.abc import Mapping

from scriptorium.agents.harness.backends.codex import Codex
from scriptorium.agents.harness.base import Event, EventKind, Report
from scriptorium.plan.cause import Cause

LOST = {"type": "error", "message": "Reconnecting... 1/5 (stream disconnected before completion)"}


def read(*events: Mapping[str, object]) -> tuple[Report, list[Event]]:
    """Read lines as codex prints them."""
    report = Report()
    shown: list[Event] = []
    for event in events:
        shown += Codex().read(json.dumps(event).encode(), report)
    return report, shown


def item(**facts: object) -> dict[str, object]:
    return {"type": "item.completed", "item": facts}


def test_a_connection_that_came_back_explains_no_later_failure() -> None:
    report, shown = read(LOST)
    assert (report.cause, [event.kind for event in shown]) == (Cause.PROVIDER, [EventKind.NOTE])

    report, shown = read(LOST, item(type="agent_message", text="back again"))

    assert (report.cause, report.error, report.worked) == (None, "", True)
    assert shown[-1] == Event(EventKind.TEXT, "back again")


def test_lines_of_any_shape_are_read() -> None:
    report, shown = read(
        {"type": "thread.started", "thread_id": "01a2"},
        item(type="reasoning", text="hm"),
        item(type="file_change", changes=[{"path": "/w/p"}, 7]),
        item(type="mcp_tool_call", server="scriptorium", tool="submit_pr"),
        item(type="something new"),
        {"type": "item.completed", "item": "none"},
        {"type": "turn.completed", "usage": {"input_tokens": 7, "output_tokens": "x"}},
        {"type": "turn.failed", "error": "unexpected status 401 Unauthorized"},
    )
    assert [event.text for event in shown if event.text] == [
        "hm", "edit /w/p", "something new", "unexpected status 401 Unauthorized",
    ]  # fmt: skip
    assert (report.session, report.cause) == ("01a2", Cause.AUTH)
    assert report.total
    assert (report.total.tokens_in, report.total.tokens_out) == (7, 0)
