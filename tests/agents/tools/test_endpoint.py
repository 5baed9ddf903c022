"""The MCP endpoint and the submit socket, driven by the official MCP client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from scriptorium.agents.tools.client import SubmitError, socket_name, submit
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import SubmitServer
from scriptorium.errors import ScriptoriumError
from scriptorium.system import signals
from tests.support import mcp_call, submit_pr

pytestmark = pytest.mark.slow

UNKNOWN_RUN = "this run is over or its token is unknown"
TOOL_ERROR = "Error executing tool submit_pr: "  # put before every tool error by the mcp package


@pytest.fixture
def endpoint(sockets: Path) -> Iterator[Endpoint]:
    """An endpoint whose server starts with its first caller."""
    with Endpoint.local(sockets) as endpoint:
        endpoint.answer_callers()
        yield endpoint


def call_tool(address: str, headers: dict[str, str], summary: str = "a page") -> tuple[bool, str]:
    """Call submit_pr by the official client; return whether it is an error, and its text."""
    return mcp_call(f"{address}/mcp", headers, "submit_pr", {"summary": summary})


def tools_at(url: str) -> list[str]:
    """Return the tools that an address lists."""

    async def ask() -> list[str]:
        async with Client(streamable_http_client(url)) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    return asyncio.run(ask())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_submit_reaches_the_run_of_its_token_and_no_other(endpoint: Endpoint, sockets: Path) -> None:
    first, second = list[str](), list[str]()

    def take(into: list[str], reply: str, summary: str) -> str:
        into.append(summary)
        return reply

    with (
        SubmitServer(sockets, submit_pr(lambda summary: take(first, "one", summary))) as one,
        SubmitServer(sockets, submit_pr(lambda summary: take(second, "two", summary))) as two,
    ):
        assert call_tool(endpoint.address, bearer(two.token), "ein Ö\nzwei") == (False, "two")
        assert call_tool(endpoint.address, bearer(one.token)) == (False, "one")
    assert (first, second) == (["a page"], ["ein Ö\nzwei"])


def test_each_role_is_offered_its_own_tools_alone(endpoint: Endpoint) -> None:
    assert tools_at(endpoint.ready()) == ["submit_pr"]
    assert tools_at(endpoint.ready("manager")) == ["submit_tickets"]
    assert tools_at(endpoint.ready("architect")) == ["submit_areas"]


def test_a_tool_that_the_run_does_not_have_is_refused_in_words(endpoint: Endpoint, sockets: Path) -> None:
    with SubmitServer(sockets, submit_pr(lambda _: "taken")) as server:
        told = mcp_call(endpoint.ready("manager"), bearer(server.token), "submit_tickets", {"tickets": []})
    error = "Error executing tool submit_tickets: this run has no tool 'submit_tickets', only submit_pr"
    assert told == (True, error)


def test_an_unknown_field_of_a_ticket_is_refused(endpoint: Endpoint, sockets: Path) -> None:
    ticket = {"name": "a", "title": "A", "body": "b", "depends_on": ["c"]}
    with SubmitServer(sockets, {"submit_tickets": lambda _: "taken"}) as server:
        failed, text = mcp_call(
            endpoint.ready("manager"), bearer(server.token), "submit_tickets", {"tickets": [ticket]}
        )
    assert failed
    assert "tickets.0.depends_on" in text


def test_wrong_and_missing_tokens_are_tool_errors(endpoint: Endpoint, sockets: Path) -> None:
    with SubmitServer(sockets, submit_pr(lambda _: "taken")):
        assert call_tool(endpoint.address, bearer("guess")) == (True, TOOL_ERROR + UNKNOWN_RUN)
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic dDpw"}):
            assert call_tool(endpoint.address, headers) == (True, TOOL_ERROR + "the request carries no bearer token")


def test_a_refusal_is_told_to_the_agent(endpoint: Endpoint, sockets: Path) -> None:
    def refuse(_: str) -> str:
        raise ScriptoriumError("there is no change to submit", "make one")

    with SubmitServer(sockets, submit_pr(refuse)) as server:
        failed, text = call_tool(endpoint.address, bearer(server.token))
    assert failed
    assert "there is no change to submit" in text


def test_a_stop_is_told_to_an_agent_that_calls_a_tool(sockets: Path) -> None:
    def call(_: str) -> str:
        signals.raise_if_stopped()
        return "taken"

    with signals.stoppable() as token, SubmitServer(sockets, submit_pr(call)) as server:
        assert submit(str(sockets), server.token, "submit_pr", {"summary": "a page"}) == "taken"
        token.request(signal.SIGTERM)
        with pytest.raises(SubmitError, match="this run is being stopped"):
            submit(str(sockets), server.token, "submit_pr", {"summary": "a page"})


def test_only_loopback_hosts_and_no_origin_are_served(endpoint: Endpoint) -> None:
    port = int(endpoint.address.rpartition(":")[2])
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert post(port, {"Host": f"{host}:{port}"}) == 200
    assert post(port, {"Host": f"rebound.example:{port}"}) == 421
    assert post(port, {"Origin": "https://example.com"}) == 403
    assert post(port, {"Origin": f"http://127.0.0.1:{port}"}) == 403


def post(port: int, headers: dict[str, str]) -> int:
    """Send a tools/list request with some headers and return the HTTP status."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    try:
        connection.request("POST", "/mcp", body, accept | headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_an_endpoint_that_died_is_started_again_on_the_same_address(sockets: Path) -> None:
    with Endpoint.local(sockets) as endpoint, SubmitServer(sockets, submit_pr(lambda _: "taken")) as server:
        endpoint.ready()
        assert call_tool(endpoint.address, bearer(server.token)) == (False, "taken")
        assert endpoint._server is not None
        endpoint._server.kill()
        endpoint._server.wait()
        endpoint.ready()
        assert call_tool(endpoint.address, bearer(server.token)) == (False, "taken")


def test_an_endpoint_that_nobody_calls_starts_no_server_as_it_ends(
    sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr("scriptorium.system.process.start_helper", lambda *argv, **_: started.append(argv))
    before = threading.active_count()
    for _ in range(100):  # who waits for a caller is woken by the end
        with Endpoint.local(sockets) as endpoint:
            endpoint.answer_callers()
    assert (started, threading.active_count()) == ([], before)


def test_the_server_ends_with_a_killed_parent(sockets: Path) -> None:
    parent = (
        "import pathlib, signal, sys; from scriptorium.agents.tools.endpoint import Endpoint\n"
        "endpoint = Endpoint.local(pathlib.Path(sys.argv[1])); endpoint.ready()\n"
        "print(endpoint._server.pid, endpoint.address, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", parent, str(sockets)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid, address = process.stdout.readline().decode().split()
        assert call_tool(address, bearer("guess")) == (True, TOOL_ERROR + UNKNOWN_RUN)
        process.kill()
    handle = os.pidfd_open(int(pid)) if Path("/proc", pid).exists() else None
    if handle is not None:
        import select

        assert select.select([handle], [], [], 10)[0], "the server has outlived its parent"
        os.close(handle)


def test_the_server_ends_when_it_is_told_to(endpoint: Endpoint, sockets: Path) -> None:
    endpoint.ready()
    assert tools_at(f"{endpoint.address}/mcp") == ["submit_pr"]
    server = endpoint._server
    assert server is not None

    server.terminate()

    server.wait(20)
    assert tools_at(endpoint.ready()) == ["submit_pr"]


def test_a_port_in_use_is_one_line_with_a_hint(sockets: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ScriptoriumError, match=f"cannot listen on '127.0.0.1:{port}'") as caught:
            Endpoint("127.0.0.1", port, sockets)
    assert "endpoints.local" in caught.value.hint


@contextmanager
def silent(sockets: Path, token: str) -> Iterator[socket.socket]:
    """Listen as the run with a token, and answer nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(sockets / socket_name(token)))
        listener.listen()
        yield listener


def test_a_silent_run_ends_the_submit_at_its_limit(sockets: Path) -> None:
    with silent(sockets, "t0ken"), pytest.raises(SubmitError, match=r"no answer within 0\.05 s"):
        submit(str(sockets), "t0ken", "submit_pr", {"summary": "a page"}, timeout=0.05)


def test_an_ended_run_refuses_the_submit(sockets: Path) -> None:
    with SubmitServer(sockets, submit_pr(lambda _: "taken")) as server:
        token = server.token
    for directory in (sockets, sockets / "gone"):
        with pytest.raises(SubmitError, match=UNKNOWN_RUN):
            submit(str(directory), token, "submit_pr", {"summary": "a page"})
    assert list(sockets.iterdir()) == []


DEEP = b"[" * 100_000 + b"\n"
LONE = b'{"token": "\\ud800", "summary": "x"}\n'


def test_lone_surrogates_in_a_summary_are_replaced(sockets: Path) -> None:
    with SubmitServer(sockets, submit_pr(lambda summary: summary)) as server:
        assert submit(str(sockets), server.token, "submit_pr", {"summary": "a\ud800b\0c"}) == "a?b?c"


def test_malformed_submits_are_refused_and_the_run_goes_on(sockets: Path) -> None:
    with SubmitServer(sockets, submit_pr(lambda summary: f"took {summary}")) as server:
        path = str(sockets / socket_name(server.token))
        for line in (
            b"",
            b"\n",
            b"{\n",
            b"[]\n",
            b'{"token": 3, "tool": "submit_pr", "arguments": {"summary": "x"}}\n',
            b'{"token": "x", "tool": [], "arguments": {}}\n',
            b'{"token": "x", "tool": "submit_pr", "arguments": "abc"}\n',
            b"\xff\xfe\n",
            b'{"token": "x"}\n',
        ):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(line)
                client.shutdown(socket.SHUT_WR)
                assert json.loads(client.makefile().readline())["ok"] is False
        assert submit(str(sockets), server.token, "submit_pr", {"summary": "it"}) == "took it"
