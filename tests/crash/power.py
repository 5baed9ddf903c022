"""A loss of power: of the files written since the start, only synced files still exist.

This cannot simulate: a lost rename, removal or directory of a file that survives, writes that reach the disk in
another order within a file, and disks that lie about a flush. Files that the user's git wrote, and the files of
checkouts, are as safe as git makes them; here they survive.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.crash.flow import Flow

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time in nanoseconds, which change with each write."""


def library(directory: Path) -> Path:
    """Compile the library that records which files are synced."""
    found = directory / "synced.so"
    source = Path(__file__).with_name("inside") / "synced.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", found, source, "-ldl"], check=True)
    return found


def stamp(file: Path) -> Stamp:
    """Return a stamp of a file that changes with each write."""
    found = file.lstat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def files(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory, without links."""
    for parent, _, names in os.walk(directory):
        for name in names:
            file = Path(parent, name)
            if file.is_file() and not file.is_symlink():
                yield file


def on_the_disk(synced: str) -> set[Stamp]:
    """Return the files that were synced. A sync that only began counts after the next full sync."""
    found, begun = set[Stamp](), set[Stamp]()
    for line in synced.splitlines():
        how, *numbers = line.split()
        device, inode, size, time = map(int, numbers)
        (begun if how == "begun" else found).add((device, inode, size, time))
        if how == "full":
            found |= begun
            begun.clear()
    return found


def lose(flow: Flow, before: set[Stamp], synced: str, *, state: bool) -> list[str]:
    """Remove or truncate every second file that was not synced, and return their names.

    With ``state`` the whole state directory is lost, as when /tmp is in memory; else only files outside worktrees.
    """
    known = before | on_the_disk(synced)
    objects = {each[:3] for each in known}  # git touches an object that exists already
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
