"""Anthropic's Claude Code CLI, by `claude --print --output-format stream-json`.

It prints one JSON object a line. The last has the type `result`; an API error sets `is_error` while the
subtype is `success`. The usage of a message is an estimate, the usage of the result is exact.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scriptorium.agents.harness.base import Event, EventKind, Harness, Report, Task, parse_event
from scriptorium.agents.harness.classify import classify
from scriptorium.agents.harness.usage import Usage, amount, count
from scriptorium.plan.cause import Cause

# Edits outside the directory and everything that would ask the user are refused; the shell is not restricted.
ALLOWED = "Bash,Read,WebFetch,WebSearch,mcp__scriptorium"
READING = "Read,Grep,Glob"


class ClaudeCode(Harness):
    """The `claude` on PATH, with the user's sign-in and configuration."""

    name = "claude-code"
    model_prefixes = ("claude-",)
    wants_endpoint = True
    can_resume = True
    needs = ("ANTHROPIC_*", "CLAUDE_*", "API_TIMEOUT_MS", "BASH_*_TIMEOUT_MS", "MAX_*_TOKENS", "MCP_*TIMEOUT")

    def argv(self, task: Task, _last_message: Path) -> list[str]:
        argv = ["claude", "--print", "--output-format", "stream-json", "--verbose", *self.model_options(task)]
        argv += ["--strict-mcp-config"]  # a project's own servers would ask the user first
        if task.endpoint:
            headers = {"Authorization": "Bearer ${SCRIPTORIUM_TOKEN}"}  # replaced by claude, so ps does not show it
            server = {"type": "http", "url": task.endpoint, "headers": headers}
            argv += ["--mcp-config", json.dumps({"mcpServers": {"scriptorium": server}})]
        if task.read_only:
            argv += ["--tools", READING, "--permission-mode", "dontAsk"]
            argv += ["--allowed-tools", f"{READING},mcp__scriptorium"]
        else:
            argv += ["--permission-mode", "acceptEdits", "--allowed-tools", ALLOWED]
        if task.sandboxed:
            argv += ["--settings", json.dumps({"sandbox": _confinement(task)})]
        if task.effort:
            argv += ["--effort", "low" if task.effort == "minimal" else task.effort]
        if task.session:
            argv += ["--resume", task.session.id]
        return argv

    def settings(self, task: Task) -> Mapping[str, str]:
        ours = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        # A few quick retries; on longer failures the backend cools down. The user's own settings take precedence.
        ours["CLAUDE_CODE_MAX_RETRIES"] = "2"
        if task.limits.no_output:
            # claude reports a silent model before the no_output limit ends claude
            half = str(int(task.limits.no_output * 500))
            ours |= {"API_TIMEOUT_MS": half, "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": half}
        return {name: value for name, value in ours.items() if name not in task.env}

    def program(self) -> str:
        return "claude"

    def version(self) -> Sequence[str]:
        return ("claude", "--version")

    def login(self) -> Sequence[str]:
        return ("claude", "auth", "status")

    def sign_in(self) -> str:
        return "claude auth login, or set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN"

    def probe(self) -> Sequence[str]:
        if sys.platform == "darwin":
            return ("sandbox-exec", "-p", "(version 1) (allow default)", "true")
        # try its parts: 'claude sandbox status' does not detect missing user namespaces
        return ("sh", "-c", _TRIAL)

    def install_hint(self) -> str:
        return "install it with 'npm i -g @anthropic-ai/claude-code', or name a program of your own under 'harnesses'"

    def read(self, line: bytes, report: Report) -> Iterator[Event]:
        event = parse_event(line)
        match event.get("type"), event.get("subtype"):
            case "system", "init":
                report.session = str(event.get("session_id", ""))
                yield from _servers(event.get("mcp_servers"), report)
            case "system", "api_retry":
                report.status = count(event, "error_status")
                report.error = f"{event.get('error') or 'no answer'}, try {event.get('attempt')} failed"
                report.cause = classify(report.status, report.error) or Cause.PROVIDER
                yield Event(EventKind.NOTE, f"{report.error} ({report.status or 'no status'})")
            case "system", "thinking_tokens":
                yield Event(EventKind.THINKING, "")
            case "assistant" | "user" as role, _:
                message = event.get("message")
                if isinstance(message, dict) and message.get("model") != "<synthetic>":  # an error in claude's words
                    yield from _message(message, role, bool(event.get("parent_tool_use_id")), report)
            case "result", _:
                yield from _result(event, report)


