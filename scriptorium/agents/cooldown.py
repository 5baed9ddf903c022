"""Backends that rest: one that refuses is left alone by every step for a while, not ticket by ticket.

A file a backend, in the repository's own directory, says until when. It is a hint for the next try and
nothing more: without it, the next run finds out again.
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
"""Seconds of the first rest; each failure in a row doubles them."""

MAX_COOLDOWN = 3600.0
"""Seconds of the longest rest; one that ends later is from before the clock was set back."""


@dataclass(frozen=True)
class Cooldown:
    """How long a backend is left alone, and why."""

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
        return f"backend '{self.backend}' rests until {end} UTC: {self.error}"


class OnCooldown(ScriptoriumError):
    """A backend is not asked now."""

    def __init__(self, rest: Cooldown, file: Path) -> None:
        super().__init__(str(rest), f"it is tried again by itself; to try at once, remove '{file}'", ExitCode.LOCKED)
        self.rest = rest


def active(directory: Path, backend: str) -> Cooldown | None:
    """Return the rest of a backend that is not over."""
    rest = _read(directory, backend)
    return rest if rest and 0 < rest.seconds <= MAX_COOLDOWN else None


def raise_if_active(directory: Path, backend: str) -> None:
    """Raise `Resting`, with exit code 75, while a backend rests."""
    rest = active(directory, backend)
    if rest:
        raise OnCooldown(rest, _file(directory, backend))


def record(directory: Path, backend: str, cause: Cause, error: str) -> None:
    """Remember what a run says of its backend; a cause that is the ticket's own says that the backend works."""
    file = _file(directory, backend)
    if cause not in BACKEND:
        with suppress(FileNotFoundError):
            file.unlink()
        return
    before = _read(directory, backend)
    failures = before.failures + 1 if before and before.cause == cause else 1
    seconds = max(retry_after(error), FIRST_COOLDOWN[cause] * 2 ** min(failures - 1, 20))
    rest = Cooldown(backend, time.time() + min(seconds, MAX_COOLDOWN), failures, cause, " ".join(error.split())[:300])
    replace_file(file, json.dumps(asdict(rest)))


def _file(directory: Path, backend: str) -> Path:
    return directory / f"{backend.replace('/', '%')}.json"


def _read(directory: Path, backend: str) -> Cooldown | None:
    try:
        return Cooldown(**json.loads(_file(directory, backend).read_text()))
    except (OSError, ValueError, TypeError):
        return None
