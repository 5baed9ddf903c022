"""What a script sees and says, the same on every wire: requests, items of a reply, and faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request for a reply, as the agent program sent it.

    `wire` names the interface: 'responses' or 'messages'. `prompt` joins the texts of all user messages and
    `latest` holds the last prompt alone; `instructions` are those of the system and the developer, the
    program's own among them. `tool_outputs` maps call ids to output texts, oldest first, and `turn` counts
    those since the last prompt. `tools` names the tools on offer, `headers` have lower-case names, `body` is
    the parsed JSON.
    """

    wire: str
    prompt: str
    latest: str
    instructions: str
    tool_outputs: Mapping[str, str]
    turn: int
    tools: Sequence[str]
    model: str
    streamed: bool
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """A message to the user; the turn ends when a reply holds no call."""

    text: str


@dataclass(frozen=True)
class Think:
    """What the model lets be seen of its reasoning."""

    text: str


@dataclass(frozen=True)
class Shell:
    """A call of whichever shell tool the request offers."""

    command: str


@dataclass(frozen=True)
class Write:
    """A new file by the program's own means; the path is relative to the directory it works in."""

    path: str
    text: str


@dataclass(frozen=True)
class Tool:
    """A call of a tool by its name; that of an MCP server has the namespace `mcp__<server>`."""

    namespace: str
    name: str
    arguments: Mapping[str, Any]


Item = Text | Think | Shell | Write | Tool


@dataclass(frozen=True)
class Usage:
    """The tokens of one reply; `input` includes the cached ones, `output` the reasoning."""

    input: int = 100
    cached: int = 0
    output: int = 10
    reasoning: int = 0


@dataclass(frozen=True)
class Answer:
    """A reply with a usage of its own."""

    items: Sequence[Item]
    usage: Usage = Usage()


@dataclass(frozen=True)
class Fault:
    """An HTTP error in place of a reply; its body is the vendor's for that status, unless given."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass(frozen=True)
class Overloaded:
    """The vendor has too much to do, told in its own way."""


@dataclass(frozen=True)
class ContextOverflow:
    """The conversation does not fit the model, told in the vendor's own way."""


@dataclass(frozen=True)
class NoAnswer:
    """The request is taken, and nothing is ever sent."""


@dataclass(frozen=True)
class Stall:
    """The reply begins, then nothing more is sent and the connection stays."""


@dataclass(frozen=True)
class Cut:
    """The connection is lost in the middle of the reply."""


@dataclass(frozen=True)
class EndsEarly:
    """The reply ends in good order before its last event."""


@dataclass(frozen=True)
class Malformed:
    """Events that are not JSON."""


@dataclass(frozen=True)
class ErrorEvent:
    """An error within a reply that has begun with status 200; `kind` is the vendor's name for it."""

    kind: str = ""
    message: str = ""


AnyFault = Fault | Overloaded | ContextOverflow | NoAnswer | Stall | Cut | EndsEarly | Malformed | ErrorEvent
Reply = Item | Sequence[Item] | Answer | AnyFault


def answer(reply: Item | Sequence[Item] | Answer) -> Answer:
    """Return a reply that is no fault in its long form."""
    match reply:
        case Answer():
            return reply
        case Text() | Think() | Shell() | Write() | Tool():
            return Answer([reply])
        case _:
            return Answer(reply)
