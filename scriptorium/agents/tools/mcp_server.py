"""Serves the MCP tools to all running agents, in a process of its own.

Each role has a path with its own tools, so that no agent is offered what is not its to call. The listening
socket is inherited from the parent; the directory of sockets holds one for each run, see submit_client. The
process keeps no state and knows no ticket: the bearer token of a call says whose run it is, and that run
judges it. It lives as long as the pipe on its stdin, so it ends with the daemon, however that ends.
"""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette

from scriptorium.agents.tools.client import SubmitError, submit

# A web page in the user's browser must not submit: no name that DNS could be made to point here, and no
# Origin at all, which browsers send and agents do not.
LOOPBACK_ONLY = TransportSecuritySettings(
    allowed_hosts=["127.0.0.1:*", "localhost:*", "[::1]:*"],
    allowed_origins=[],
)


class Ticket(BaseModel):
    """A ticket to be; a field that is not here is refused, not lost."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="short, by which other tickets of this batch can depend on it")
    title: str = Field(description="what is to be done, as one line")
    body: str = Field(description="what exactly, where, and how one can see that it is done; Markdown")
    depends: list[str | int] = Field([], description="names of tickets of yours, or ids of tickets that exist")
    priority: int = Field(0, description="higher goes first; 0 is usual")


class Area(BaseModel):
    """An area to be."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="short, lower case, words joined by dashes")
    text: str = Field(description="what it covers, what not, and how one can see that it is done; Markdown")


Call = Callable[[Context[Any, Any], str, dict[str, Any]], str]
"""Relays a tool call to the run that it belongs to."""


# Not async, so they run in threads: one slow answer does not hold up the other agents.


def coding_tools(server: MCPServer, call: Call) -> None:
    """Add what coding agents may call."""

    @server.tool()
    def submit_pr(summary: str, ctx: Context[Any, Any]) -> str:
        """Hand in the finished ticket. Call once, when done; the summary says what changed and why."""
        return call(ctx, "submit_pr", {"summary": summary})


def manager_tools(server: MCPServer, call: Call) -> None:
    """Add what the Manager may call."""

    @server.tool()
    def submit_tickets(tickets: list[Ticket], ctx: Context[Any, Any]) -> str:
        """Hand in tickets. All are taken or none; the reply names their ids. A name used again replaces the ticket."""
        return call(ctx, "submit_tickets", {"tickets": [ticket.model_dump() for ticket in tickets]})


def architect_tools(server: MCPServer, call: Call) -> None:
    """Add what the Architect may call while it divides the spec."""

    @server.tool()
    def submit_areas(areas: list[Area], ctx: Context[Any, Any], remove: list[str] | None = None) -> str:
        """Hand in areas that are new or changed, and name those to remove; all other areas stay as they are."""
        return call(ctx, "submit_areas", {"areas": [area.model_dump() for area in areas], "remove": remove or []})


PATHS = {"/mcp": coding_tools, "/mcp/manager": manager_tools, "/mcp/architect": architect_tools}


def main() -> None:
    """Serve on the listening socket and for the directory of sockets that the command line names."""
    descriptor, sockets_dir = sys.argv[1:]
    serve(socket.socket(fileno=int(descriptor)), sockets_dir)


def serve(listener: socket.socket, sockets_dir: str) -> None:
    """Serve the tools on a listening socket until stdin ends."""
    threading.Thread(target=exit_at_end_of_stdin, daemon=True).start()
    app = build_app(sockets_dir)
    config = uvicorn.Config(app, access_log=False, log_level="warning", ws="none", date_header=False)
    _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Sleeps until it is called or told to end; uvicorn's own looks ten times a second whether it was."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    async def main_loop(self) -> None:
        await self._told.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(self._told.set)


def build_app(sockets_dir: str) -> Starlette:
    """Return the application that relays tool calls to the sockets in a directory."""

    def call(ctx: Context[Any, Any], tool: str, arguments: dict[str, Any]) -> str:
        try:
            return submit(sockets_dir, bearer_token(ctx), tool, arguments)
        except SubmitError as error:
            raise ToolError(str(error)) from error

    apps = []
    for path, add_tools in PATHS.items():
        server = MCPServer("scriptorium", log_level="WARNING")
        add_tools(server, call)
        # Stateless: a restarted endpoint knows as much as the first one.
        apps.append(
            server.streamable_http_app(
                streamable_http_path=path, stateless_http=True, json_response=True, transport_security=LOOPBACK_ONLY
            )
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in apps:
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return Starlette(routes=[route for app in apps for route in app.routes], lifespan=lifespan)


def bearer_token(ctx: Context[Any, Any]) -> str:
    """Return the bearer token of the HTTP request behind a tool call; raises ToolError if there is none."""
    scheme, _, token = (ctx.headers or {}).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ToolError("the request carries no bearer token")
    return token.strip()


def exit_at_end_of_stdin() -> None:
    """End the process as soon as nobody holds the other end of stdin."""
    while os.read(0, 4096):
        pass
    # Not sys.exit: open streams and calls under way have nobody left to serve.
    os._exit(0)
