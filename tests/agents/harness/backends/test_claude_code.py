"""The Claude Code backend without the program: its command line, and its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptorium.agents.harness.backends.claude_code import ClaudeCode
from scriptorium.agents.harness.base import Event, EventKind, Report, Session, Task
from scriptorium.agents.harness.usage import Usage
from scriptorium.plan.cause import Cause
from scriptorium.system.limits import Limits

INIT = {"type": "system", "subtype": "init", "session_id": "7bc5", "mcp_servers": []}
RETRY = {"type": "system", "subtype": "api_retry", "attempt": 1, "error_status": 529, "error": "overloaded"}
RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "All done."}


def assistant(*blocks: dict[str, Any], model: str = "claude-opus-5-5", by: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "model": model, "content": list(blocks)}
    return {"type": "assistant", "message": message, "parent_tool_use_id": by}


def failed(result: str, status: int | None = None) -> dict[str, Any]:
    return {**RESULT, "is_error": True, "api_error_status": status, "result": result}


def read(*events: object) -> tuple[Report, list[Event]]:
    report = Report()
    return report, [shown for event in events for shown in ClaudeCode().read(json.dumps(event).encode(), report)]


def task(**more: Any) -> Task:
    limits = Limits(no_output=300)
    return Task("coding", "go", Path("/w"), Path("/logs"), "claude-opus-5-5", more.pop("effort", ""), limits, **more)


def argv(**more: Any) -> str:
    return " ".join(ClaudeCode().argv(task(**more), Path("/last")))


# -- the command line -----------------------------------------------------------------------------------


def test_the_submit_tool_is_given_with_the_token_left_to_the_environment() -> None:
    words = ClaudeCode().argv(task(endpoint="http://127.0.0.1:1/mcp"), Path("/last"))
    server = json.loads(words[words.index("--mcp-config") + 1])["mcpServers"]["scriptorium"]
    assert (server["type"], server["url"]) == ("http", "http://127.0.0.1:1/mcp")
    assert server["headers"] == {"Authorization": "Bearer ${SCRIPTORIUM_TOKEN}"}
    assert "--strict-mcp-config" in words
    assert "--mcp-config" not in argv()


@pytest.mark.parametrize(("effort", "said"), [("", None), ("minimal", "low"), ("high", "high")])
def test_the_least_effort_is_what_claude_calls_low(effort: str, said: str | None) -> None:
    assert argv(effort=effort).partition("--effort ")[2] == (said or "")


def test_a_session_is_resumed() -> None:
    assert argv(session=Session("7bc5", "go on")).endswith(" --resume 7bc5")
    assert "--resume" not in argv()


def test_a_read_only_run_has_no_tool_that_writes() -> None:
    assert "--tools Read,Grep,Glob --permission-mode dontAsk" in argv(read_only=True)
    assert "--permission-mode acceptEdits" in argv()


def test_limits_that_the_user_has_set_take_precedence() -> None:
    ours = ClaudeCode().settings(task())
    assert (ours["CLAUDE_CODE_MAX_RETRIES"], ours["API_TIMEOUT_MS"]) == ("2", "150000")
    mine = ClaudeCode().settings(task(env={"CLAUDE_CODE_MAX_RETRIES": "9", "API_TIMEOUT_MS": "1"}))
    assert not {"CLAUDE_CODE_MAX_RETRIES", "API_TIMEOUT_MS"} & mine.keys()
    assert mine["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"


# -- the lines ------------------------------------------------------------------------------------------


def test_actions_of_the_model_are_shown() -> None:
    report, shown = read(
        INIT,
        assistant({"type": "thinking", "thinking": "hm"}),
        {"type": "system", "subtype": "thinking_tokens", "estimated_tokens": 1},
        assistant({"type": "text", "text": "I will look."}),
        assistant({"type": "tool_use", "name": "Bash", "input": {"timeout": 5, "command": "git\n  log"}}),
        {"type": "user", "message": {"content": [{"type": "tool_result", "content": "x"}]}},
        RESULT,
    )
    assert [(event.kind, event.text) for event in shown] == [
        (EventKind.THINKING, "hm"),
        (EventKind.THINKING, ""),
        (EventKind.TEXT, "I will look."),
        (EventKind.TOOL, "Bash git log"),
        (EventKind.TOOL, ""),
    ]
    assert (report.session, report.worked, report.message, report.error) == ("7bc5", True, "All done.", "")


def test_the_words_of_a_helper_are_not_the_answer() -> None:
    report, _ = read(assistant({"type": "text", "text": "mine"}), assistant({"type": "text", "text": "its"}, by="t1"))
    assert report.message == "mine"


def test_usage_covers_all_models_of_this_run_only() -> None:
    mine = {"inputTokens": 10, "cacheReadInputTokens": 200, "cacheCreationInputTokens": 30, "outputTokens": 5}
    helper = {"inputTokens": 1, "outputTokens": 2, "thinkingTokens": 1, "costUSD": 0.25}
    since = {"opus": {**mine, "costUSD": 0.5}, "haiku": helper}
    session = {"usage": {"input_tokens": 10, "output_tokens": 5}, "total_cost_usd": 9.0}
    report, _ = read({**RESULT, **session, "model_usage_since_last_result": since})
    assert report.usage == Usage(241, 200, 7, 1, 0.75)


def test_usage_of_a_version_that_counts_each_run_is_its_total() -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 200, "cache_creation_input_tokens": 30, "output_tokens": 5}
    report, _ = read({**RESULT, "usage": usage, "total_cost_usd": 0.5})
    assert report.usage == Usage(240, 200, 5, 0, 0.5)


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (failed("Invalid API key · Fix external API key", 401), Cause.AUTH),
        (failed("Not logged in · Please run /login"), Cause.AUTH),
        (failed("API Error: Request rejected (429) · This would exceed your rate limit.", 429), Cause.RATE_LIMIT),
        (failed("API Error: 529 Overloaded. This is a server-side issue", 529), Cause.PROVIDER),
        (failed("API Error: JSON Parse error: Expected '}'"), Cause.PROVIDER),
        (failed("Request timed out. If the API is slow to answer, set API_TIMEOUT_MS"), Cause.PROVIDER),
        (failed("Prompt is too long · the request is ~200001 tokens (limit 200000)", 400), Cause.AGENT),
        (
            {**failed(""), "subtype": "error_during_execution", "errors": ["No conversation", "for it"]},
            None,
        ),
    ],
)
def test_a_failure_has_its_cause(event: dict[str, Any], cause: Cause | None) -> None:
    report, shown = read(INIT, assistant({"type": "text", "text": "its words"}, model="<synthetic>"), event)
    assert (report.cause, report.worked) == (cause, False)
    assert report.error == (event["result"] or "No conversation; for it")
    assert [event.kind for event in shown] == [EventKind.NOTE]


def test_a_retry_is_no_progress_and_ends_when_the_model_answers() -> None:
    report, [note] = read(INIT, RETRY)
    assert (note.kind, report.cause, report.status) == (EventKind.NOTE, Cause.PROVIDER, 529)
    report, _ = read(INIT, {**RETRY, "error": "of its own kind", "error_status": None})
    assert (report.cause, report.status) == (Cause.PROVIDER, 0)
    report, _ = read(INIT, RETRY, assistant({"type": "text", "text": "hello"}))
    assert (report.cause, report.status, report.error) == (None, 0, "")


def test_a_run_ended_during_retries_has_the_cause_of_the_retries() -> None:
    ended = {"type": "result", "subtype": "error_during_execution", "is_error": True, "errors": ["interrupted"]}
    report, _ = read(INIT, RETRY, ended)
    assert (report.cause, report.error) == (Cause.PROVIDER, "overloaded, try 1 failed")


def test_a_missing_submit_tool_stays_the_cause() -> None:
    gone = {"mcp_servers": [{"name": "other", "status": "failed"}, {"name": "scriptorium", "status": "failed"}]}
    report, _ = read({**INIT, **gone}, assistant({"type": "text", "text": "hello"}), RESULT)
    assert (report.cause, report.error) == (Cause.INFRASTRUCTURE, "the MCP server 'scriptorium' could not be reached")
    assert read({**INIT, "mcp_servers": [{"name": "other", "status": "failed"}]})[0].cause is None


def test_a_refused_tool_call_is_reported() -> None:
    denied = [{"tool_name": "Write", "tool_input": {"file_path": "/etc/motd", "content": "x"}}]
    report, [note] = read({**RESULT, "permission_denials": denied})
    assert (note.kind, note.text) == (EventKind.NOTE, "refused: Write /etc/motd")
    assert (report.error, report.cause) == ("a tool call was refused: Write /etc/motd", None)


FIELDS = (
    "session_id mcp_servers message error_status error attempt usage model_usage_since_last_result permission_denials "
    "is_error errors result api_error_status total_cost_usd parent_tool_use_id"
)
ODD: list[object] = [None, True, -1, float("nan"), "x", [], [1], [{}], {}, {"content": 1}, {"content": [1, {}]}]


@pytest.mark.parametrize("field", FIELDS.split())
@pytest.mark.parametrize("subtype", ["system init", "system api_retry", "assistant", "user", "result", "result error"])
def test_a_field_of_any_shape_does_not_stop_the_reading(subtype: str, field: str) -> None:
    kind, _, more = subtype.partition(" ")
    for odd in ODD:
        report, _ = read({"type": kind, "subtype": more, "is_error": bool(more), field: odd})
        assert json.dumps(report.usage.trailers(), allow_nan=False)


@given(st.binary())
def test_a_line_that_is_not_json_says_nothing(line: bytes) -> None:
    assert list(ClaudeCode().read(b"x" + line, Report())) == []
