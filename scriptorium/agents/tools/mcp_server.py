"""Serves the MCP tools to all running agents, in a process of its own.

Each role has a path that lists only its own tools. The listening socket is inherited from the parent; each
run has a socket in the directory of sockets, see `client`. The process keeps no state: the bearer token of a
call identifies the run, which decides about it. The process exits at the end of its stdin, and so ends with
its parent.
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

# A web page in the user's browser must not submit. So a host name, which DNS may point here, is refused, and so is
# an Origin, which browsers send and agents do not.
LOOPBACK_ONLY = TransportSecuritySettings(
    allowed_hosts=["127.0.0.1:*", "localhost:*", "[::1]:*"],
    allowed_origins=[],
)


class Ticket(BaseModel):
    """A new ticket; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="short, by which other tickets of this batch can depend on it")
    title: str = Field(description="what is to be done, as one line")
    body: str = Field(description="what exactly, where, and how to check that it is done; Markdown")
    depends: list[str | int] = Field([], description="names of your tickets, or ids of existing tickets")
    priority: int = Field(0, description="higher goes first; 0 is usual")


class Area(BaseModel):
    """A new or changed area."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="short, lower case, words joined by dashes")
    text: str = Field(description="what it covers, what not, and how to check that it is done; Markdown")


Call = Callable[[Context[Any, Any], str, dict[str, Any]], str]
"""Relays a tool call to its run."""


# The tools are not async, so they run in threads: a slow answer does not delay other agents.


def coding_tools(server: MCPServer, call: Call) -> None:
    """Add the tools of coding agents."""

    @server.tool()
    def submit_pr(summary: str, ctx: Context[Any, Any]) -> str:
        """Submit the finished ticket. Call once, when done; the summary says what changed and why."""
        return call(ctx, "submit_pr", {"summary": summary})


def manager_tools(server: MCPServer, call: Call) -> None:
    """Add the tools of the Manager."""

    @server.tool()
    def submit_tickets(tickets: list[Ticket], ctx: Context[Any, Any]) -> str:
        """Submit tickets: all are accepted or none. The reply has their ids. A repeated name replaces the ticket."""
        return call(ctx, "submit_tickets", {"tickets": [ticket.model_dump() for ticket in tickets]})


def architect_tools(server: MCPServer, call: Call) -> None:
    """Add the tools of the Architect while it divides the spec."""

    @server.tool()
    def submit_areas(areas: list[Area], ctx: Context[Any, Any], remove: list[str] | None = None) -> str:
        """Submit new or changed areas, and name the areas to remove; all other areas stay as they are."""
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
    """Sleeps until a call or a signal arrives; uvicorn's own loop wakes up ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    async def main_loop(self) -> None:
        await self._ended.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(self._ended.set)


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
        # Stateless, so a restarted server can go on.
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
    """Return the bearer token of the HTTP request of a tool call; raises ToolError if there is none."""
    scheme, _, token = (ctx.headers or {}).get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ToolError("the request carries no bearer token")
    return token.strip()


def exit_at_end_of_stdin() -> None:
    """Exit the process at the end of stdin."""
    while os.read(0, 4096):
        pass
    # Not sys.exit, which waits for open streams and calls.
    os._exit(0)
