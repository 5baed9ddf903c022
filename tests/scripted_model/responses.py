"""OpenAI's Responses API, as codex speaks it: `POST /v1/responses`, server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.scripted_model.script import Answer, ErrorEvent, Fault, Item, Request, Shell, Text, Think, Tool, Usage, Write
from tests.scripted_model.wire import event, texts

PATH = "/v1/responses"

OVERFLOW = ErrorEvent(
    "context_length_exceeded",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
)

# The name and the argument of a shell tool differ between models; the request says which one is offered.
SHELL_ARGUMENTS = {"exec_command": "cmd", "shell_command": "command", "bash": "command"}

INSTRUCTORS = ("system", "developer")

# status: (type, code, message)
ERRORS = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    429: ("tokens", "rate_limit_exceeded", "Rate limit reached for this model. Please try again in 20s."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", "server_is_overloaded", "Our servers are currently overloaded."),
}
OVERLOADED = Fault(503)


def parse(headers: Mapping[str, str], body: Mapping[str, Any]) -> Request:
    items: list[Mapping[str, Any]] = body["input"]
    asked = [index for index, item in enumerate(items) if _is_message(item) and item["role"] == "user"]
    outputs = [item for item in items if _is_output(item)]
    told = [item for item in items if _is_message(item) and item["role"] in INSTRUCTORS]
    return Request(
        wire="responses",
        prompt="\n".join(texts(items[index]["content"]) for index in asked),
        latest=texts(items[asked[-1]]["content"]) if asked else "",
        instructions="\n".join(texts(item["content"]) for item in told),
        tool_outputs={item["call_id"]: texts(item["output"]) for item in outputs},
        turn=sum(_is_output(item) for item in items[asked[-1] :]) if asked else len(outputs),
        # those of a namespace go by its name
        tools=[tool.get("name", tool["type"]) for tool in body.get("tools", [])],
        model=body["model"],
        streamed=True,
        headers=headers,
        body=body,
    )


def _is_message(item: Mapping[str, Any]) -> bool:
    return bool(item.get("type", "message") == "message")  # opencode leaves it out


def _is_output(item: Mapping[str, Any]) -> bool:
    return bool(item.get("type", "").endswith("_call_output"))


def events(request: Request, answer: Answer) -> Iterator[bytes]:
    identity = f"resp_{len(request.body['input'])}"
    yield event({"type": "response.created", "response": {"id": identity, "status": "in_progress"}})
    output = _output(request, answer)
    for index, item in enumerate(output):
        yield event({"type": "response.output_item.added", "output_index": index, "item": item})
        if item["type"] == "message":
            delta = {"output_index": index, "item_id": item["id"], "content_index": 0}
            yield event({"type": "response.output_text.delta", **delta, "delta": item["content"][0]["text"]})
        yield event({"type": "response.output_item.done", "output_index": index, "item": item})
    yield event({"type": "response.completed", "response": whole(request, answer)})


def whole(request: Request, answer: Answer) -> Mapping[str, Any]:
    return {
        "id": f"resp_{len(request.body['input'])}",
        "status": "completed",
        "output": _output(request, answer),
        "usage": _usage(answer.usage),
    }


def error(status: int) -> Mapping[str, Any]:
    kind, code, message = ERRORS.get(status, ("error", None, f"Status {status}."))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def error_event(request: Request, error: ErrorEvent) -> bytes:
    said = {"code": error.kind or "server_error", "message": error.message or ERRORS[500][2]}
    response = {"id": f"resp_{len(request.body['input'])}", "status": "failed", "error": said}
    return event({"type": "response.failed", "response": response})


def _output(request: Request, answer: Answer) -> list[dict[str, Any]]:
    # a number that is unique in the conversation, over several runs
    return [_item(request, item, f"{len(request.body['input'])}_{at}") for at, item in enumerate(answer.items)]


def _item(request: Request, item: Item, suffix: str) -> dict[str, Any]:
    match item:
        case Text(text):
            content = [{"type": "output_text", "text": text, "annotations": []}]
            return {"type": "message", "id": f"msg_{suffix}", "role": "assistant", "content": content}
        case Think(text):
            return {"type": "reasoning", "id": f"rs_{suffix}", "summary": [{"type": "summary_text", "text": text}]}
        case Shell(command):
            # Models in code mode list no shell tool, yet obey a direct call of exec_command.
            name = next((name for name in SHELL_ARGUMENTS if name in request.tools), "exec_command")
            return _call(suffix, name, {SHELL_ARGUMENTS[name]: command})
        case Write(path, text):
            lines = "".join(f"+{line}\n" for line in text.splitlines())
            patch = f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch\n"
            names = {"type": "custom_tool_call", "id": f"ctc_{suffix}", "call_id": f"call_{suffix}"}
            return {**names, "name": "apply_patch", "input": patch}
        case Tool("", name, arguments):
            return _call(suffix, name, arguments)
        case Tool(namespace, name, arguments) if (flat := _flat(namespace, name)) in request.tools:
            return _call(suffix, flat, arguments)
        case Tool(namespace, name, arguments):
            return _call(suffix, name, arguments) | {"namespace": namespace}


def _flat(namespace: str, name: str) -> str:
    """Return the name of an MCP tool for a program that has no namespaces, as opencode."""
    return f"{namespace.removeprefix('mcp__')}_{name}"


def _call(suffix: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{suffix}",
        "call_id": f"call_{suffix}",
        "name": name,
        "arguments": json.dumps(arguments),
        "status": "completed",
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
