"""The exit codes of all commands, and the exception that carries them."""

import errno
from enum import IntEnum
from signal import SIGINT


class ExitCode(IntEnum):
    """The exit status of a command. Every manual page has the same table."""

    OK = 0
    """Done, or nothing to do."""
    FAILED = 1
    """The gate is broken, an agent failed, or something is stuck."""
    USAGE = 2
    """The command line is invalid."""
    REFUSED = 3
    """Held back by a decision: master is red."""
    BUG = 4
    """An internal error."""
    LOCKED = 75
    """A lock is held, or a backend cools down. A later try may succeed."""
    CONFIG = 78
    """The configuration is invalid, or a requirement is missing, such as a program or the plan branch."""
    INTERRUPTED = 130
    """Stopped by SIGINT."""
    TERMINATED = 143
    """Stopped by SIGTERM or SIGHUP."""


class ScriptoriumError(Exception):
    """A failure that the user can act on: a message of one line, a hint and an exit code."""

    def __init__(self, message: str, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "see whether you may write there and the disk has room",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "let processes open more files: see 'ulimit -n'"),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), "free some memory, or end some processes"),
    errno.EIO: "the disk may be failing: look at the system's log",
}

_RESOURCE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO)


def is_resource_error(error: OSError) -> bool:
    """Return whether a call failed because the system ran out of a resource, such as file descriptors or memory.

    Such an error says nothing about the file that the call was for.
    """
    return error.errno in _RESOURCE_ERRORS


def as_user_error(error: ScriptoriumError | OSError) -> ScriptoriumError:
    """Return an `OSError` with a message and a hint for the user; any other error unchanged."""
    if isinstance(error, ScriptoriumError):
        return error
    subject = f"'{error.filename}': " if error.filename else ""
    return ScriptoriumError(f"{subject}{(error.strerror or str(error)).lower()}", _REMEDIES.get(error.errno or 0, ""))


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. It is raised only where stopping is safe."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        # SIGHUP, from a closed terminal, counts as SIGTERM
        self.exit_code = ExitCode.INTERRUPTED if signum == SIGINT else ExitCode.TERMINATED
