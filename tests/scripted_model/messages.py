"""Anthropic's Messages API, as Claude Code speaks it: `POST /v1/messages`, streamed or whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.scripted_model.script import Answer, ErrorEvent, Fault, Item, Request, Shell, Text, Think, Tool, Usage, Write
from tests.scripted_model.wire import event, texts

PATH = "/v1/messages"

# status: (type, message)
ERRORS = {
    400: ("invalid_request_error", "Invalid request."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use this resource."),
    404: ("not_found_error", "Not found"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}
OVERLOADED = Fault(529)
_TOO_LONG = {"type": "invalid_request_error", "message": "prompt is too long: 200001 tokens > 200000 maximum"}
OVERFLOW = Fault(400, body=json.dumps({"type": "error", "error": _TOO_LONG}))


def parse(headers: Mapping[str, str], body: Mapping[str, Any]) -> Request:
    messages = body["messages"]
    asked = [index for index, message in enumerate(messages) if message["role"] == "user" and not _outputs(message)]
    outputs = [block for message in messages for block in _outputs(message)]
    since = messages[asked[-1] :] if asked else messages
    return Request(
        wire="messages",
        prompt="\n".join(texts(messages[index]["content"]) for index in asked),
        latest=texts(messages[asked[-1]]["content"]) if asked else "",
        instructions=texts(body.get("system", "")),
        tool_outputs={block["tool_use_id"]: texts(block.get("content", "")) for block in outputs},
        turn=sum(len(_outputs(message)) for message in since),
        tools=[tool["name"] for tool in body.get("tools", [])],
        model=body["model"],
        streamed=bool(body.get("stream")),
        headers=headers,
        body=body,
    )


def _outputs(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message["content"]
    return [block for block in content if block["type"] == "tool_result"] if isinstance(content, list) else []


def events(request: Request, answer: Answer) -> Iterator[bytes]:
    message = whole(request, answer)
    usage = {**message["usage"], "output_tokens": 1}  # the first guess, as the vendor's
    opening = {**message, "content": [], "stop_reason": None, "usage": usage}
    yield event({"type": "message_start", "message": opening})
    for index, block in enumerate(message["content"]):
        empty, deltas = _in_pieces(block)
        yield event({"type": "content_block_start", "index": index, "content_block": empty})
        for delta in deltas:
            yield event({"type": "content_block_delta", "index": index, "delta": delta})
        yield event({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield event({"type": "message_delta", "delta": stop, "usage": message["usage"]})
    yield event({"type": "message_stop"})


def _in_pieces(block: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Return a block as it starts, and the deltas that fill it."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            thought = {"type": "thinking_delta", "thinking": block["thinking"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [thought, signed]
        case _:
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]


def whole(request: Request, answer: Answer) -> Mapping[str, Any]:
    number = len(request.tool_outputs)  # a reply with calls raises it, so ids are unique in a conversation
    content = [_block(item, f"{number}_{index}") for index, item in enumerate(answer.items)]
    calls = any(block["type"] == "tool_use" for block in content)
    return {
        "id": f"msg_{len(request.body['messages'])}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": _usage(answer.usage),
    }


def error(status: int) -> Mapping[str, Any]:
    kind, message = ERRORS.get(status, ("api_error", f"Status {status}"))
    return {"type": "error", "error": {"type": kind, "message": message}}


def error_event(_request: Request, error: ErrorEvent) -> bytes:
    kind, message = ERRORS[500]
    return event({"type": "error", "error": {"type": error.kind or kind, "message": error.message or message}})


def _block(item: Item, suffix: str) -> dict[str, Any]:
    match item:
        case Text(text):
            return {"type": "text", "text": text}
        case Think(text):
            return {"type": "thinking", "thinking": text, "signature": "scripted"}
        case Shell(command):
            return _call(suffix, "Bash", {"command": command})
        case Write(path, text):
            return _call(suffix, "Write", {"file_path": path, "content": text})
        case Tool("", name, arguments):
            return _call(suffix, name, arguments)
        case Tool(namespace, name, arguments):
            return _call(suffix, f"{namespace}__{name}", arguments)


def _call(suffix: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{suffix}", "name": name, "input": dict(arguments)}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input - usage.cached,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
