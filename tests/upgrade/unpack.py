"""Unpack the fixture: the repository and the state directory of a project that version 1.0.0 left.

The fixture is at another place now, and it is older. A user who moves a directory or comes back later meets the same,
but the tests are about neither. Unpacking therefore changes these things, and nothing else:

- Paths below the old root become paths below the new one: in ``.git``, in the ``.git`` files of worktrees and in the
  state directory. Files that git tracks keep theirs. The installed git hooks keep theirs as well, because a checksum
  seals them; they name a program that does not exist.
- The name of the state directory ends in a hash of the repository's path. It becomes the hash of the new path.
- All modification times and the end of each cooldown move by the same number of seconds. 1.0 then has stopped just
  now, or as many seconds ago as the test says.
- The indexes of the user's checkouts are refreshed, because they hold inode numbers.

Files come back in the order of their last change, because the recovery of a killed landing depends on that order.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.upgrade.reading import key_of

FIXTURE = Path(__file__).parent / "fixture"


class Move(NamedTuple):
    """The old place and time of the fixture, and how far both move."""

    old: str
    new: Path
    old_key: str
    new_key: str
    seconds: float

    def place(self, name: str) -> Path:
        return self.new / name.replace(self.old_key, self.new_key)

    def contents(self, path: Path, data: bytes) -> bytes:
        """Return the contents of a file in its new place."""
        inside = path.relative_to(self.new).parts
        if path.parent.name == "hooks" or not (".git" in inside or (inside[0] == "root" and "worktrees" not in inside)):
            return data
        if path.parent.name == "backends":
            facts = json.loads(data)
            data = json.dumps({**facts, "until": facts["until"] + self.seconds}).encode()
        data = data.replace(self.old.encode(), os.fsencode(self.new))
        return data.replace(self.old_key.encode(), self.new_key.encode())


def unpack(top: Path, *, seconds_ago: float = 0) -> None:
    """Unpack into a directory: ``project``, ``plan`` (a checkout of the plan branch) and ``root`` (the state)."""
    about = json.loads((FIXTURE / "about.json").read_text())
    project = top / "project"
    move = Move(about["root"], top, about["key"], key_of(project), time.time() - seconds_ago - about["made"])
    git(top, "init", "--quiet", "--template=", str(project))
    fetch = ("fetch", "--quiet", "--no-write-fetch-head", "--update-head-ok")
    git(project, "-c", "core.logAllRefUpdates=false", *fetch, str(FIXTURE / "refs.bundle"), "+refs/*:refs/*")
    with tarfile.open(FIXTURE / "files.tar.gz") as tar:
        for member in tar:
            extract(tar, member, move)
    for checkout in (project, top / "plan"):
        git(checkout, "update-index", "-q", "--refresh", accept=(0, 1))


def extract(tar: tarfile.TarFile, member: tarfile.TarInfo, move: Move) -> None:
    path = move.place(member.name)
    (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
    if not member.isdir():
        file = tar.extractfile(member)
        assert file, f"'{member.name}' is neither a file nor a directory"
        path.write_bytes(move.contents(path, file.read()))
        os.utime(path, (member.mtime + move.seconds, member.mtime + move.seconds))
    path.chmod(member.mode)


def git(directory: Path, *argv: str, accept: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run(["git", *argv], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode in accept, done.stderr
