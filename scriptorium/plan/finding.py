"""Findings of `scriptorium fsck`."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """The severity of a finding."""

    ERROR = "error"
    WARNING = "warning"


class Finding(NamedTuple):
    """A violated rule: its severity, the ticket, file, branch or commit that violates it, and a message."""

    level: Level
    subject: str
    message: str
