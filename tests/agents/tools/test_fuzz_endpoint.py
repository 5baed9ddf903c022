"""Fuzz the endpoint and the sockets of runs: after any input, the next valid call is answered."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import strategies as st

from scriptorium.agents.tools import server
from scriptorium.agents.tools.client import SubmitError, socket_name, submit
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import MAX_CALLERS, MAX_LINE, SubmitServer
from tests import fuzzing
from tests.fuzzing import NASTY, altered, fuzzed, mutated, texts, values
from tests.support import mcp_call, submit_pr, until


@pytest.fixture(autouse=True, scope="module")
def _published() -> Iterator[None]:
    yield
    fuzzing.publish()


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    with TemporaryDirectory(prefix="sockets-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def run(sockets: Path) -> Iterator[SubmitServer]:
    """A run that accepts and records every submission."""

    def take(given: dict[str, Any]) -> str:
        TAKEN.append(given)
        return f"took {given.get('summary')}"

    with SubmitServer(sockets, {"submit_pr": take}) as server:
        yield server


TAKEN: list[object] = []
"""The accepted submissions; an answer may come later than a test waits for it."""


@contextmanager
def only_the_honest_is_taken(endpoint: Endpoint, run: SubmitServer) -> Iterator[None]:
    """Submit after a block; assert that this submission is answered and no other was accepted."""
    before = len(TAKEN)
    yield
    assert honest(endpoint, run)
    assert len(TAKEN) == before + 1


@pytest.fixture(scope="module")
def endpoint(sockets: Path) -> Iterator[Endpoint]:
    with Endpoint.local(sockets) as endpoint:
        endpoint.ready()
        yield endpoint


# -- sockets of runs ------------------------------------------------------------------------------------

CALL = {"token": "x", "tool": "submit_pr", "arguments": {"summary": "a page"}}


def said(sockets: Path, run: SubmitServer, data: bytes, *, whole: bool = True) -> bytes:
    """Send bytes to a run's socket and return its answer; '' if the caller hangs up."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(sockets / socket_name(run.token)))
        client.sendall(data)
        if whole:
            client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").readline() if whole else b""


def still_taken(sockets: Path, run: SubmitServer) -> bool:
    return submit(str(sockets), run.token, "submit_pr", {"summary": "it"}) == "took it"


@fuzzed("bytes to a run", 80, data=mutated(json.dumps(CALL).encode() + b"\n"), whole=st.booleans())
def test_bytes_of_any_kind_are_answered_and_nothing_is_taken(
    sockets: Path, run: SubmitServer, data: bytes, whole: bool
) -> None:
    before = len(TAKEN)
    answer = said(sockets, run, data, whole=whole)
    if whole:
        assert json.loads(answer)["ok"] is False
    assert still_taken(sockets, run)
    assert len(TAKEN) == before + 1


@fuzzed("calls to a run", 80, call=altered(CALL) | values())
def test_calls_of_any_form_are_taken_or_refused_in_words(sockets: Path, run: SubmitServer, call: Any) -> None:
    if isinstance(call, dict) and call.get("token") == "x":
        call["token"] = run.token
    answer = json.loads(said(sockets, run, json.dumps(call).encode() + b"\n"))
    assert set(answer) == {"ok", "message"}
    assert "bug" not in answer["message"] or answer["ok"]


def test_a_caller_that_is_slow_or_silent_keeps_nobody_waiting(
    sockets: Path, run: SubmitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CALL_TIMEOUT", 6.0)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for client in silent:
        client.connect(str(sockets / socket_name(run.token)))
        client.sendall(b'{"token": ')
    began = time.monotonic()
    assert still_taken(sockets, run)
    assert time.monotonic() - began < 5

    dripping = silent[0]
    assert until(lambda: is_hung_up(dripping), 60)  # however often it says a little more
    for client in silent:
        client.close()
    assert still_taken(sockets, run)


def is_connected(client: socket.socket, path: str) -> bool:
    try:
        client.connect(path)
    except BlockingIOError:  # the line before the run is full for a moment
        return False
    return True


def is_hung_up(client: socket.socket) -> bool:
    try:
        client.sendall(b" ")
    except OSError:
        return True
    return False


def test_more_callers_than_are_listened_to_are_hung_up_on(sockets: Path, run: SubmitServer) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(MAX_CALLERS + 20)]
    for client in clients:
        client.settimeout(30)
        until(partial(is_connected, client, str(sockets / socket_name(run.token))))
    assert clients[-1].recv(1) == b""
    for client in clients:
        client.close()
    assert until(lambda: answered(sockets, run))


def answered(sockets: Path, run: SubmitServer) -> bool:
    try:
        return still_taken(sockets, run)
    except SubmitError:
        return False


def test_a_call_that_is_longer_than_is_taken_is_refused(sockets: Path, run: SubmitServer) -> None:
    call = {**CALL, "arguments": {"summary": "x" * MAX_LINE}}
    answer = json.loads(said(sockets, run, json.dumps(call).encode() + b"\n"))
    assert answer == {"ok": False, "message": "the call is too long, submit less at once"}
    assert still_taken(sockets, run)


