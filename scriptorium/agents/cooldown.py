"""Cooldowns: after a backend rejects a run, no step starts it again for a while.

Each cooldown is a file in the state directory. If the file is lost, the next run finds out again.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from scriptorium.agents.harness.classify import retry_after
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan.cause import BACKEND, Cause
from scriptorium.system.files import replace_file

FIRST_COOLDOWN = {Cause.RATE_LIMIT: 30.0, Cause.AUTH: 60.0, Cause.PROVIDER: 1.0, Cause.INFRASTRUCTURE: 1.0}
"""Seconds of the first cooldown; each further failure in a row doubles them."""

MAX_COOLDOWN = 3600.0
"""Seconds of the longest cooldown. If a recorded one lasts longer, the clock was set back; it does not count."""


@dataclass(frozen=True)
class Cooldown:
    """When a backend may be tried again, and why it failed."""

    backend: str
    until: float
    failures: int
    cause: str
    error: str

    @property
    def seconds(self) -> float:
        return self.until - time.time()

    def __str__(self) -> str:
        end = time.strftime("%H:%M:%S", time.gmtime(self.until))
        return f"backend '{self.backend}' cools down until {end} UTC: {self.error}"


class OnCooldown(ScriptoriumError):
    """The backend is cooling down."""

    def __init__(self, cooldown: Cooldown, file: Path) -> None:
        hint = f"it is retried automatically; to retry now, remove '{file}'"
        super().__init__(str(cooldown), hint, ExitCode.LOCKED)
        self.cooldown = cooldown


def active(directory: Path, backend: str) -> Cooldown | None:
    """Return the cooldown of a backend, None if it may be started."""
    found = _read(directory, backend)
    return found if found and 0 < found.seconds <= MAX_COOLDOWN else None


def raise_if_active(directory: Path, backend: str) -> None:
    """Raise `OnCooldown`, with exit code 75, while a backend is cooling down."""
    found = active(directory, backend)
    if found:
        raise OnCooldown(found, _file(directory, backend))


def record(directory: Path, backend: str, cause: Cause, error: str) -> None:
    """Record the result of a run: a backend's failure starts a cooldown, any other cause ends it."""
    file = _file(directory, backend)
    if cause not in BACKEND:
        with suppress(FileNotFoundError):
            file.unlink()
        return
    before = _read(directory, backend)
    failures = before.failures + 1 if before and before.cause == cause else 1
    seconds = max(retry_after(error), FIRST_COOLDOWN[cause] * 2 ** min(failures - 1, 20))
    until, error = time.time() + min(seconds, MAX_COOLDOWN), " ".join(error.split())[:300]
    replace_file(file, json.dumps(asdict(Cooldown(backend, until, failures, cause, error))))


def _file(directory: Path, backend: str) -> Path:
    return directory / f"{backend.replace('/', '%')}.json"


def _read(directory: Path, backend: str) -> Cooldown | None:
    try:
        return Cooldown(**json.loads(_file(directory, backend).read_text()))
    except (OSError, ValueError, TypeError):
        return None
