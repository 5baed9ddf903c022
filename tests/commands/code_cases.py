"""Constants and helpers for the tests of `scriptorium code`."""

from __future__ import annotations

import re

from tests.support import Project

NAME = "0001-thing"
SUBMIT = "\nscriptorium submit-pr 'add a file'\n"


def files(project: Project) -> dict[str, str]:
    """Return the tickets and queue items of the plan."""
    found = project.plan_files()
    return {path: text for path, text in found.items() if re.match(r"(tickets|queue/merge/pending)/.*\.md", path)}


def assert_reopened(project: Project, cause: str, note: str, name: str = NAME) -> None:
    """Assert that the first attempt of the only ticket failed, and that the ticket has this note."""
    ((path, text),) = files(project).items()
    assert path == f"tickets/open/{name}.md"
    assert "\nattempts: 1\n" in text
    assert text.endswith(f"Do it.\n\n## Attempt 1 failed: {cause}\n\n{note}\n")
    assert project.plan_log()[-1] == f"scriptorium: reopen ticket {name}"