def test_a_run_ends_although_a_caller_is_on_the_line(sockets: Path) -> None:
    with SubmitServer(sockets, submit_pr(lambda _: "taken")) as server:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(sockets / socket_name(server.token)))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    client.sendall(json.dumps({**CALL, "token": server.token}).encode() + b"\n")
    assert json.loads(client.makefile().readline())["ok"] is False
    client.close()


# -- the endpoint ---------------------------------------------------------------------------------------

BODY = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "submit_pr", "arguments": {"summary": "s"}},
}
HEAD = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAccept: application/json, text/event-stream\r\n"
    b"Content-Type: application/json\r\nAuthorization: Bearer guess\r\nConnection: close\r\n"
)


BRIEFLY = 0.2
"""Seconds to wait for an answer; the server may wait for the rest of a request."""


def request(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def exchange(endpoint: Endpoint, data: bytes, wait: float = 30.0) -> bytes:
    """Send bytes to the endpoint and return its output until it hangs up or is silent for a while."""
    with socket.create_connection(("127.0.0.1", int(endpoint.address.rpartition(":")[2])), timeout=30) as client:
        answer = b""
        with suppress(ConnectionError, TimeoutError):
            client.sendall(data)
            client.settimeout(wait)
            while piece := client.recv(65536):
                answer += piece
        return answer


def status(answer: bytes) -> int:
    """Return the HTTP status of an answer, 0 for none."""
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def honest(endpoint: Endpoint, run: SubmitServer) -> bool:
    """Return whether a valid submission is accepted, by plain HTTP, which is cheaper than the client."""
    head = HEAD.replace(b"guess", run.token.encode())
    return b"took s" in exchange(endpoint, request(json.dumps(BODY).encode(), head))


def taken(answer: bytes) -> bool:
    return b"took" in answer


@fuzzed("requests to the endpoint", 30, data=mutated(request(json.dumps(BODY).encode())))
def test_requests_of_any_kind_submit_nothing_and_the_next_is_answered(
    endpoint: Endpoint, run: SubmitServer, data: bytes
) -> None:
    with only_the_honest_is_taken(endpoint, run):
        answer = exchange(endpoint, data, BRIEFLY)
    assert b"Traceback" not in answer
    assert status(answer) != 500 or b"jsonrpc" in answer


@fuzzed("bodies to the endpoint", 40, body=altered(BODY) | values(), own=st.booleans())
def test_bodies_of_any_form_are_answered(endpoint: Endpoint, run: SubmitServer, body: Any, own: bool) -> None:
    head = HEAD.replace(b"guess", run.token.encode()) if own else HEAD
    answer = exchange(endpoint, request(json.dumps(body).encode(), head))
    assert 200 <= status(answer) < 500
    assert b"Traceback" not in answer
    assert own or not taken(answer)


@fuzzed("tokens", 20, token=texts())
def test_no_token_but_the_run_s_own_is_taken(endpoint: Endpoint, run: SubmitServer, token: str) -> None:
    given = token.encode(errors="replace").replace(b"\r", b"").replace(b"\n", b"")
    head = HEAD.replace(b"guess", given)
    with only_the_honest_is_taken(endpoint, run):
        exchange(endpoint, request(json.dumps(BODY).encode(), head), BRIEFLY)


MALFORMED = {
    "no request line": b"\r\n\r\n\r\n",
    "binary": bytes(range(256)) * 20,
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
    "http/0.9": b"GET /mcp\r\n\r\n",
    "http/9.9": b"POST /mcp HTTP/9.9\r\nHost: 127.0.0.1:1\r\n\r\n",
    "endless line": b"POST /" + b"x" * 200_000,
    "endless header": HEAD + b"X: " + b"x" * 200_000,
    "many headers": HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "length of words": HEAD + b"Content-Length: many\r\n\r\n{}",
    "huge length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks of garbage": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "chunk of a huge size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n",
    "half a body": HEAD + b"Content-Length: 500\r\n\r\n{",
    "folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "header without a name": HEAD + b": x\r\nContent-Length: 2\r\n\r\n{}",
    "NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "no host": HEAD.replace(b"Host: 127.0.0.1:1\r\n", b"") + b"Content-Length: 2\r\n\r\n{}",
    "two hosts": HEAD + b"Host: evil.example\r\nContent-Length: 2\r\n\r\n{}",
    "websocket": b"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "expect": HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "absolute address": HEAD.replace(b" /mcp ", b" http://evil.example/mcp ") + b"Content-Length: 2\r\n\r\n{}",
    "connect": b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_http_is_refused_and_the_next_request_answered(
    endpoint: Endpoint, run: SubmitServer, kind: str
) -> None:
    fuzzing.COUNTS["malformed requests"] += 1
    with only_the_honest_is_taken(endpoint, run), fuzzing.in_time():
        answer = exchange(endpoint, MALFORMED[kind], BRIEFLY)
    assert status(answer) in {0, 100, *range(400, 500)}, answer[:300]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "127.0.0.1@evil.example"}, 421),
        ({"Host": "localhost.evil.example:80"}, 421),
        ({"Host": "0.0.0.0"}, 421),
        ({"Host": "169.254.169.254"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://"}, 403),
        ({"Content-Type": "text/plain"}, 400),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 400),
        ({"Accept": "text/html"}, 406),
    ],
)
def test_a_request_of_a_web_page_submits_nothing(
    endpoint: Endpoint, run: SubmitServer, headers: dict[str, str], expected: int
) -> None:
    fuzzing.COUNTS["foreign Hosts and Origins"] += 1
    port = endpoint.address.rpartition(":")[2]
    given = {
        "Host": f"127.0.0.1:{port}",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Authorization": f"Bearer {run.token}",  # even if a page had that
        "Connection": "close",
        **headers,
    }
    head = b"POST /mcp HTTP/1.1\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in given.items())
    with only_the_honest_is_taken(endpoint, run):
        answer = exchange(endpoint, request(json.dumps(BODY).encode(), head))
    assert status(answer) == expected


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "post", "X" * 1000])
@pytest.mark.parametrize(
    "path", ["/", "/mcp", "/mcp/", "/mcp/manager", "/mcp/../mcp", "//mcp", "/%2e%2e/etc/passwd", "/x?y=z"]
)
def test_other_methods_and_paths_submit_nothing(endpoint: Endpoint, run: SubmitServer, method: str, path: str) -> None:
    fuzzing.COUNTS["methods and paths"] += 1
    head = HEAD.replace(b"POST /mcp", f"{method} {path}".encode()).replace(b"guess", run.token.encode())
    with only_the_honest_is_taken(endpoint, run):
        answer = exchange(endpoint, request(json.dumps(BODY).encode(), head), BRIEFLY)
    assert status(answer) in {0, *range(200, 500)}


