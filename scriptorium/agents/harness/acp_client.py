"""Holds one turn with an agent that speaks the Agent Client Protocol, and reports it.

This program runs between `scriptorium.system.process` and the agent, because the protocol needs both pipes.
It reads the prompt from stdin and takes `Options` and the agent's command line as arguments. It prints one JSON
object a line:

    {"type": "agent", "name": str, "version": str}
    {"type": "session", "id": str}                     the prompt is sent next
    {"type": "text", "text": str, "new": bool}         whole lines; ``new`` where a message begins
    {"type": "thinking", "text": str, "new": bool}
    {"type": "plan", "text": str}                      the agent's own list, an entry a line
    {"type": "tool", "status": str, "title"?: str}     a title only where it is new
    {"type": "permission", "title": str, "allowed": bool}
    {"type": "cost", "usd": float}                     of the whole session so far
    {"type": "note", "text": str}
    {"type": "end", "stop": str, "usage"?: {"in": int, "cached": int, "out": int, "reasoning": int}}
    {"type": "error", "message": str, "code"?: int}

The last line is an ``end`` with exit code 0 or an ``error`` with exit code 1; a killed run has neither. The
client offers no file or terminal service, so the agent uses its own tools in its own process. The runner
enforces limits, keeps logs and ends the process tree.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import acp
from acp import schema
from acp.core import ClientSideConnection
from acp.transports import spawn_stdio_transport

from scriptorium.version import VERSION

CANCEL_GRACE = 1.0
"""Seconds for the agent to end a cancelled turn; less than the runner gives this program."""

MAX_NOTE = 500
"""Characters of a note, which quotes the agent's output."""

READING_MODES = ("plan", "read-only")
"""Names that agents use for modes in which they write nothing."""

WRITING = ("edit", "delete", "move", "execute")
"""Kinds of tools that are refused in a read-only run."""


@dataclass(frozen=True)
class Options:
    """The settings for the turn; '' leaves a choice to the agent."""

    endpoint: str = ""
    model: str = ""
    mode: str = ""
    effort: str = ""
    session: str = ""
    spent: float = 0
    """Cost of the session so far, in US dollars."""
    read_only: bool = False


class Failure(Exception):
    """The turn failed for a reason that this program found."""


def main() -> int:
    """Hold one turn; the arguments are the options as JSON, then the agent's command line."""
    options, *command = sys.argv[1:]
    logging.basicConfig(handlers=[_Complaints()], level=logging.WARNING)
    prompt = sys.stdin.buffer.read().decode(errors="replace")
    turn = _Turn(Options(**json.loads(options)), prompt)
    try:
        asyncio.run(turn.hold(command))
        return 0
    except acp.RequestError as error:
        turn.fail(_explain(error), code=error.code)
    except (Failure, OSError, ValueError) as error:  # a ValueError is a malformed answer
        turn.fail(str(error))
    except asyncio.CancelledError:
        turn.fail("the run was stopped")
    return 1


