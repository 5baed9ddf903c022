"""What a vendor's interface consists of; one module each beside this one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from tests.scripted_model.script import Answer, ErrorEvent, Fault, Request


class Wire(Protocol):
    """A module with these names."""

    PATH: str
    """Where requests for a reply are posted."""
    OVERLOADED: Fault
    OVERFLOW: Fault | ErrorEvent

    @staticmethod
    def parse(headers: Mapping[str, str], body: Mapping[str, Any], /) -> Request:
        """Read a request from its headers and its parsed body."""

    @staticmethod
    def events(request: Request, answer: Answer, /) -> Iterator[bytes]:
        """Yield the server-sent events of a streamed reply; each call starts anew."""

    @staticmethod
    def whole(request: Request, answer: Answer, /) -> Mapping[str, Any]:
        """Return a reply that is not streamed."""

    @staticmethod
    def error(status: int, /) -> Mapping[str, Any]:
        """Return the body of an HTTP error."""

    @staticmethod
    def error_event(request: Request, error: ErrorEvent, /) -> bytes:
        """Return the event that ends a stream with an error."""


def event(data: Mapping[str, Any]) -> bytes:
    """Return a server-sent event that bears its type as its name."""
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def texts(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Join the texts of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if "text" in part)