BOMBS = [b"[" * 100_000, b'{"a":' * 100_000, b"[" + b"[]," * 100_000 + b"[]]", b"9" * 100_000, b"\xff" * 1000]


@pytest.mark.parametrize("body", BOMBS)
def test_json_bombs_are_refused(endpoint: Endpoint, run: SubmitServer, body: bytes) -> None:
    fuzzing.COUNTS["JSON bombs"] += 1
    with fuzzing.in_time():
        assert 400 <= status(exchange(endpoint, request(body))) < 500
    assert honest(endpoint, run)


def test_a_body_larger_than_any_submit_is_refused_before_it_is_read(endpoint: Endpoint, run: SubmitServer) -> None:
    whole = request(b" " * 5_000_000)
    pieces = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + pieces * 5 + b"0\r\n\r\n"
    for data in (whole, chunked):
        assert status(exchange(endpoint, data)) in (0, 413)
        assert honest(endpoint, run)


def test_requests_one_after_the_other_on_one_line_are_each_judged(endpoint: Endpoint, run: SubmitServer) -> None:
    head = HEAD.replace(b"Connection: close\r\n", b"")
    own, body = head.replace(b"guess", run.token.encode()), json.dumps(BODY).encode()
    pieces = request(body, head), request(body, own), request(body, head + b"Connection: close\r\n")
    answer = exchange(endpoint, b"".join(pieces))
    assert [taken(part) for part in answer.split(b"HTTP/1.1 200 ")[1:]] == [False, True, False]


def test_connections_that_say_nothing_keep_nobody_waiting(endpoint: Endpoint, run: SubmitServer) -> None:
    address = ("127.0.0.1", int(endpoint.address.rpartition(":")[2]))
    slow = [socket.create_connection(address, timeout=30) for _ in range(100)]
    for number, client in enumerate(slow):
        client.sendall((HEAD + b"Content-Length: 9\r\n\r\n{")[: number * 3])
    assert honest(endpoint, run)
    for client in slow:
        client.close()
    assert honest(endpoint, run)


def test_the_official_client_and_strangers_at_once(endpoint: Endpoint, run: SubmitServer) -> None:
    stop = threading.Event()

    def noise(number: int) -> None:
        kinds = list(MALFORMED.values())
        while not stop.is_set():
            exchange(endpoint, kinds[number % len(kinds)], BRIEFLY)
            number += 1

    def call(text: str) -> tuple[bool, str]:
        headers = {"Authorization": f"Bearer {run.token}"}
        return mcp_call(f"{endpoint.address}/mcp", headers, "submit_pr", {"summary": text})

    with ThreadPoolExecutor(8) as pool:
        strangers = [pool.submit(noise, number * 5) for number in range(4)]
        summaries = [text for text in NASTY if text.isprintable()][:6]
        told = list(pool.map(call, summaries))
        stop.set()
    assert [future.exception() for future in strangers] == [None] * 4
    assert told == [(False, f"took {text}") for text in summaries]
    fuzzing.COUNTS["calls by the official client"] += len(told)
