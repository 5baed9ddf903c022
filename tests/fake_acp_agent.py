"""A fake agent that speaks the Agent Client Protocol, for what no real one can be made to do.

It is no model and judges nothing: its one argument is JSON, in which `turn` names what it does when it is
prompted, and the other keys of `Script` what it says of itself. Every message that reaches it is appended to
``$FACTS/calls``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import acp
from acp import schema
from acp.connection import StreamDirection, StreamEvent


@dataclass
class Script:
    """What the fake does; see the methods of `FakeAgent`."""

    turn: str = "speak"
    version: int = 1
    http: bool = True
    resume: str = ""  # how it goes on with a session: 'resume', 'load', or not at all
    known: bool = True  # whether it knows the session it is asked to go on with
    choices: bool = False
    modes: bool = False
    auth: bool = True
    cost: float = 0
    code: int = 0


MODELS = ("small", "large")


class FakeAgent:
    """An agent whose every answer is in its script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.cancelled = asyncio.Event()

    def on_connect(self, conn: acp.Client) -> None:
        self.client = conn

    async def initialize(self, **_: Any) -> schema.InitializeResponse:
        resume = schema.SessionResumeCapabilities() if self.script.resume == "resume" else None
        able = schema.AgentCapabilities(
            load_session=self.script.resume == "load",
            mcp_capabilities=schema.McpCapabilities(http=self.script.http),
            session_capabilities=schema.SessionCapabilities(resume=resume),
        )
        info = schema.Implementation(name="fake", version="1")
        return schema.InitializeResponse(protocol_version=self.script.version, agent_capabilities=able, agent_info=info)

    async def new_session(self, **_: Any) -> schema.NewSessionResponse:
        if not self.script.auth:
            raise acp.RequestError.auth_required()
        return schema.NewSessionResponse(session_id="s-1", config_options=self._options("small"), modes=self._modes())

    async def resume_session(self, **_: Any) -> schema.ResumeSessionResponse:
        if not self.script.known:
            raise acp.RequestError.resource_not_found("s-1")
        return schema.ResumeSessionResponse()

    async def load_session(self, **_: Any) -> schema.LoadSessionResponse:
        if not self.script.known:
            raise acp.RequestError.resource_not_found("s-1")
        await self.say("what was said before")
        return schema.LoadSessionResponse()

    async def set_config_option(self, value: str, **_: Any) -> schema.SetSessionConfigOptionResponse:
        return schema.SetSessionConfigOptionResponse(config_options=self._options(value) or [])

    async def set_session_mode(self, **_: Any) -> schema.SetSessionModeResponse:
        return schema.SetSessionModeResponse()

    def _options(self, current: str) -> list[Any] | None:
        if not self.script.choices:
            return None
        values = [schema.SessionConfigSelectOption(value=value, name=value.title()) for value in MODELS]
        model = schema.SessionConfigOptionSelect(
            id="the-model", name="Model", category="model", type="select", current_value=current, options=values
        )
        # the effort can be chosen once the large model is
        efforts = [schema.SessionConfigSelectOption(value=value, name=value) for value in ("low", "high")]
        effort = schema.SessionConfigOptionSelect(
            id="thinking", name="Thinking", category="thought_level", type="select", current_value="low",
            options=[schema.SessionConfigSelectGroup(group="all", name="All", options=efforts)],
        )  # fmt: skip
        return [model, effort] if current == "large" else [model]

    def _modes(self) -> schema.SessionModeState | None:
        if not self.script.modes:
            return None
        modes = [schema.SessionMode(id=mode, name=mode.title()) for mode in ("free", "read-only")]
        return schema.SessionModeState(current_mode_id="free", available_modes=modes)

    async def cancel(self, **_: Any) -> None:
        self.cancelled.set()

    async def prompt(self, **_: Any) -> schema.PromptResponse:
        return await getattr(self, f"turn_{self.script.turn}")()  # type: ignore[no-any-return]

    async def say(self, text: str, message: str = "m-1") -> None:
        await self.client.session_update("s-1", _said(schema.AgentMessageChunk, text, message))

    def done(self, reason: Any = "end_turn") -> schema.PromptResponse:
        usage = schema.Usage(
            total_tokens=1160, input_tokens=100, cached_read_tokens=900, cached_write_tokens=50,
            output_tokens=80, thought_tokens=30,
        )  # fmt: skip
        return schema.PromptResponse(stop_reason=reason, usage=usage)

    # -- turns ------------------------------------------------------------------------------------

    async def turn_speak(self) -> schema.PromptResponse:
        await self.client.session_update("s-1", _said(schema.AgentThoughtChunk, "I wonder.", "t-1"))
        for piece in ("first li", "ne\nsecond", " line"):
            await self.say(piece)
        call = acp.start_tool_call("call-1", "run", kind="execute", status="pending")
        await self.client.session_update("s-1", call)
        for status in ("in_progress", "completed"):
            update = schema.ToolCallProgress(
                session_update="tool_call_update",
                tool_call_id="call-1",
                title="run make",
                status=status,
            )
            await self.client.session_update("s-1", update)
        await self.client.session_update("s-1", acp.update_plan([acp.plan_entry("look"), acp.plan_entry("leap")]))
        await self.say("the\nend", "m-2")
        if self.script.cost:
            cost = schema.Cost(amount=self.script.cost, currency="USD")
            used = schema.UsageUpdate(session_update="usage_update", used=10, size=100, cost=cost)
            await self.client.session_update("s-1", used)
        return self.done()

    async def turn_submit(self) -> schema.PromptResponse:
        Path("file").write_text("x\n")
        subprocess.run(["scriptorium", "submit-pr", "add a file"], check=True, stdout=subprocess.DEVNULL)
        return await self.turn_speak()

    async def turn_permission(self) -> schema.PromptResponse:
        kinds = ("reject_always", "allow_always", "allow_once", "reject_once")
        options = [schema.PermissionOption(option_id=f"id of {kind}", name=kind, kind=kind) for kind in kinds]  # type: ignore[arg-type]
        for title, kind in (("write", "edit"), ("look", "read")):
            call = schema.ToolCallUpdate(tool_call_id="call-1", title=title, kind=kind)  # type: ignore[arg-type]
            await self.client.request_permission("s-1", call, options)
        await self.client.request_permission("s-1", call, [])
        return self.done()

    async def turn_stop(self) -> schema.PromptResponse:
        await self.say("I had better not.")
        return self.done("refusal")

    async def turn_fail(self) -> schema.PromptResponse:
        if self.script.code:
            raise acp.RequestError(self.script.code, "Try it elsewhere")
        raise acp.RequestError.internal_error({"details": "HTTP 429 Too Many Requests"})

    async def turn_die(self) -> schema.PromptResponse:
        await self.say("Now I am going to")
        os.write(1, b"panic: out of ink\n")
        os._exit(3)

    async def turn_babble(self) -> schema.PromptResponse:
        os.write(1, b"debug: not JSON\n\xff\xfe\n{}\n")
        return await self.turn_speak()

    async def turn_flood(self) -> schema.PromptResponse:
        while True:
            os.write(1, b"babble\n" * 1000)
            await asyncio.sleep(0)

    async def turn_wait(self) -> schema.PromptResponse:
        await self.say("waiting\n")
        await self.cancelled.wait()
        return self.done("cancelled")

    async def turn_hang(self) -> schema.PromptResponse:
        await asyncio.Event().wait()
        return self.done()


def _said(kind: Any, text: str, message: str) -> Any:
    update = "agent_message_chunk" if kind is schema.AgentMessageChunk else "agent_thought_chunk"
    return kind(session_update=update, content=acp.text_block(text), message_id=message)


def record(event: StreamEvent) -> None:
    """Leave what has come in for the test."""
    if event.direction is StreamDirection.INCOMING:
        with Path(os.environ["FACTS"], "calls").open("a") as file:
            file.write(json.dumps(event.message) + "\n")


if __name__ == "__main__":
    agent = cast(acp.Agent, FakeAgent(Script(**json.loads(sys.argv[1]))))
    asyncio.run(acp.run_agent(agent, use_unstable_protocol=True, observers=[record]))
