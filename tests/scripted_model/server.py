"""The server: each request is answered by the script, on the wire that it came by."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from threading import Event, Thread
from types import TracebackType
from typing import Self, assert_never, cast
from urllib.parse import urlsplit

from tests.scripted_model import messages, responses
from tests.scripted_model.script import (
    Answer,
    ContextOverflow,
    Cut,
    EndsEarly,
    ErrorEvent,
    Fault,
    Malformed,
    NoAnswer,
    Overloaded,
    Reply,
    Request,
    Stall,
    answer,
)
from tests.scripted_model.wire import Wire

WIRES: Mapping[str, Wire] = {wire.PATH: cast(Wire, wire) for wire in (responses, messages)}


class ScriptedModel:
    """Serves `script` on a free port of 127.0.0.1 while its context is open.

    The script is called once a request, each in a thread of its own: one that blocks is a model that never
    answers. An exception in it drops the connection, and is raised again when the context closes. `root` is
    the address itself, `url` that of OpenAI's interfaces.
    """

    def __init__(self, script: Callable[[Request], Reply]) -> None:
        self._server = _Server(script)
        self.requests = self._server.requests
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.root}/v1"

    def __enter__(self) -> Self:
        # The poll interval is how long shutdown() may take.
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.closing.set()
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
        self.closing = Event()

    def handle_error(self, _request: object, _client_address: object) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError):  # a killed agent does not wait for its answer
            self.error = self.error or error


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # in chunks, so that a stream that is cut differs from one that ends

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        wire = WIRES.get(urlsplit(self.path).path)
        if wire is None:
            self.send_error(404)
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = wire.parse(headers, json.loads(body))
        self.server.requests.append(request)
        self._reply(wire, request, self.server.script(request))

    def do_GET(self) -> None:
        # 426 makes codex go on over HTTP at once; any other refusal of a WebSocket costs seconds of retries.
        self.send_error(426 if self.headers["Upgrade"] else 404)

    def do_HEAD(self) -> None:
        self._send(200, {}, b"")  # how Claude Code asks whether anybody is there

    def _reply(self, wire: Wire, request: Request, reply: Reply) -> None:
        match reply:
            case Fault(status, headers, body):
                text = json.dumps(wire.error(status)) if body is None else body
                self._send(status, {"Content-Type": "application/json", **headers}, text.encode())
            case Overloaded():
                self._reply(wire, request, wire.OVERLOADED)
            case ContextOverflow():
                self._reply(wire, request, wire.OVERFLOW)
            case NoAnswer():
                self.server.closing.wait()
                self.close_connection = True
            case Stall() | Cut() | EndsEarly() | Malformed() | ErrorEvent():
                self._break(wire, request, reply)
            case _:
                self._say(wire, request, answer(reply))

    def _say(self, wire: Wire, request: Request, said: Answer) -> None:
        if request.streamed:
            self._begin("text/event-stream")
            self._pieces(wire.events(request, said))
            self._end()
        else:
            body = json.dumps(wire.whole(request, said)).encode()
            self._send(200, {"Content-Type": "application/json"}, body)

    def _break(self, wire: Wire, request: Request, fault: Stall | Cut | EndsEarly | Malformed | ErrorEvent) -> None:
        """Begin a reply, and go wrong."""
        if isinstance(fault, ErrorEvent) and not request.streamed:
            self._reply(wire, request, Fault(500))
            return
        self._begin("text/event-stream" if request.streamed else "application/json")
        opening = islice(wire.events(request, Answer([])), 1) if request.streamed else [b"{"]
        match fault:
            case Stall():
                self._pieces(opening)
                self.server.closing.wait()
            case Cut():
                self._pieces(opening)
            case EndsEarly():
                self._pieces(opening)
                self._end()
            case Malformed():
                self._pieces([b"data: {not JSON\n\n"])
                self._end()
            case ErrorEvent():
                self._pieces([*opening, wire.error_event(request, fault)])
                self._end()
            case _:
                assert_never(fault)

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()

    def _pieces(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass  # the requests are kept; stderr belongs to the test
