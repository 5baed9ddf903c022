"""Measures the memory, handles and files of a long run again and again, and their growth."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

from scriptorium.system.watchdog import members


@dataclass(frozen=True)
class Held:
    """The resources of the daemon after so many tickets; memory in KiB, processes with their descendants.

    Proportional shares of pages would depend on other processes: they halve while a forked child exists.
    """

    done: int
    resident: int
    anonymous: int
    handles: int
    threads: int
    processes: int

    @classmethod
    def by(cls, pid: int, done: int) -> Held | None:
        """Read the resources from /proc; None if the process is gone."""
        try:
            sizes = _words(Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
            threads = _words(Path(f"/proc/{pid}/status").read_text().splitlines())["Threads:"]
            handles = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        except (OSError, KeyError):
            return None
        return cls(done, sizes["Rss:"], sizes["Anonymous:"], handles, threads, len(members("no=mark", pid)))


def _words(lines: Iterable[str]) -> dict[str, int]:
    pairs = (line.split()[:2] for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


@dataclass(frozen=True)
class Left:
    """The files and bytes on the disk after so many tickets, by place."""

    done: int
    files: Counter[str]
    sizes: Counter[str]

    @classmethod
    def on_disk(cls, done: int, git_dir: Path, state: Path) -> Left:
        """Count the files; directories count as files, as they use an inode as well."""
        files, sizes = Counter[str](), Counter[str]()
        for name, root in ((".git", git_dir), ("state", state)):
            for directory, _, names in os.walk(root):
                place = _place(name, Path(directory).relative_to(root).parts)
                files[place] += 1 + len(names)
                sizes[place] += sum(_size(f"{directory}/{file}") for file in names)
        return cls(done, files, sizes)


def _place(name: str, parts: tuple[str, ...]) -> str:
    """Return the place of a directory: a part of the state, or of .git, in a few words."""
    if name == "state":
        return "/".join(("state", *parts[1:3])) if parts[1:2] == ("worktrees",) else "/".join(("state", *parts[1:2]))
    if parts[:1] == ("objects",):
        return ".git/objects/pack" if parts[1:2] == ("pack",) else ".git/objects"
    return "/".join((".git", *parts[:1]))


def _size(file: str) -> int:
    try:
        return os.lstat(file).st_size
    except OSError:
        return 0  # removed meanwhile


def slope(pairs: Sequence[tuple[int, float]]) -> float:
    """Return the growth of a figure for each ticket, by least squares."""
    return linear_regression([done for done, _ in pairs], [value for _, value in pairs]).slope


@dataclass(frozen=True)
class Trend:
    """A figure early in a run, at its end, and its growth for each ticket."""

    early: float
    late: float
    each: float

    @property
    def growth(self) -> float:
        return self.late - self.early

    @classmethod
    def of(cls, held: Sequence[Held], figure: Callable[[Held], float]) -> Trend:
        """Compare the minima of the first and the last eighth of the samples: peaks disappear, a leak stays."""
        share = max(1, len(held) // 8)
        early, late = (min(map(figure, part)) for part in (held[:share], held[-share:]))
        return cls(early, late, slope([(look.done, figure(look)) for look in held]))
