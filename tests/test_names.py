"""The names of tests are short enough to be read in the report of a failure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MAX_LENGTH = 70


def python_files() -> list[str]:
    """Return every Python file of the tests, relative to `tests/`."""
    return sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py"))


def too_long(source: str) -> list[str]:
    """Return the names of tests in a source, methods included, that are longer than the limit."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return [node.name for node in functions if node.name.startswith("test_") and len(node.name) > MAX_LENGTH]


@pytest.mark.parametrize("path", python_files())
def test_a_file_has_no_long_test_name(path: str) -> None:
    assert too_long((TESTS / path).read_text(encoding="utf-8")) == []


def test_only_a_name_over_the_limit_is_found() -> None:
    fits, long = "test_".ljust(MAX_LENGTH, "x"), "test_".ljust(MAX_LENGTH + 1, "x")
    assert too_long(f"def {fits}(): ...\nclass Case:\n    def {long}(self): ...\n") == [long]
