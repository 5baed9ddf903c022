"""Log lines for users: on a stream and, for a session of `run`, in a file."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from scriptorium.system.redact import redact
from scriptorium.system.text import one_line

FORMAT = "[%(asctime)s] [%(levelname)s] %(message)s"
DATES = "%Y-%m-%dT%H:%M:%SZ"
COLOURS = {"DEBUG": "cyan", "WARN": "yellow", "ERROR": "red"}

GATE = "scriptorium.gate.command"

_LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


def wanted_level(default: str) -> str:
    """Return the level that ``SCRIPTORIUM_LOG_LEVEL`` asks for, else the default."""
    level = os.environ.get("SCRIPTORIUM_LOG_LEVEL", "").upper()
    return level if level in _LEVELS else default


def start(stream: TextIO, level: str, file: Path | None = None, file_level: str = "DEBUG") -> None:
    """Send log lines to a stream, coloured on a terminal, and plain ones to a file."""
    logging.addLevelName(logging.WARNING, "WARN")
    logging.Formatter.converter = time.gmtime
    logging.raiseExceptions = False  # no traceback for a closed pipe, as in `run | head`
    root = logging.getLogger("scriptorium")
    root.setLevel(logging.DEBUG)
    root.propagate = False
    root.handlers = [_handler(logging.StreamHandler(stream), level, _formatter(stream))]
    logging.getLogger(GATE).setLevel(logging.NOTSET)
    if file is not None:
        root.handlers.append(_handler(logging.FileHandler(file), file_level, logging.Formatter(FORMAT, DATES)))


def freshen() -> None:
    """Update the time of the session's log file, so that housekeeping does not remove it as old."""
    for handler in logging.getLogger("scriptorium").handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream:
            os.utime(handler.stream.fileno())


def start_plain() -> None:
    """Send the log lines of a single command to stderr, without dates."""
    logging.addLevelName(logging.WARNING, "WARN")
    root = logging.getLogger("scriptorium")
    root.propagate = False
    root.setLevel(_LEVELS[wanted_level("INFO")])
    logging.getLogger(GATE).setLevel(logging.WARNING)  # the user of a single step knows that it runs the gate
    root.handlers = [
        _handler(logging.StreamHandler(sys.stderr), "DEBUG", logging.Formatter("scriptorium: %(message)s"))
    ]


def _handler(handler: logging.Handler, level: str, formatter: logging.Formatter) -> logging.Handler:
    handler.setLevel(_LEVELS[level])
    handler.setFormatter(formatter)
    handler.addFilter(_redacted)
    return handler


def _redacted(record: logging.LogRecord) -> bool:
    """Remove credentials and line breaks from a record; filters return whether to keep it."""
    record.msg, record.args = one_line(redact(record.getMessage())), ()
    return True


def _formatter(stream: TextIO) -> logging.Formatter:
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return logging.Formatter(FORMAT, DATES)
    from colorlog import ColoredFormatter

    return ColoredFormatter(f"%(log_color)s{FORMAT}", DATES, log_colors=COLOURS, stream=stream)


def session_file(directory: Path) -> Path:
    """Create and return a new file ``run_<UTC>.log``; two sessions in one second get two files."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        file = directory / f"run_{stamp}{suffix}.log"
        try:
            file.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            continue
        return file
    raise FileExistsError(f"no free log file name in '{directory}'")
