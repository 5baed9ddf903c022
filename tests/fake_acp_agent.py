"""A fake agent that speaks the Agent Client Protocol, for behaviour that no real agent can be made to show.

Its only argument is JSON: `turn` names the reaction to a prompt, and the other keys of `Script` set its
capabilities. Every message that reaches it is appended to
``$FACTS/calls``. It writes its messages as plain JSON, because to import the protocol's package takes half a second;
the client checks each against that package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

Message = dict[str, Any]

AUTH_REQUIRED, NOT_FOUND, INTERNAL = -32000, -32002, -32603
"""Codes of errors, of the protocol and of JSON-RPC."""


@dataclass
class Script:
    """The behaviour of the fake; see the methods of `FakeAgent`."""

    turn: str = "speak"
    version: int = 1
    http: bool = True
    resume: str = ""  # the method that continues a session: 'resume', 'load', or none
    known: bool = True  # whether it knows the session to continue
    choices: bool = False
    modes: bool = False
    auth: bool = True
    cost: float = 0
    code: int = 0


MODELS = ("small", "large")


class RequestError(Exception):
    """The answer to a request is an error."""

    def __init__(self, code: int, message: str, data: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "data": data}


def read() -> Message:
    """Return the next message, and record it for the test; exits at the end of the input."""
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit()
    message: Message = json.loads(line)
    with Path(os.environ["FACTS"], "calls").open("a") as file:
        file.write(json.dumps(message) + "\n")
    return message


def write(**message: Any) -> None:
    """Send a message."""
    sys.stdout.buffer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    sys.stdout.buffer.flush()


def update(kind: str, /, **fields: Any) -> None:
    """Send an update of the session."""
    write(method="session/update", params={"sessionId": "s-1", "update": {**fields, "sessionUpdate": kind}})


def say(text: str, message: str = "m-1", kind: str = "agent_message_chunk") -> None:
    update(kind, content={"text": text, "type": "text"}, messageId=message)


def done(reason: str = "end_turn") -> Message:
    usage = {
        "totalTokens": 1160,
        "inputTokens": 100,
        "outputTokens": 80,
        "thoughtTokens": 30,
        "cachedReadTokens": 900,
        "cachedWriteTokens": 50,
    }
    return {"stopReason": reason, "usage": usage}


class FakeAgent:
    """An agent whose every answer is in its script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests = 0

    def serve(self) -> NoReturn:
        """Answer requests until the input ends."""
        while True:
            message = read()
            if "id" in message:
                try:
                    answer = getattr(self, message["method"].replace("/", "_"))(message["params"])
                    write(id=message["id"], result=answer)
                except RequestError as error:
                    write(id=message["id"], error=error.error)

    def initialize(self, _: Message) -> Message:
        able = {
            "loadSession": self.script.resume == "load",
            "mcpCapabilities": {"http": self.script.http},
            "sessionCapabilities": {"resume": {}} if self.script.resume == "resume" else {},
        }
        info = {"name": "fake", "version": "1"}
        return {"protocolVersion": self.script.version, "agentCapabilities": able, "agentInfo": info}

    def session_new(self, _: Message) -> Message:
        if not self.script.auth:
            raise RequestError(AUTH_REQUIRED, "Authentication required")
        return {"sessionId": "s-1", **self._options("small"), **self._modes()}

    def session_resume(self, _: Message) -> Message:
        if not self.script.known:
            raise RequestError(NOT_FOUND, "Resource not found", {"uri": "s-1"})
        return {}

    def session_load(self, params: Message) -> Message:
        self.session_resume(params)
        say("what was said before")
        return {}

    def session_set_config_option(self, params: Message) -> Message:
        return {"configOptions": [], **self._options(params["value"])}

    def session_set_mode(self, _: Message) -> Message:
        return {}

    def _options(self, current: str) -> Message:
        if not self.script.choices:
            return {}
        model = {
            "id": "the-model",
            "name": "Model",
            "category": "model",
            "type": "select",
            "currentValue": current,
            "options": [{"value": value, "name": value.title()} for value in MODELS],
        }
        # the effort can be chosen after the large model
        efforts = [{"value": value, "name": value} for value in ("low", "high")]
        effort = {
            "id": "thinking",
            "name": "Thinking",
            "category": "thought_level",
            "type": "select",
            "currentValue": "low",
            "options": [{"group": "all", "name": "All", "options": efforts}],
        }
        return {"configOptions": [model, effort] if current == "large" else [model]}

    def _modes(self) -> Message:
        if not self.script.modes:
            return {}
        modes = [{"id": mode, "name": mode.title()} for mode in ("free", "read-only")]
        return {"modes": {"currentModeId": "free", "availableModes": modes}}

    def session_prompt(self, _: Message) -> Message:
        return getattr(self, f"turn_{self.script.turn}")()  # type: ignore[no-any-return]

    # -- turns ------------------------------------------------------------------------------------

    def turn_speak(self) -> Message:
        say("I wonder.", "t-1", "agent_thought_chunk")
        for piece in ("first li", "ne\nsecond", " line"):
            say(piece)
        update("tool_call", toolCallId="call-1", title="run", kind="execute", status="pending")
        for status in ("in_progress", "completed"):
            update("tool_call_update", toolCallId="call-1", status=status, title="run make")
        plan = [{"content": content, "priority": "medium", "status": "pending"} for content in ("look", "leap")]
        update("plan", entries=plan)
        say("the\nend", "m-2")
        if self.script.cost:
            update("usage_update", used=10, size=100, cost={"amount": self.script.cost, "currency": "USD"})
        return done()

    def turn_submit(self) -> Message:
        Path("file").write_text("x\n")
        subprocess.run(["scriptorium", "submit-pr", "add a file"], check=True, stdout=subprocess.DEVNULL)
        return self.turn_speak()

    def turn_permission(self) -> Message:
        kinds = ("reject_always", "allow_always", "allow_once", "reject_once")
        options = [{"optionId": f"id of {kind}", "name": kind, "kind": kind} for kind in kinds]
        for title, kind in (("write", "edit"), ("look", "read")):
            self.ask_permission(title, kind, options)
        self.ask_permission("look", "read", [])
        return done()

    def ask_permission(self, title: str, kind: str, options: list[Message]) -> None:
        """Ask whether a tool may run, and wait for the answer."""
        call = {"toolCallId": "call-1", "kind": kind, "title": title}
        params = {"sessionId": "s-1", "toolCall": call, "options": options}
        write(id=self.requests, method="session/request_permission", params=params)
        while "result" not in read():
            pass
        self.requests += 1

    def turn_stop(self) -> Message:
        say("I had better not.")
        return done("refusal")

    def turn_fail(self) -> Message:
        if self.script.code:
            raise RequestError(self.script.code, "Try it elsewhere")
        raise RequestError(INTERNAL, "Internal error", {"details": "HTTP 429 Too Many Requests"})

    def turn_die(self) -> Message:
        say("Now I am going to")
        os.write(1, b"panic: out of ink\n")
        os._exit(3)

    def turn_babble(self) -> Message:
        os.write(1, b"debug: not JSON\n\xff\xfe\n{}\n")
        return self.turn_speak()

    def turn_flood(self) -> Message:
        while True:
            os.write(1, b"babble\n" * 1000)

    def turn_wait(self) -> Message:
        say("waiting\n")
        while read()["method"] != "session/cancel":
            pass
        return done("cancelled")

    def turn_hang(self) -> Message:
        while True:
            read()


if __name__ == "__main__":
    FakeAgent(Script(**json.loads(sys.argv[1]))).serve()