class _Turn:
    """One prompt and its results; also the client that the agent calls."""

    def __init__(self, options: Options, prompt: str) -> None:
        self._options = options
        self._prompt = prompt
        self._reporting = False
        self._speech = _Speech()
        self._titles: dict[str, str] = {}
        self._before: float | None = None

    async def hold(self, command: Sequence[str]) -> None:
        """Start the agent, hold the turn and end the agent."""
        loop, here = asyncio.get_running_loop(), asyncio.current_task()
        assert here is not None
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, here.cancel)
        async with spawn_stdio_transport(
            *command,
            env=os.environ,
            stderr=None,
            limit=1024 * 1024,
            shutdown_timeout=CANCEL_GRACE,
        ) as (reader, writer, process):
            # only offered services need a method
            agent = acp.connect_to_agent(cast(acp.Client, self), writer, reader)
            try:
                await self._converse(agent)
            except ConnectionError as error:
                raise Failure(await _end_of(process)) from error
            finally:
                with suppress(ConnectionError):
                    await agent.close()

    async def _converse(self, agent: ClientSideConnection) -> None:
        able = await self._introduce(agent)
        session, choices = await self._open(agent, able)
        await self._choose(agent, session, choices)
        self._reporting = True
        emit("session", id=session)
        answer = await self._ask(agent, session)
        self._speech.end()
        if answer.stop_reason != "end_turn":
            raise Failure(f"the agent stopped early: {answer.stop_reason.replace('_', ' ')}")
        emit("end", stop=answer.stop_reason, **({"usage": _count(answer.usage)} if answer.usage else {}))

    async def _introduce(self, agent: ClientSideConnection) -> schema.AgentCapabilities:
        me = schema.Implementation(name="scriptorium", version=VERSION)
        answer = await agent.initialize(acp.PROTOCOL_VERSION, schema.ClientCapabilities(), me)
        if answer.protocol_version != acp.PROTOCOL_VERSION:
            raise Failure(f"the agent speaks version {answer.protocol_version} of the protocol, not 1")
        info = answer.agent_info
        emit("agent", name=info.name if info else "", version=info.version if info else "")
        return answer.agent_capabilities or schema.AgentCapabilities()

    async def _open(self, agent: ClientSideConnection, able: schema.AgentCapabilities) -> tuple[str, _Choices]:
        """Start or resume a session; return its id and its choices."""
        here, session, servers = os.getcwd(), self._options.session, self._servers(able)  # noqa: PTH109
        if not session:
            new = await agent.new_session(here, mcp_servers=servers)
            return new.session_id, _Choices(new.config_options, new.modes)
        if able.session_capabilities and able.session_capabilities.resume:
            resumed = await agent.resume_session(session, here, mcp_servers=servers)
            return session, _Choices(resumed.config_options, resumed.modes)
        if able.load_session:
            loaded = await agent.load_session(here, session, mcp_servers=servers)  # repeats the whole session first
            return session, _Choices(loaded.config_options, loaded.modes)
        raise Failure("the agent cannot resume a session")

    def _servers(self, able: schema.AgentCapabilities) -> list[Any]:
        if not self._options.endpoint:
            return []
        if not (able.mcp_capabilities and able.mcp_capabilities.http):
            emit("note", text="the agent supports no MCP server over HTTP, so it has the command line only")
            return []
        bearer = schema.HttpHeader(name="Authorization", value=f"Bearer {os.environ.get('SCRIPTORIUM_TOKEN', '')}")
        url = self._options.endpoint
        return [schema.HttpMcpServer(type="http", name="scriptorium", url=url, headers=[bearer])]

    async def _choose(self, agent: ClientSideConnection, session: str, choices: _Choices) -> None:
        """Set the model, the mode and the effort if they are given and the agent offers them."""
        options = self._options
        mode = options.mode or (choices.first("mode", READING_MODES) if options.read_only else "")
        for what, wish in (("model", options.model), ("mode", mode), ("thought_level", options.effort)):
            option = choices.option(what) if wish else None
            if option and wish in option.values:
                changed = await agent.set_config_option(option.id, session, wish)
                choices = _Choices(changed.config_options, choices.modes)
            elif option and what != "thought_level":
                near = ", ".join(f"'{value}'" for value in get_close_matches(wish, option.values, 5, 0))
                raise Failure(f"the agent does not offer {what} '{wish}', but {near}")
            elif what == "mode" and wish and choices.modes:
                await agent.set_session_mode(session, wish)
            elif wish:
                emit("note", text=f"the agent offers no choice of {what.replace('_', ' ')}: '{wish}' is ignored")

    async def _ask(self, agent: ClientSideConnection, session: str) -> schema.PromptResponse:
        asked = asyncio.ensure_future(agent.prompt(session, [acp.text_block(self._prompt)]))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            await agent.cancel(session)
            await asyncio.wait([asked], timeout=CANCEL_GRACE)
            raise

    async def request_permission(
        self, options: list[schema.PermissionOption], tool_call: schema.ToolCallUpdate, **_: Any
    ) -> schema.RequestPermissionResponse:
        """Allow a tool call for the user, unless the run is read-only and the tool writes."""
        allowed = not (self._options.read_only and tool_call.kind in WRITING)
        # prefer once to always, which an agent may save in the worktree or the user's configuration
        wanted = ("allow_once", "allow_always") if allowed else ("reject_once", "reject_always")
        found = next((option for kind in wanted for option in options if option.kind == kind), None)
        self._speech.end()
        emit("permission", title=tool_call.title or "", allowed=allowed and found is not None)
        if found is None:
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        return schema.RequestPermissionResponse(
            outcome=schema.AllowedOutcome(outcome="selected", option_id=found.option_id)
        )

    async def session_update(self, update: Any, **_: Any) -> None:
        """Report an action of the agent, but not the history of a loaded session."""
        if not self._reporting:
            return
        match update:
            case schema.AgentMessageChunk(content=schema.TextContentBlock(text=text)):
                self._speech.say("text", update.message_id, text)
            case schema.AgentThoughtChunk(content=schema.TextContentBlock(text=text)):
                self._speech.say("thinking", update.message_id, text)
            case schema.ToolCallStart() | schema.ToolCallProgress():
                self._tool(update)
            case schema.AgentPlanUpdate():
                self._speech.end()
                emit("plan", text="\n".join(entry.content for entry in update.entries))
            case schema.UsageUpdate(cost=schema.Cost(amount=amount, currency="USD")):
                emit("cost", usd=self._cost(amount))

    def _tool(self, call: schema.ToolCallStart | schema.ToolCallProgress) -> None:
        self._speech.end()
        title = call.title or ""
        new = {"title": title} if title and title != self._titles.get(call.tool_call_id) else {}
        self._titles[call.tool_call_id] = title or self._titles.get(call.tool_call_id, "")
        emit("tool", status=call.status or "", **new)

    def _cost(self, amount: float) -> float:
        """Return the cost of the whole session.

        The protocol says that agents report this; claude-agent-acp 0.49 reports the cost since its start.
        """
        if self._before is None:
            self._before = self._options.spent if amount < self._options.spent else 0
        return self._before + amount

    def fail(self, message: str, **more: Any) -> None:
        self._speech.end()
        emit("error", message=message, **more)


