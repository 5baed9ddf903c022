"""Submits an agent's work through the unix socket of its run.

The socket is `<first 32 hex digits of sha256(token)>.sock` in the sockets directory; one JSON line goes each
way: `{"token": str, "tool": str, "arguments": {...}}` and `{"ok": bool, "message": str}`. Imports are late,
because `submit-pr` must start in a few tens of milliseconds.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself costs as much as all the rest
    from collections.abc import Mapping


class SubmitError(Exception):
    """The submission was not accepted; the message is for the agent."""


def submit(sockets_dir: str, token: str, tool: str, arguments: "Mapping[str, object]", timeout: float = 30.0) -> str:
    """Call a tool of the run that holds `token` and return the reply.

    `timeout` is in seconds, for each step. Raises SubmitError if the run is unknown, refuses the
    call or does not answer.
    """
    import json
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(f"{sockets_dir}/{socket_name(token)}")
        except (FileNotFoundError, ConnectionRefusedError):
            raise SubmitError("this run is over or its token is unknown") from None
        except OSError as error:
            raise SubmitError(f"the run is not reachable: {error.strerror or error}") from error
        try:
            connection.sendall(json.dumps({"token": token, "tool": tool, "arguments": arguments}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
        except TimeoutError:
            raise SubmitError(f"no answer within {timeout:g} s, the submission may have been accepted") from None
        except OSError as error:
            raise SubmitError(f"the run hung up: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise SubmitError("the run hung up without an answer")
    try:
        answer = json.loads(line)
        taken, message = bool(answer["ok"]), str(answer["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SubmitError("the answer is not from a run") from None
    if not taken:
        raise SubmitError(message)
    return message


def socket_name(token: str) -> str:
    """Return the file name of the socket that serves the run with `token`."""
    import hashlib

    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()[:32] + ".sock"
