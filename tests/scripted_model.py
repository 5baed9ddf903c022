"""A test double for the vendor's model: it answers from a script, so the real codex needs no key or network.

It speaks the Responses API (`POST /v1/responses`, server-sent events) on loopback. It judges nothing: a green
test says that our harness and codex understand each other, not that a model would behave as scripted.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

INPUT_TOKENS = 100
OUTPUT_TOKENS = 10

INSTRUCTORS = ("system", "developer")

# The name and the argument of a shell tool differ between models; the request says which one is offered.
SHELL_ARGUMENTS = {"exec_command": "cmd", "shell_command": "command"}


@dataclass(frozen=True)
class Request:
    """One request for a response, as codex sent it.

    `prompt` joins the texts of all user messages and `instructions` those of the system and the developer,
    codex's own among them; `tool_outputs` maps call ids to output texts, oldest first; `headers` have
    lower-case names; `body` is the parsed JSON.
    """

    prompt: str
    instructions: str
    tool_outputs: Mapping[str, str]
    model: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @classmethod
    def parse(cls, headers: Mapping[str, str], body: Mapping[str, Any]) -> Self:
        """Read a request from its headers and its parsed body."""
        items: list[Mapping[str, Any]] = body["input"]
        messages = [item for item in items if item.get("type") == "message"]
        outputs = [item for item in items if item.get("type", "").endswith("_call_output")]
        return cls(
            prompt="\n".join(_text(item["content"]) for item in messages if item["role"] == "user"),
            instructions="\n".join(_text(item["content"]) for item in messages if item["role"] in INSTRUCTORS),
            tool_outputs={item["call_id"]: _text(item["output"]) for item in outputs},
            model=body["model"],
            headers=headers,
            body=body,
        )

    @property
    def turn(self) -> int:
        """Count the tool outputs in the conversation so far."""
        return len(self.tool_outputs)

    @property
    def tools(self) -> list[str]:
        """Name the tools on offer; those of a namespace go by its name."""
        return [tool.get("name", tool["type"]) for tool in self.body.get("tools", [])]


@dataclass(frozen=True)
class Text:
    """A message to the user; the turn ends when a reply holds no call."""

    text: str


@dataclass(frozen=True)
class Shell:
    """A call of whichever shell tool the request offers."""

    command: str


@dataclass(frozen=True)
class Tool:
    """A call of an MCP tool; the namespace is `mcp__<server>`."""

    namespace: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """An HTTP error in place of a response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


Item = Text | Shell | Tool
Reply = Item | Fault | Sequence[Item]


def codex_config(url: str) -> str:
    """Return a `config.toml` for CODEX_HOME that selects the model at `url`, without key or retries."""
    return f"""\
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{url}"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false

[features]
plugins = false
unbounded_connection_retries = false
"""


class ScriptedModel:
    """Serves `script` on a free port of 127.0.0.1 while its context is open.

    The script is called once a request, each in a thread of its own: one that blocks is a model that never
    answers. An exception in it drops the connection, and is raised again when the context closes.
    """

    def __init__(self, script: Callable[[Request], Reply]) -> None:
        self._server = _Server(script)
        self.requests = self._server.requests
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        # The poll interval is how long shutdown() may take.
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._server.error is not None:
            raise self._server.error


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # agents started together connect together

    def __init__(self, script: Callable[[Request], Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.requests: list[Request] = []
        self.error: BaseException | None = None

    def handle_error(self, _request: object, _client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # a killed agent does not wait for its answer
            self.error = self.error or error


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/responses":
            self.send_error(404)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request.parse(headers, json.loads(body))
        self.server.requests.append(request)
        reply = self.server.script(request)
        if isinstance(reply, Fault):
            self._start(reply.status, reply.headers)
            return
        self._start(200, {"Content-Type": "text/event-stream"})
        for event in _events(request, reply):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def do_GET(self) -> None:
        # 426 makes codex go on over HTTP at once; any other refusal of a WebSocket costs seconds of retries.
        self.send_error(426 if self.headers["Upgrade"] else 404)

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass  # the requests are kept; stderr belongs to the test


def _events(request: Request, reply: Item | Sequence[Item]) -> Iterator[dict[str, Any]]:
    identity = f"resp_{request.turn}"
    yield {"type": "response.created", "response": {"id": identity, "status": "in_progress"}}
    items = reply if isinstance(reply, Sequence) else [reply]
    output = [_wire_item(request, item, index) for index, item in enumerate(items)]
    for index, item in enumerate(output):
        yield {"type": "response.output_item.added", "output_index": index, "item": item}
        for part in item.get("content", []):
            yield {"type": "response.output_text.delta", "output_index": index, "delta": part["text"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    done = {"id": identity, "status": "completed", "output": output, "usage": _usage()}
    yield {"type": "response.completed", "response": done}


def _wire_item(request: Request, item: Item, index: int) -> dict[str, Any]:
    suffix = f"{request.turn}_{index}"  # unique in a conversation: a reply with calls raises the turn
    match item:
        case Text(text):
            content = [{"type": "output_text", "text": text, "annotations": []}]
            return {"type": "message", "id": f"msg_{suffix}", "role": "assistant", "content": content}
        case Shell(command):
            # Models in code mode list no shell tool, yet obey a direct call of exec_command.
            name = next((name for name in SHELL_ARGUMENTS if name in request.tools), "exec_command")
            return _call(suffix, name, {SHELL_ARGUMENTS[name]: command})
        case Tool(namespace, name, arguments):
            return _call(suffix, name, arguments) | {"namespace": namespace}


def _call(suffix: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{suffix}",
        "call_id": f"call_{suffix}",
        "name": name,
        "arguments": json.dumps(arguments),
    }


def _usage() -> dict[str, Any]:
    return {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if "text" in part)