async def _end_of(process: asyncio.subprocess.Process) -> str:
    """Return how an agent ended that closed its pipe."""
    said = f": {_Complaints.last}" if _Complaints.last else ""
    try:
        status = await asyncio.wait_for(process.wait(), CANCEL_GRACE)
    except TimeoutError:
        return f"the agent does not speak the protocol{said}"
    return f"the agent ended with exit code {status}{said}"


class _Choices:
    """The choices that the agent offers in a session."""

    def __init__(self, options: Sequence[Any] | None, modes: schema.SessionModeState | None) -> None:
        self._options = options or []
        self.modes = modes

    def first(self, category: str, wanted: Sequence[str]) -> str:
        """Return the first wanted value that the agent offers, or ''."""
        option = self.option(category)
        offered = option.values if option else [mode.id for mode in self.modes.available_modes] if self.modes else []
        return next((value for value in wanted if value in offered), "")

    def option(self, category: str) -> _Option | None:
        selects = (option for option in self._options if isinstance(option, schema.SessionConfigOptionSelect))
        found = next((option for option in selects if option.category == category), None)
        return _Option(found.id, _values(found)) if found else None


@dataclass(frozen=True)
class _Option:
    id: str
    values: list[str]


def _values(select: schema.SessionConfigOptionSelect) -> list[str]:
    values = []
    for option in select.options:
        members = option.options if isinstance(option, schema.SessionConfigSelectGroup) else [option]
        values += [member.value for member in members]
    return values


class _Speech:
    """Joins the pieces of messages and thoughts into whole lines."""

    def __init__(self) -> None:
        self._current: tuple[str, str | None] = ("", None)
        self._begins = True
        self._rest = ""

    def say(self, kind: str, message: str | None, text: str) -> None:
        if (kind, message) != self._current:
            self.end()
            self._current = (kind, message)
        lines, newline, self._rest = (self._rest + text).rpartition("\n")
        self._emit(lines + newline)

    def end(self) -> None:
        """Print the last, unfinished line of a message."""
        self._emit(self._rest)
        self._current, self._begins, self._rest = ("", None), True, ""

    def _emit(self, text: str) -> None:
        if text:
            emit(self._current[0], text=text, new=self._begins)
            self._begins = False


class _Complaints(logging.Handler):
    """Prints a note for each log record of the protocol's library, such as a line that is not a message."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = getattr(error, "doc", "")  # the line that is not JSON
        _Complaints.last = str(line or error or record.getMessage()).strip()[:MAX_NOTE]
        emit("note", text=f"{record.getMessage()}: {_Complaints.last}"[:MAX_NOTE])


def _explain(error: acp.RequestError) -> str:
    """Return the text of an agent's error, with the details that some agents send separately."""
    data = error.data if isinstance(error.data, dict) else {"details": error.data}
    details = next((data[key] for key in ("details", "message") if isinstance(data.get(key), str)), "")
    return f"{error}: {details}" if details and details not in str(error) else str(error)


def _count(usage: schema.Usage) -> dict[str, int]:
    """Return the tokens of a turn; the protocol counts each token in one kind only."""
    cached, reasoning = usage.cached_read_tokens or 0, usage.thought_tokens or 0
    return {
        "in": usage.input_tokens + cached + (usage.cached_write_tokens or 0),
        "cached": cached,
        "out": usage.output_tokens + reasoning,
        "reasoning": reasoning,
    }


def emit(kind: str, **facts: Any) -> None:
    print(json.dumps({"type": kind, **facts}), flush=True)
