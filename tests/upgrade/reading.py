"""Read a project as a user's script does: by git, by files and by the JSON that commands print."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import PLAN, Project


class Commit(NamedTuple):
    """A commit of the plan branch."""

    subject: str
    trailers: dict[str, str]


def commits(project: Project, since: str = "") -> list[Commit]:
    """Return the commits of the plan branch, or those since another commit, the oldest first."""
    form = "--format=%s%x00%(trailers:only,unfold)%x01"
    log = project.git("log", "--first-parent", "--reverse", form, f"{since}..{PLAN}" if since else PLAN)
    found = [entry.strip("\n").partition("\0") for entry in log.split("\x01") if entry.strip("\n")]
    return [Commit(subject, dict(line.split(": ", 1) for line in text.splitlines())) for subject, _, text in found]


def key_of(root: Path) -> str:
    """Return the name of a repository's state directory, as 1.0 derives it from the top of the main worktree."""
    return f"{root.name}-{hashlib.sha256(os.fsencode((root / '.git').resolve())).hexdigest()[:12]}"


def state(project: Project) -> Path:
    """Return the state directory of a project."""
    return project.root.parent / "root" / key_of(project.root)


def report(project: Project, *argv: str) -> Any:
    """Return what a command prints as JSON; the command must succeed and print nothing else."""
    result = project.run(*argv)
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def has(found: Any, expected: Any) -> bool:
    """Return whether JSON is as expected; its objects may have further keys, because a later version may add some."""
    match expected:
        case dict():
            return isinstance(found, dict) and all(key in found and has(found[key], expected[key]) for key in expected)
        case list():
            return len(found) == len(expected) and all(map(has, found, expected))
    return bool(found == expected)


def lines(file: Path) -> list[str]:
    """Return the lines of a file, none where it does not exist."""
    return file.read_text().splitlines() if file.exists() else []
