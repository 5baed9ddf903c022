"""Holds one turn with an agent that speaks the Agent Client Protocol, and tells what it does.

A program of ours between `scriptorium.system.process` and the agent, because the protocol wants a partner on both
pipes: the prompt comes on stdin, the agent's command line and the wishes of `Options` as arguments, and one
JSON object a line goes to stdout:

    {"type": "agent", "name": str, "version": str}
    {"type": "session", "id": str}                     the prompt is sent now
    {"type": "text", "text": str, "new": bool}         whole lines; ``new`` where a message begins
    {"type": "thinking", "text": str, "new": bool}
    {"type": "plan", "text": str}                      the agent's own list, an entry a line
    {"type": "tool", "status": str, "title"?: str}     a title only where it is new
    {"type": "permission", "title": str, "allowed": bool}
    {"type": "cost", "usd": float}                     of the whole session so far
    {"type": "note", "text": str}
    {"type": "end", "stop": str, "usage"?: {"in": int, "cached": int, "out": int, "reasoning": int}}
    {"type": "error", "message": str, "code"?: int}

The last line is an ``end`` or an ``error``, and the exit code 0 or 1; a run that is killed has neither. No
file or terminal service is offered, so the agent works with its own tools in its own process. Limits, logs
and the end of the whole tree are the runner's.
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
"""Seconds for the agent to end a turn that is cancelled, less than what the runner gives us."""

MAX_NOTE = 500
"""Characters of a note, which quotes what the agent printed."""

READING_MODES = ("plan", "read-only")
"""Modes, by the names that agents give them, in which nothing is written."""

WRITING = ("edit", "delete", "move", "execute")
"""Kinds of tools that are refused to a run that is to write nothing."""


@dataclass(frozen=True)
class Options:
    """What is wished of the agent; '' leaves it to the agent."""

    endpoint: str = ""
    model: str = ""
    mode: str = ""
    effort: str = ""
    session: str = ""
    spent: float = 0
    """What the session has cost so far, in US dollars."""
    read_only: bool = False


class Failure(Exception):
    """The turn cannot be held, for a reason that is ours to tell."""


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
    except (Failure, OSError, ValueError) as error:  # a ValueError is an answer that is none
        turn.fail(str(error))
    except asyncio.CancelledError:
        turn.fail("the run was stopped")
    return 1


class _Turn:
    """One prompt and all that comes of it; also the client that the agent calls."""

    def __init__(self, options: Options, prompt: str) -> None:
        self._options = options
        self._prompt = prompt
        self._telling = False
        self._speech = _Speech()
        self._titles: dict[str, str] = {}
        self._before: float | None = None

    async def hold(self, command: Sequence[str]) -> None:
        """Start the agent, have the turn with it, and end it."""
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
            # services that are not offered need no method
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
        self._telling = True
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
        """Begin a session or go on with one; return its id and what can be chosen in it."""
        here, session, servers = os.getcwd(), self._options.session, self._servers(able)  # noqa: PTH109
        if not session:
            new = await agent.new_session(here, mcp_servers=servers)
            return new.session_id, _Choices(new.config_options, new.modes)
        if able.session_capabilities and able.session_capabilities.resume:
            resumed = await agent.resume_session(session, here, mcp_servers=servers)
            return session, _Choices(resumed.config_options, resumed.modes)
        if able.load_session:
            loaded = await agent.load_session(here, session, mcp_servers=servers)  # tells it all again first
            return session, _Choices(loaded.config_options, loaded.modes)
        raise Failure("the agent cannot go on with a session")

    def _servers(self, able: schema.AgentCapabilities) -> list[Any]:
        if not self._options.endpoint:
            return []
        if not (able.mcp_capabilities and able.mcp_capabilities.http):
            emit("note", text="the agent takes no MCP server over HTTP, so it has the command line alone")
            return []
        bearer = schema.HttpHeader(name="Authorization", value=f"Bearer {os.environ.get('SCRIPTORIUM_TOKEN', '')}")
        url = self._options.endpoint
        return [schema.HttpMcpServer(type="http", name="scriptorium", url=url, headers=[bearer])]

    async def _choose(self, agent: ClientSideConnection, session: str, choices: _Choices) -> None:
        """Choose the model, the mode and the effort where they are wished and can be chosen."""
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
                emit("note", text=f"the agent lets nobody choose {what.replace('_', ' ')} '{wish}'")

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
        """Answer for the user: yes, unless the run is to write nothing."""
        allowed = not (self._options.read_only and tool_call.kind in WRITING)
        # once before always: that may be written to a file of the worktree, or of the user's
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
        """Tell what the agent does; not what a session that is loaded did before."""
        if not self._telling:
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
    """Return how an agent ended that says nothing more."""
    said = f": {_Complaints.last}" if _Complaints.last else ""
    try:
        status = await asyncio.wait_for(process.wait(), CANCEL_GRACE)
    except TimeoutError:
        return f"the agent does not speak the protocol{said}"
    return f"the agent ended with exit code {status}{said}"


class _Choices:
    """What the agent lets us choose in a session."""

    def __init__(self, options: Sequence[Any] | None, modes: schema.SessionModeState | None) -> None:
        self._options = options or []
        self.modes = modes

    def first(self, category: str, wanted: Sequence[str]) -> str:
        """Return the first of some values that is offered, or ''."""
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
    """Puts the pieces of messages and thoughts together to whole lines."""

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
        """Let go of the last line of a message, because something else comes."""
        self._emit(self._rest)
        self._current, self._begins, self._rest = ("", None), True, ""

    def _emit(self, text: str) -> None:
        if text:
            emit(self._current[0], text=text, new=self._begins)
            self._begins = False


class _Complaints(logging.Handler):
    """Makes notes of what the protocol's library cannot use, such as lines that are no messages."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = getattr(error, "doc", "")  # what is not JSON
        _Complaints.last = str(line or error or record.getMessage()).strip()[:MAX_NOTE]
        emit("note", text=f"{record.getMessage()}: {_Complaints.last}"[:MAX_NOTE])


def _explain(error: acp.RequestError) -> str:
    """Return what an agent's error says, with the details that some keep apart."""
    data = error.data if isinstance(error.data, dict) else {"details": error.data}
    details = next((data[key] for key in ("details", "message") if isinstance(data.get(key), str)), "")
    return f"{error}: {details}" if details and details not in str(error) else str(error)


def _count(usage: schema.Usage) -> dict[str, int]:
    """Return the tokens of a turn; the protocol's kinds share none, so that the total is their sum."""
    cached, reasoning = usage.cached_read_tokens or 0, usage.thought_tokens or 0
    return {
        "in": usage.input_tokens + cached + (usage.cached_write_tokens or 0),
        "cached": cached,
        "out": usage.output_tokens + reasoning,
        "reasoning": reasoning,
    }


def emit(kind: str, **facts: Any) -> None:
    print(json.dumps({"type": kind, **facts}), flush=True)
