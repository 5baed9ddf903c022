"""The time limits of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """When a run is ended, in seconds; zero means never."""

    hard: float = 4 * 3600
    no_output: float = 300
    no_progress: float = 600
