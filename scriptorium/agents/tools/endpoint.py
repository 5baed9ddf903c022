"""The MCP endpoint: it listens at once, and starts the server process when it is needed."""

from __future__ import annotations

import select
import socket
import subprocess
import threading
from pathlib import Path

from scriptorium.errors import ScriptoriumError
from scriptorium.system import process
from scriptorium.system.interpreter import command_for


class Endpoint:
    """A listening address with the MCP server behind it.

    The server takes half a second and 70 MB, so it starts with the first run that needs it or the
    first caller from outside; that caller waits in the backlog meanwhile.
    """

    def __init__(self, host: str, port: int, sockets: Path) -> None:
        self._sockets = sockets
        self._server: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((host, port))
        except OSError as error:
            self._listener.close()
            hint = "end the program that listens there, or set 'endpoints.local' in 'scriptorium.json'"
            raise ScriptoriumError(f"cannot listen on '{host}:{port}': {str(error.strerror).lower()}", hint) from error
        self._listener.listen(64)
        self._end, self._ended = socket.socketpair()
        self._waiting: threading.Thread | None = None
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._listener.getsockname()[1]}"

    @classmethod
    def local(cls, sockets: Path) -> Endpoint:
        """Return an endpoint on a free port, for a single run."""
        return cls("127.0.0.1", 0, sockets)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()  # wakes the thread that waits for a caller
        if self._waiting is not None:
            self._waiting.join()
        self._ended.close()
        self._listener.close()
        if self._server is not None:
            process.stop_helper(self._server)

    def ready(self, role: str = "") -> str:
        """Start the server unless it runs, and return the URL for a role's agents; '' means coding."""
        with self._starting:
            if self._server is None or self._server.poll() is not None:
                descriptor = self._listener.fileno()
                command = [*command_for("scriptorium.agents.tools.mcp_server"), str(descriptor), str(self._sockets)]
                self._server = process.start_helper(command, inherited=[descriptor])
        return f"{self.address}/mcp/{role}" if role else f"{self.address}/mcp"

    def answer_callers(self) -> None:
        """Start the server in the background when the first caller connects."""

        def wait() -> None:
            if self._ended not in select.select([self._listener, self._ended], [], [])[0]:
                self.ready()

        self._waiting = threading.Thread(target=wait, daemon=True)
        self._waiting.start()
