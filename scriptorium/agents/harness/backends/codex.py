"""OpenAI's Codex CLI, by `codex exec --json`.

It prints one JSON object a line. Only `turn.completed` and `turn.failed` end a turn; `error` lines and
items are often retries. Usage is the usage of the whole thread, and input includes cached tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scriptorium.agents.harness.base import Event, EventKind, Harness, Report, Task, parse_event
from scriptorium.agents.harness.classify import classify
from scriptorium.agents.harness.usage import Usage, count


class Codex(Harness):
    """The `codex` on PATH, with the user's sign-in and configuration."""

    name = "codex"
    model_prefixes = ("gpt-", "codex-")
    wants_endpoint = True
    can_resume = True
    needs = ("CODEX_*", "OPENAI_*")

    def argv(self, task: Task, last_message: Path) -> list[str]:
        # Global options after `exec` are ignored without a warning, so all are options of exec.
        argv = ["codex", "exec", "--json", "--skip-git-repo-check"]
        argv += ["--output-last-message", str(last_message), "--cd", str(task.directory)]
        argv += self.model_options(task)
        argv += _confinement(task)
        # A refused connection must fail, so that the backend cools down. The built-in provider's retries (half a
        # minute in all) cannot be configured; those of a provider in config.toml are the user's choice.
        argv += ["-c", "features.unbounded_connection_retries=false"]
        if task.effort:
            argv += ["-c", f'model_reasoning_effort="{task.effort}"']
        if task.endpoint:
            # required: an agent that cannot submit must not start; approve: exec asks no user
            server = (
                f'{{url="{task.endpoint}",bearer_token_env_var="SCRIPTORIUM_TOKEN",'
                'enabled=true,required=true,default_tools_approval_mode="approve"}'
            )
            argv += ["-c", f"mcp_servers.scriptorium={server}"]
        if task.session:
            argv += ["resume", task.session.id]
        return [*argv, "-"]

    def program(self) -> str:
        return "codex"

    def version(self) -> Sequence[str]:
        return ("codex", "--version")

    def login(self) -> Sequence[str]:
        return ("codex", "login", "status")

    def account(self, env: Mapping[str, str]) -> str:
        if env.get("CODEX_API_KEY"):
            return "by CODEX_API_KEY"
        import tomllib  # late, for `status`

        home = env.get("CODEX_HOME") or Path(env.get("HOME", "/"), ".codex")
        try:
            provider = tomllib.loads(Path(home, "config.toml").read_text()).get("model_provider", "openai")
        except (OSError, ValueError):
            return ""
        return "" if provider == "openai" else f"by model provider '{provider}' of its configuration"

    def sign_in(self) -> str:
        return "codex login, or set CODEX_API_KEY"

    def probe(self) -> Sequence[str]:
        return ("codex", "sandbox", "-c", 'sandbox_mode="workspace-write"', "--", "true")

    def install_hint(self) -> str:
        return "install it with 'npm i -g @openai/codex', or name a program of your own under 'harnesses'"

    def read(self, line: bytes, report: Report) -> Iterator[Event]:
        event = parse_event(line)
        match event.get("type"):
            case "thread.started":
                report.session = str(event.get("thread_id", ""))
            case "item.started" | "item.updated" | "item.completed" as when:
                item = event.get("item")
                if isinstance(item, dict):
                    yield from _item(item, when, report)
            case "turn.completed":
                usage = event.get("usage")
                report.total = Usage(
                    tokens_in=count(usage, "input_tokens"),
                    tokens_cached=count(usage, "cached_input_tokens"),
                    tokens_out=count(usage, "output_tokens"),
                    tokens_reasoning=count(usage, "reasoning_output_tokens"),
                )
                report.error, report.cause = "", None
            case "turn.failed":
                error = event.get("error")
                report.error = str(error.get("message", "")) if isinstance(error, dict) else str(error)
                report.cause = classify(0, report.error)
                yield Event(EventKind.NOTE, report.error)
            case "error":
                report.error = str(event.get("message", ""))
                report.cause = classify(0, report.error)
                yield Event(EventKind.NOTE, report.error)


def _confinement(task: Task) -> list[str]:
    """Return the options for codex's sandbox, in which .git is read-only and the shell has no network.

    /tmp is not writable, because it holds the other worktrees; TMPDIR is the run's own.
    """
    if not task.sandboxed:
        return ["--dangerously-bypass-approvals-and-sandbox"]
    if task.read_only:
        return ["--sandbox", "read-only"]
    return ["--sandbox", "workspace-write", "-c", "sandbox_workspace_write.exclude_slash_tmp=true"]


def _item(item: dict[str, Any], when: str, report: Report) -> Iterator[Event]:
    """Update the report from an item (a message, a thought or a tool call), and yield its events."""
    kind, done = item.get("type"), when == "item.completed"
    if kind == "error":
        yield Event(EventKind.NOTE, str(item.get("message", "")))
        return
    report.worked = True
    report.error, report.cause = "", None  # a lost connection is restored
    match kind:
        case "agent_message":
            if done:
                report.message = str(item.get("text", ""))
                yield Event(EventKind.TEXT, report.message)
        case "reasoning":
            yield Event(EventKind.THINKING, str(item.get("text", "")))
        case "command_execution":
            yield Event(EventKind.TOOL, str(item.get("command", "")) if not done else "")
        case "mcp_tool_call":
            yield Event(EventKind.TOOL, f"{item.get('server')}.{item.get('tool')}" if not done else "")
        case "file_change":
            changes = item.get("changes")
            listed = changes if isinstance(changes, list) else []
            paths = [str(change.get("path")) for change in listed if isinstance(change, dict)]
            yield Event(EventKind.TOOL, f"edit {', '.join(paths)}")
        case _:
            yield Event(EventKind.TOOL, str(kind))
