"""Fuzzing of the output of agents: nothing that an agent prints forges a trailer, a field or a figure."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, cast

from hypothesis import strategies as st

from scriptorium.agents.failure import failure_of
from scriptorium.agents.harness.acp import Acp
from scriptorium.agents.harness.backends.claude_code import ClaudeCode
from scriptorium.agents.harness.backends.codex import Codex
from scriptorium.agents.harness.backends.typoi import Typoi
from scriptorium.agents.harness.base import Harness, Outcome, Report
from scriptorium.agents.harness.command import CommandHarness
from scriptorium.agents.harness.runner import sanitize_report
from scriptorium.agents.harness.usage import Usage
from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.ticket import State, Ticket, last_failure, parse_ticket
from scriptorium.project.config import Price, Program
from scriptorium.system.process import EndReason, Finished
from scriptorium.system.text import printable
from tests.fuzz.fuzz_cases import EMPTY_PLAN, STEERING, TICKETS, read, task
from tests.fuzzing import NASTY, altered, fuzzed, mutated, texts, values
from tests.support import Project

STREAMS: dict[str, tuple[Harness, list[dict[str, Any]]]] = {
    "codex": (
        Codex(),
        [
            {"type": "thread.started", "thread_id": "t-1"},
            {"type": "item.completed", "item": {"type": "agent_message", "text": "done"}},
            {"type": "item.started", "item": {"type": "command_execution", "command": "ls"}},
            {"type": "item.completed", "item": {"type": "file_change", "changes": [{"path": "a", "kind": "add"}]}},
            {"type": "item.started", "item": {"type": "mcp_tool_call", "server": "s", "tool": "t"}},
            {"type": "item.completed", "item": {"type": "reasoning", "text": "hm"}},
            {"type": "item.completed", "item": {"type": "error", "message": "retry"}},
            {"type": "turn.completed", "usage": {"input_tokens": 5, "cached_input_tokens": 1, "output_tokens": 2}},
            {"type": "turn.failed", "error": {"message": "usage limit, try again in 5 s"}},
            {"type": "error", "message": "HTTP status 429"},
        ],
    ),
    "claude": (
        ClaudeCode(),
        [
            {
                "type": "system",
                "subtype": "init",
                "session_id": "s",
                "mcp_servers": [{"name": "scriptorium", "status": "failed"}],
            },
            {"type": "system", "subtype": "api_retry", "error_status": 529, "attempt": 1, "error": "overloaded"},
            {"type": "assistant", "message": {"content": [{"type": "text", "text": "hello"}], "model": "m"}},
            {
                "type": "assistant",
                "message": {"content": [{"type": "tool_use", "name": "Bash", "input": {"command": "ls"}}]},
            },
            {"type": "user", "message": {"content": [{"type": "tool_result"}]}, "parent_tool_use_id": "x"},
            {
                "type": "result",
                "result": "done",
                "usage": {"input_tokens": 5, "output_tokens": 2},
                "total_cost_usd": 0.1,
            },
            {"type": "result", "is_error": True, "result": "API Error: 500", "errors": ["x"], "api_error_status": 500},
            {"type": "result", "model_usage_since_last_result": {"m": {"inputTokens": 1, "costUSD": 0.5}}},
            {"type": "result", "permission_denials": [{"tool_name": "Edit", "tool_input": {"path": "x"}}]},
        ],
    ),
    "acp": (
        Acp("mine", Program(("./agent",), protocol="acp"), Path("/")),
        [
            {"type": "session", "id": "s"},
            {"type": "text", "text": "hello", "new": True},
            {"type": "text", "text": " you", "new": False},
            {"type": "plan", "text": "a"},
            {"type": "tool", "status": "completed", "title": "ls"},
            {"type": "permission", "title": "edit", "allowed": False},
            {"type": "cost", "usd": 0.5},
            {"type": "end", "stop": "end_turn", "usage": {"in": 1, "cached": 1, "out": 1, "reasoning": 0}},
            {"type": "error", "message": "quota", "code": -32000},
        ],
    ),
    "typoi": (
        Typoi("m", ()),
        [
            {"type": "text", "text": "hello"},
            {"type": "thinking", "text": "hm"},
            {"type": "tool", "name": "ls"},
            {"type": "usage", "input_tokens": 5, "cached_tokens": 1, "output_tokens": 2, "cost_usd": 0.25},
            {"type": "error", "message": "connection refused"},
        ],
    ),
    "command": (CommandHarness("mine", Program(("./agent",)), Path("/")), [{"anything": "at all"}]),
}


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """The name of a harness and possible output of its program."""
    name = draw(st.sampled_from(sorted(STREAMS)))
    events = STREAMS[name][1]
    line = st.one_of(
        altered(*events).map(lambda event: json.dumps(event).encode()),
        mutated(*(json.dumps(event).encode() for event in events)),
        st.binary(max_size=20),
        st.just(b"[" * 100_000),
    )
    return name, draw(st.lists(line, max_size=6))


def trailers(message: bytes) -> list[tuple[str, str]]:
    """Return the trailers of a commit message, parsed by git."""
    argv = ["git", "interpret-trailers", "--parse", "--unfold"]
    out = subprocess.run(argv, input=message, capture_output=True, check=True).stdout.decode(errors="surrogateescape")
    return [cast(tuple[str, str], tuple(line.split(": ", 1))) for line in out.splitlines()]


@fuzzed(
    "agent streams",
    120,
    stream=streams(),
    end=st.sampled_from(EndReason),
    status=st.sampled_from((0, 1, -9)),
    body=mutated(*TICKETS),
)
def test_whatever_an_agent_prints_forges_nothing(
    tmp_path: Path, stream: tuple[str, list[bytes]], end: EndReason, status: int, body: bytes
) -> None:
    harness, report = STREAMS[stream[0]][0], Report()
    for said in stream[1]:
        for event in harness.read(said, report):
            assert not STEERING.search(printable(event.text))
    report = sanitize_report(report, task(tmp_path))
    outcome = Outcome(Finished(end, status, 1.0), report, tmp_path / "log", "agent")
    cause, reason = failure_of(outcome, task(tmp_path))
    json.dumps(outcome.trailers(), allow_nan=False)
    assert not STEERING.search(f"{reason} {report.error} {report.session}")
    assert not report.session.startswith("-")

    ticket = read(body) or parse_ticket("0001-a", State.IN_PROGRESS, TICKETS[-1])
    change = transitions.reopen(EMPTY_PLAN, ticket, cause, reason, report.message, 99, outcome.trailers())
    _unforged(change, ticket, cause)


def _unforged(change: PlanChange, ticket: Ticket, cause: Cause) -> None:
    """Assert that a commit has the expected message and the ticket has its old fields."""
    message = change.message().decode(errors="surrogateescape")
    subject, empty, *lines = message.split("\n")
    assert (subject, empty, lines.pop()) == (f"scriptorium: {change.verb} ticket {ticket.name}", "", "")
    assert not STEERING.search("".join(lines))
    keys = [line.partition(": ")[0] for line in lines]
    assert keys == [*(key for key, value in change.trailers.items() if value not in ("", None)), "Transaction"]
    for path, data in change.writes.items():
        if path.startswith("tickets/"):
            after = parse_ticket(ticket.name, State.OPEN, data)
            assert after.attempts == ticket.attempts + 1 or change.verb == "park"
            facts = (after.area, after.depends, after.priority, after.repair, after.title)
            assert facts == (ticket.area, ticket.depends, ticket.priority, ticket.repair, ticket.title)
            assert last_failure(after.text) == cause


@fuzzed(
    "commit messages",
    100,
    subject=texts(),
    facts=st.dictionaries(st.sampled_from(("Ticket", "Move", "Reason", "Agent")), texts()),
)
def test_no_text_forges_a_trailer(subject: str, facts: dict[str, object]) -> None:
    message = PlanChange("note", subject, trailers=facts).message().decode(errors="surrogateescape")
    first, _, rest = message.partition("\n\n")
    assert "\n" not in first
    assert not STEERING.search(message.replace("\n", ""))
    given = [key for key, value in facts.items() if str(value).split()]
    assert [line.partition(":")[0] for line in rest.split("\n")[:-1]] == [*given, "Transaction"]


def test_git_reads_the_trailers_that_were_meant(project: Project) -> None:
    for number, text in enumerate(NASTY):
        message = PlanChange("note", text, trailers={"Ticket": "0001-a", "Reason": text}).message()
        found = dict(trailers(message))
        assert found.pop("Ticket") == "0001-a", number
        assert set(found) <= {"Reason", "Transaction"}
        assert re.fullmatch(r"[0-9a-f]{16}", found["Transaction"])


@fuzzed(
    "usage kept",
    50,
    kept=altered({"tokens_in": 1, "cost_usd": 0.5}) | values(),
    price=st.sampled_from((None, Price(1e9, 1e9, 1e9))),
)
def test_usage_is_never_more_than_can_be_written(kept: Any, price: Price | None) -> None:
    usage = (Usage.parse(kept) - Usage.parse(kept) | Usage.parse(kept)).priced(price)
    json.dumps(usage.trailers(), allow_nan=False)
    assert "inf" not in str(usage.trailers())
