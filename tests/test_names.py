"""The names of tests are short enough to be read in the report of a failure.

`NOT_YET` lists the files that still have longer names. The list can only shrink: a clean file in it fails as well.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MAX_LENGTH = 70

NOT_YET: set[str] = {
    "commands/test_clean.py",
    "commands/test_run.py",
    "git/test_command.py",
    "git/test_worktree.py",
    "git/test_worktree_list.py",
    "project/test_paths.py",
    "project/test_workspace.py",
    "scheduler/test_housekeeping.py",
}
"""Files with a longer name. Remove a file from the set with its last one."""


def python_files() -> list[str]:
    """Return every Python file of the tests, relative to `tests/`."""
    return sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py"))


def too_long(source: str) -> list[str]:
    """Return the names of tests in a source, methods included, that are longer than the limit."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return [node.name for node in functions if node.name.startswith("test_") and len(node.name) > MAX_LENGTH]


@pytest.mark.parametrize("path", python_files())
def test_a_file_has_no_long_test_name_or_is_listed(path: str) -> None:
    found = too_long((TESTS / path).read_text(encoding="utf-8"))
    if path in NOT_YET:
        assert found, f"{path} is clean: remove it from NOT_YET"
    else:
        assert found == []


def test_every_listed_file_exists() -> None:
    assert set(python_files()) >= NOT_YET


def test_only_a_name_over_the_limit_is_found() -> None:
    fits, long = "test_".ljust(MAX_LENGTH, "x"), "test_".ljust(MAX_LENGTH + 1, "x")
    assert too_long(f"def {fits}(): ...\nclass Case:\n    def {long}(self): ...\n") == [long]
