"""Measures cases side by side, so that a slow moment is slow for both."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from scriptorium.system.watchdog import members

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    measured: str
    bare: str = ""
    ratio: str = ""
    wanted: str = ""


def milliseconds(times: Sequence[float]) -> str:
    """Return the median of some seconds in words."""
    return f"{median(times) * 1000:.1f} ms"


def compare(what: str, times: Sequence[float], bare: Sequence[float], name: str, wanted: str = "") -> Row:
    """Return the line for times, next to the times of the bare commands."""
    ratio = f"{median(times) / median(bare):.2f}"
    return Row(what, milliseconds(times), f"{milliseconds(bare)} {name}", ratio, wanted)


def alternate(rounds: int, *cases: Callable[[], object]) -> list[list[float]]:
    """Call the cases in turn, again and again, and return the seconds of each; the first round does not count."""
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds + 1):
        for case, taken in zip(cases, times, strict=True):
            started = time.perf_counter()
            case()
            taken.append(time.perf_counter() - started)
    return [taken[1:] for taken in times]


def call(*argv: str, cwd: Path, data: bytes = b"", env: Mapping[str, str] | None = None) -> Callable[[], object]:
    """Return a call that runs a program, with further variables in its environment, to its end."""
    environment = {**os.environ, **(env or {})}
    return lambda: subprocess.run(argv, cwd=cwd, input=data, env=environment, capture_output=True, check=True)


@dataclass(frozen=True)
class Usage:
    """The CPU time and memory of a process and its descendants; shared pages count once in ``proportional``."""

    seconds: float
    resident: float
    proportional: float
    processes: int

    def __str__(self) -> str:
        shared = f"{self.resident:.0f} MB with shared pages counted each time"
        return f"{self.proportional:.0f} MB in {self.processes} processes; {shared}"

    @classmethod
    def of(cls, leader: int) -> Usage:
        """Read the usage from /proc, sizes in MB; ended children count with the parent that waited for them."""
        family = members("no=mark", leader)
        ticks = resident = proportional = 0
        for pid in family:
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
            sizes = dict(line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
            resident += int(sizes["Rss:"])
            proportional += int(sizes["Pss:"])
        return cls(ticks * TICK, resident / 1024, proportional / 1024, len(family))
