"""Helpers for the tests of bad input."""

from __future__ import annotations

from tests.support import Project, Result


def picture(project: Project, head: str = "HEAD") -> tuple[object, ...]:
    """Return the state that must not change: refs, index, and every file of the working tree."""
    files = {
        str(path.relative_to(project.root)): path.read_bytes()
        for path in project.root.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(project.root).parts
    }
    return project.git("for-each-ref"), project.git("status", "--porcelain"), project.git("rev-parse", head), files


def refused(result: Result, code: int, message: str, hint: str) -> None:
    """Assert that a command printed one line and a hint on stderr, and nothing else."""
    assert (result.code, result.out) == (code, ""), result.err
    first, last = result.err.splitlines()
    assert first == f"scriptorium: {message}"
    assert last.startswith("hint: ")
    assert hint in last
