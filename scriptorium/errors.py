"""The exit codes of every command, and the one exception that carries them."""

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


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; raised only at points where stopping is safe."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        # a terminal that hangs up asks for an end like any other
        self.exit_code = ExitCode.INTERRUPTED if signum == SIGINT else ExitCode.TERMINATED
