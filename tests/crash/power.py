"""A loss of power: of what was written since the start, only what was synced is still there.

What this cannot tell: a rename, a removal or a directory that is lost though the file is not, writes that reach
the disk in another order within a file, and disks that lie about a flush. What the user's own git wrote, and the
files of checkouts, are as safe as git makes them; here they stay.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.crash.flow import Flow

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time in nanoseconds: the same as long as nobody writes."""


def library(directory: Path) -> Path:
    """Compile what tells which files are synced."""
    found = directory / "synced.so"
    source = Path(__file__).with_name("inside") / "synced.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", found, source, "-ldl"], check=True)
    return found


def stamp(file: Path) -> Stamp:
    """Return what tells whether a file was written meanwhile."""
    found = file.lstat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def files(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory, links left out."""
    for parent, _, names in os.walk(directory):
        for name in names:
            file = Path(parent, name)
            if file.is_file() and not file.is_symlink():
                yield file


def on_the_disk(told: str) -> set[Stamp]:
    """Return the files that were synced; one that was only begun is so after the next full sync."""
    found, begun = set[Stamp](), set[Stamp]()
    for line in told.splitlines():
        how, *numbers = line.split()
        device, inode, size, time = map(int, numbers)
        (begun if how == "begun" else found).add((device, inode, size, time))
        if how == "full":
            found |= begun
            begun.clear()
    return found


def lose(flow: Flow, before: set[Stamp], told: str, *, state: bool) -> list[str]:
    """Take away what was not synced, every other file altogether, and return its names.

    With ``state`` the whole state directory goes, as where /tmp is in memory; without, what is not in worktrees.
    """
    known = before | on_the_disk(told)
    objects = {each[:3] for each in known}  # git touches one that it finds to be there already
    git, home = flow.project.root / ".git", flow.project.paths.home
    if state:
        shutil.rmtree(home, ignore_errors=True)
    lost = [
        file
        for file in files(git)
        if (stamp(file)[:3] not in objects if "objects" in file.parts else stamp(file) not in known)
    ]
    lost += [file for file in files(home) if stamp(file) not in known and home / "worktrees" not in file.parents]
    for number, file in enumerate(sorted(lost)):
        if number % 2:
            file.unlink()
        else:
            os.truncate(file, 0)
    return [str(file.relative_to(flow.base)) for file in lost]
