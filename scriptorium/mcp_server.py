"""Serves the MCP tool `submit_pr` to all running agents, in a process of its own.

The listening socket is inherited from its parent; the directory of sockets holds one for each run, see
submit_client. The process keeps no state and knows no ticket: the bearer token of a call says whose run it
is. It lives as long as the pipe on its stdin, so it ends with the daemon, however that ends.
"""

import os
import socket
import threading
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings

from scriptorium.submit_client import SubmitError, submit

# A web page in the user's browser must not submit: no name that DNS could be made to point here, and no
# Origin at all, which browsers send and agents do not.
LOOPBACK_ONLY = TransportSecuritySettings(
    allowed_hosts=["127.0.0.1:*", "localhost:*", "[::1]:*"],
    allowed_origins=[],
)


def serve(listener: socket.socket, sockets_dir: str) -> None:
    """Serve submit_pr on a listening socket until stdin ends."""
    threading.Thread(target=exit_at_end_of_stdin, daemon=True).start()
    # Stateless: a restarted endpoint knows as much as the first one.
    app = build_server(sockets_dir).streamable_http_app(
        stateless_http=True, json_response=True, transport_security=LOOPBACK_ONLY
    )
    config = uvicorn.Config(app, access_log=False, log_level="warning", ws="none")
    uvicorn.Server(config).run(sockets=[listener])


def build_server(sockets_dir: str) -> MCPServer:
    """Return the MCP server that relays `submit_pr` to the sockets in a directory."""
    server = MCPServer("scriptorium", log_level="WARNING")

    # Not async, so it runs in a thread: one slow answer does not hold up the other agents.
    @server.tool()
    def submit_pr(summary: str, ctx: Context[Any, Any]) -> str:
        """Hand in the finished ticket. Call once, when done; the summary says what changed and why."""
        try:
            return submit(sockets_dir, bearer_token(ctx), summary)
        except SubmitError as error:
            raise ToolError(str(error)) from error

    return server


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
