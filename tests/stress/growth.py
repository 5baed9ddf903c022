"""What a long run holds and leaves behind, looked at again and again, and how fast it grows."""

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
    """What the daemon holds after so many tickets; memory in KiB, processes with their descendants.

    Shares of pages that others map as well would tell of the others, too: while a child is forked, they are the half.
    """

    done: int
    resident: int
    anonymous: int
    handles: int
    threads: int
    processes: int

    @classmethod
    def by(cls, pid: int, done: int) -> Held | None:
        """Read it from /proc; None when the process is gone."""
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
    """What lies on the disk after so many tickets: files and bytes by place."""

    done: int
    files: Counter[str]
    sizes: Counter[str]

    @classmethod
    def on_disk(cls, done: int, git_dir: Path, state: Path) -> Left:
        """Count it; directories count as files, as they take an inode as well."""
        files, sizes = Counter[str](), Counter[str]()
        for name, root in ((".git", git_dir), ("state", state)):
            for directory, _, names in os.walk(root):
                place = _place(name, Path(directory).relative_to(root).parts)
                files[place] += 1 + len(names)
                sizes[place] += sum(_size(f"{directory}/{file}") for file in names)
        return cls(done, files, sizes)


def _place(name: str, parts: tuple[str, ...]) -> str:
    """Return the place that a directory belongs to: the part of the state, or of .git, in few words."""
    if name == "state":
        return "/".join(("state", *parts[1:3])) if parts[1:2] == ("worktrees",) else "/".join(("state", *parts[1:2]))
    if parts[:1] == ("objects",):
        return ".git/objects/pack" if parts[1:2] == ("pack",) else ".git/objects"
    return "/".join((".git", *parts[:1]))


def _size(file: str) -> int:
    try:
        return os.lstat(file).st_size
    except OSError:
        return 0  # gone meanwhile


def slope(pairs: Sequence[tuple[int, float]]) -> float:
    """Return by how much a figure grows with a ticket, by least squares."""
    return linear_regression([done for done, _ in pairs], [value for _, value in pairs]).slope


@dataclass(frozen=True)
class Trend:
    """A figure early, at the end, and its growth a ticket."""

    early: float
    late: float
    each: float

    @property
    def growth(self) -> float:
        return self.late - self.early

    @classmethod
    def of(cls, held: Sequence[Held], figure: Callable[[Held], float]) -> Trend:
        """Compare the least of the first and of the last eighth of the looks: a moment's work goes, a leak stays."""
        share = max(1, len(held) // 8)
        early, late = (min(map(figure, part)) for part in (held[:share], held[-share:]))
        return cls(early, late, slope([(look.done, figure(look)) for look in held]))