_TRIAL = """
for program in bwrap socat; do
    command -v $program >/dev/null || { echo "'$program' is not on PATH" >&2; exit 1; }
done
exec bwrap --unshare-user --unshare-net --unshare-pid --ro-bind / / --dev /dev --proc /proc -- true
"""


def _confinement(task: Task) -> dict[str, object]:
    """Return the settings of the sandbox for its shell; its other tools are restricted by permissions.

    By default most of the git directory is writable, because a worktree's commits go there.
    """
    return {
        "enabled": True,
        "failIfUnavailable": True,
        "allowUnsandboxedCommands": False,
        "filesystem": {"denyWrite": [str(task.git_dir)]},
    }


def _servers(servers: object, report: Report) -> Iterator[Event]:
    """Record that the MCP server could not be reached; claude reports it nowhere else and goes on without it."""
    for server in servers if isinstance(servers, list) else []:
        if isinstance(server, dict) and server.get("name") == "scriptorium" and server.get("status") == "failed":
            report.cause, report.error = Cause.INFRASTRUCTURE, "the MCP server 'scriptorium' could not be reached"
            yield Event(EventKind.NOTE, report.error)


def _message(message: dict[str, Any], role: str, of_helper: bool, report: Report) -> Iterator[Event]:
    """Update the report from a message of the model or a tool result, and yield its events."""
    if role == "assistant":
        report.worked = True
        _forget_retries(report)
    content = message.get("content")
    for block in content if isinstance(content, list) else []:
        match block:
            case {"type": "text", "text": str(text)} if role == "assistant":
                if not of_helper:
                    report.message = text
                yield Event(EventKind.TEXT, text)
            case {"type": "thinking", "thinking": str(text)}:
                yield Event(EventKind.THINKING, text)
            case {"type": "tool_use", "name": str(name)}:
                yield Event(EventKind.TOOL, f"{name} {_argument(block.get('input'))}".rstrip())
            case {"type": "tool_result"}:
                yield Event(EventKind.TOOL, "")


def _argument(arguments: object) -> str:
    """Return the first text argument of a tool call, such as a command or a path."""
    values = arguments.values() if isinstance(arguments, dict) else []
    return next((" ".join(value.split()) for value in values if isinstance(value, str)), "")


def _result(event: dict[str, Any], report: Report) -> Iterator[Event]:
    report.usage = _usage(event)
    denied = event.get("permission_denials")
    for refused in denied if isinstance(denied, list) else []:
        if isinstance(refused, dict):
            what = f"{refused.get('tool_name')} {_argument(refused.get('tool_input'))}"
            report.error = report.error or f"a tool call was refused: {what.rstrip()}"
            yield Event(EventKind.NOTE, f"refused: {what.rstrip()}")
    if not event.get("is_error"):
        report.message = str(event.get("result") or report.message)
        return
    errors = event.get("errors")
    words = event.get("result") or "; ".join(map(str, errors if isinstance(errors, list) else []))
    status = count(event, "api_error_status")
    cause = classify(status, str(words))
    if cause is None and str(words).startswith("API Error"):
        cause = Cause.PROVIDER  # such as a malformed answer
    if cause or not report.cause:  # an interrupted run does not mention its retries
        report.cause, report.status, report.error = cause, status, str(words)
    yield Event(EventKind.NOTE, str(words))


def _forget_retries(report: Report) -> None:
    if report.cause is not Cause.INFRASTRUCTURE:
        report.cause, report.status, report.error = None, 0, ""


def _usage(event: dict[str, Any]) -> Usage:
    """Return the usage of the run, with all its models and helper agents."""
    # Older versions lack this key; their total starts at zero in each run (2.1.197). 2.1.330 counts the session.
    models = event.get("model_usage_since_last_result")
    if isinstance(models, dict) and models:
        parts = list(models.values())
        cached = sum(count(part, "cacheReadInputTokens") for part in parts)
        fresh = sum(count(part, "inputTokens") + count(part, "cacheCreationInputTokens") for part in parts)
        out = sum(count(part, "outputTokens") for part in parts)
        thought = sum(count(part, "thinkingTokens") for part in parts)
        return Usage(fresh + cached, cached, out, thought, sum(amount(part, "costUSD") for part in parts))
    usage = event.get("usage")
    cached = count(usage, "cache_read_input_tokens")
    fresh = count(usage, "input_tokens") + count(usage, "cache_creation_input_tokens")
    return Usage(fresh + cached, cached, count(usage, "output_tokens"), cost_usd=amount(event, "total_cost_usd"))
