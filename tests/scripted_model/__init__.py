"""A test double for the vendors' models: it answers from a script, so the real agents need no key or network.

It serves on loopback what the agent programs speak: the Responses API (codex) and the Messages API (Claude
Code). One script drives them all: it sees a `Request` and returns an item or several (`Text`, `Shell`, ...), or
a fault. It judges nothing: a green test says that our harness and the program understand each other, not that a
model would behave as scripted. Another interface is a module like `messages.py`, named in `server.WIRES`.
"""

from tests.scripted_model.programs import (
    OPENCODE_LOCK,
    OPENCODE_OFFLINE,
    claude_environment,
    codex_config,
    opencode_config,
)
from tests.scripted_model.script import (
    Answer,
    AnyFault,
    ContextOverflow,
    Cut,
    EndsEarly,
    ErrorEvent,
    Fault,
    Item,
    Malformed,
    NoAnswer,
    Overloaded,
    Reply,
    Request,
    Shell,
    Stall,
    Text,
    Think,
    Tool,
    Usage,
    Write,
)
from tests.scripted_model.server import ScriptedModel

__all__ = [
    "OPENCODE_LOCK",
    "OPENCODE_OFFLINE",
    "Answer",
    "AnyFault",
    "ContextOverflow",
    "Cut",
    "EndsEarly",
    "ErrorEvent",
    "Fault",
    "Item",
    "Malformed",
    "NoAnswer",
    "Overloaded",
    "Reply",
    "Request",
    "ScriptedModel",
    "Shell",
    "Stall",
    "Text",
    "Think",
    "Tool",
    "Usage",
    "Write",
    "claude_environment",
    "codex_config",
    "opencode_config",
]
