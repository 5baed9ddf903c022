"""The socket of a run, on which it answers the tool calls of its agent.

Each run has a socket of its own, named by the hash of an unguessable token that only its agent
has. The command `scriptorium submit-pr` and the MCP tools both use the socket, so a submission
always belongs to the run of its token, whatever the model says.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from scriptorium.agents.tools.client import socket_name
from scriptorium.errors import ScriptoriumError, Stopped, as_user_error, is_resource_error
from scriptorium.system.signals import start_thread

MAX_LINE = 1024 * 1024
"""Bytes of one call; a summary is a sentence or two, a batch of tickets some pages."""

CALL_TIMEOUT = 10.0
"""Seconds for a caller to send its whole call, and again to receive the answer."""

MAX_CALLERS = 64
"""Callers that are served at once; the connection of a further one is closed."""

CHUNK = 64 * 1024

Tools = Mapping[str, Callable[[dict[str, Any]], str]]
"""The tools of a run by name: functions from arguments to a reply."""


def remove_stale_sockets(sockets: Path) -> None:
    """Remove the sockets of killed runs; a socket that accepts connections stays."""
    for path in sockets.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue


class SubmitServer:
    """Answers the tool calls of one run until the block is left.

    Tools run in threads of the server, one call at a time. The agent is told a ScriptoriumError.
    """

    def __init__(self, sockets: Path, tools: Tools) -> None:
        self.token = secrets.token_urlsafe(32)
        self._tools = tools
        self._path = sockets / socket_name(self.token)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self._path))
        self._socket.listen(64)
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()
        self._over = False
        self._callers = threading.BoundedSemaphore(MAX_CALLERS)

    def __enter__(self) -> SubmitServer:
        self._thread = start_thread(self._serve)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):  # else it is removed as stale later
            self._path.unlink()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        if self._thread is not None:
            self._thread.join()
        self._socket.close()
        with self._turn:  # waits for the call under way; no call begins after it
            self._over = True

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if not is_resource_error(error):
                    return
                time.sleep(0.1)  # the caller waits in the backlog until a descriptor is free
                continue
            if self._callers.acquire(blocking=False):
                # in a thread: a slow or silent caller must not delay the others
                start_thread(self._converse, connection)
            else:
                connection.close()

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                line = _read_line(connection)
                with self._turn:
                    answer = self._answer(line)
                connection.settimeout(CALL_TIMEOUT)
                connection.sendall(json.dumps(answer).encode() + b"\n")
        finally:
            self._callers.release()

    def _answer(self, line: bytes) -> dict[str, object]:
        if self._over:
            return {"ok": False, "message": "this run is over or its token is unknown"}
        if len(line) >= MAX_LINE:
            return {"ok": False, "message": "the call is too long, submit less at once"}
        try:
            request = _sanitize(json.loads(line))
            token, tool, arguments = request["token"], request["tool"], dict(request["arguments"])
            call = self._tools.get(tool)
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"ok": False, "message": "the call is malformed"}
        if not isinstance(token, str) or not hmac.compare_digest(token.encode(errors="replace"), self.token.encode()):
            return {"ok": False, "message": "this run is over or its token is unknown"}
        if call is None:
            return {"ok": False, "message": f"this run has no tool '{tool}', only {', '.join(self._tools)}"}
        try:
            return {"ok": True, "message": call(arguments)}
        except (ScriptoriumError, OSError) as error:
            return {"ok": False, "message": str(as_user_error(error))}
        except Stopped:
            return {"ok": False, "message": "this run is being stopped"}
        except Exception as error:  # noqa: BLE001 - the agent must be told, and the thread must go on
            return {"ok": False, "message": f"this is a bug: {type(error).__name__}: {error}"}


def _read_line(connection: socket.socket) -> bytes:
    """Return the first line that a caller sends, at most `MAX_LINE` bytes; raises TimeoutError for a slow caller."""
    data, end = bytearray(), time.monotonic() + CALL_TIMEOUT
    while b"\n" not in data[-CHUNK:] and len(data) < MAX_LINE:
        connection.settimeout(max(0.001, end - time.monotonic()))
        piece = connection.recv(CHUNK)
        if not piece:
            break
        data += piece
        if time.monotonic() > end:
            raise TimeoutError
    return bytes(data).partition(b"\n")[0]


def _sanitize(value: Any) -> Any:
    """Return parsed JSON without lone surrogates and NUL, which git and files cannot hold."""
    match value:
        case str():
            return value.encode(errors="replace").decode().replace("\0", "?")
        case list():
            return [_sanitize(item) for item in value]
        case dict():
            return {key: _sanitize(item) for key, item in value.items()}
    return value
