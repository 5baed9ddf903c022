"""Handing in: the socket on which a run waits for its agent, and the tools that it answers to.

Each run has a socket of its own, named by the hash of an unguessable token that only its agent
has. The command `scriptorium submit-pr` and the MCP tools both speak to it, so a submit can only
be that run's, whatever the model says.
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
"""Bytes of one submit; a summary is a sentence or two, a batch of tickets some pages."""

CALL_TIMEOUT = 10.0
"""Seconds for a caller to say what it wants, all in all, and to take the answer."""

MAX_CALLERS = 64
"""Callers that are listened to at once; who comes on top is hung up on."""

CHUNK = 64 * 1024

Tools = Mapping[str, Callable[[dict[str, Any]], str]]
"""What a run answers to: by name of the tool, what turns its arguments into a reply."""


def remove_stale_sockets(sockets: Path) -> None:
    """Remove the sockets of runs that were killed; one that is alive takes the call and stays."""
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

    A tool runs in a thread of the server, one call at a time; a ScriptoriumError it raises is told
    to the agent.
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
        with suppress(OSError):  # else it is discarded as stale
            self._path.unlink()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        if self._thread is not None:
            self._thread.join()
        self._socket.close()
        with self._turn:  # a call under way is let finish, and none begins any more
            self._over = True

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if not is_resource_error(error):
                    return
                time.sleep(0.1)  # the call waits in line until there is a descriptor for it
                continue
            if self._callers.acquire(blocking=False):
                # one that is slow, or says nothing, must not keep the others waiting
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
            return {"ok": False, "message": "that is too long, hand in less at once"}
        try:
            request = _sanitize(json.loads(line))
            token, tool, arguments = request["token"], request["tool"], dict(request["arguments"])
            call = self._tools.get(tool)
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"ok": False, "message": "that is not a submit"}
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
        except Exception as error:  # noqa: BLE001 - the agent must hear of it, and the thread must live
            return {"ok": False, "message": f"this is a bug: {type(error).__name__}: {error}"}


def _read_line(connection: socket.socket) -> bytes:
    """Return what a caller sends up to the end of a line, or of what is taken at most; OSError for one too slow."""
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
    """Return parsed JSON with texts that git and files can hold: without half characters and NUL."""
    match value:
        case str():
            return value.encode(errors="replace").decode().replace("\0", "?")
        case list():
            return [_sanitize(item) for item in value]
        case dict():
            return {key: _sanitize(item) for key, item in value.items()}
    return value
