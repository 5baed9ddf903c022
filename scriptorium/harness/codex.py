"""OpenAI's Codex CLI, by `codex exec --json`.

One JSON object a line. Only `turn.completed` and `turn.failed` end a turn: `error` lines and items
are often retries. Usage is the whole thread's so far, cached tokens included in the input.
"""

from __future__ import annotations

import json
from pathlib import Path

from scriptorium.harness import Harness, Report, Task


class Codex(Harness):
    """The `codex` on PATH, with the user's own sign-in and configuration."""

    name = "codex"
    wants_endpoint = True

    def argv(self, task: Task, last_message: Path) -> list[str]:
        # Options after `exec` that belong before it are dropped in silence, so all are exec's own.
        argv = ["codex", "exec", "--json", "--skip-git-repo-check"]
        argv += ["--output-last-message", str(last_message), "--cd", str(task.directory), "--model", task.model]
        argv += ["--dangerously-bypass-approvals-and-sandbox"]
        if task.effort:
            argv += ["-c", f'model_reasoning_effort="{task.effort}"']
        if task.endpoint:
            # required: an agent that cannot submit must not start; approve: exec never asks anybody
            server = (
                f'{{url="{task.endpoint}",bearer_token_env_var="SCRIPTORIUM_TOKEN",'
                'enabled=true,required=true,default_tools_approval_mode="approve"}'
            )
            argv += ["-c", f"mcp_servers.scriptorium={server}"]
        return [*argv, "-"]

    def program(self) -> str:
        return "codex"

    def remedy(self) -> str:
        return "install it with 'npm i -g @openai/codex', or name a program of your own under 'harnesses'"

    def read(self, line: bytes, report: Report) -> bool:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return False
        if not isinstance(event, dict):
            return False
        match event.get("type"):
            case "thread.started":
                report.session = str(event.get("thread_id", ""))
            case "item.completed":
                item = event.get("item")
                report.worked |= isinstance(item, dict) and item.get("type") != "error"
                if isinstance(item, dict) and item.get("type") == "agent_message":
                    report.message = str(item.get("text", ""))
                return not (isinstance(item, dict) and item.get("type") == "error")
            case "turn.completed":
                usage = event.get("usage")
                if isinstance(usage, dict):
                    report.tokens_in = _count(usage, "input_tokens")
                    report.tokens_cached = _count(usage, "cached_input_tokens")
                    report.tokens_out = _count(usage, "output_tokens")
                report.error = ""
            case "turn.failed":
                error = event.get("error")
                report.error = str(error.get("message", "")) if isinstance(error, dict) else str(error)
                return False
            case "error":
                report.error = str(event.get("message", ""))
                return False
        return True


def _count(usage: dict[str, object], key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) and value > 0 else 0
