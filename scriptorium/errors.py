"""The exit codes of every command, and the one exception that carries them."""

import errno
from enum import IntEnum
from signal import SIGINT


class ExitCode(IntEnum):
    """What a command's exit status means; the same table stands in every manual page."""

    OK = 0  # done, or nothing to do
    FAILED = 1
    USAGE = 2
    REFUSED = 3  # by a gate: master is red
    BUG = 4
    LOCKED = 75  # somebody else is at it: try again later
    CONFIG = 78
    INTERRUPTED = 130  # SIGINT
    TERMINATED = 143  # SIGTERM


class ScriptoriumError(Exception):
    """A failure that a person can act on: one line, a hint and an exit code."""

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
    """Tell whether a call failed for want of what every call needs, so that it says nothing of what it was asked."""
    return error.errno in _RESOURCE_ERRORS


def as_user_error(error: ScriptoriumError | OSError) -> ScriptoriumError:
    """Return a call of the system's that failed as what a person is told of it; others as they are."""
    if isinstance(error, ScriptoriumError):
        return error
    subject = f"'{error.filename}': " if error.filename else ""
    return ScriptoriumError(f"{subject}{(error.strerror or str(error)).lower()}", _REMEDIES.get(error.errno or 0, ""))


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; raised only at points where stopping is safe."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        # a terminal that hangs up asks for an end like any other
        self.exit_code = ExitCode.INTERRUPTED if signum == SIGINT else ExitCode.TERMINATED
