"""Constants and helpers for the tests of `scriptorium merge`."""

from __future__ import annotations

from tests.support import Project

COUNT = 'echo gate >>"$$FACTS/gates"'
BRANCH = "refs/heads/scriptorium/ticket-0001"


def state(project: Project, name: str) -> str:
    """Return the state of a ticket, with a plus if it is queued as well."""
    files = project.plan_files()
    (path,) = (path for path in files if path.startswith("tickets/") and path.endswith(f"/{name}.md"))
    queued = any(path.startswith("queue/") and f"/{name}.md" in text for path, text in files.items())
    return path.split("/")[1] + ("+" if queued else "")


def note(project: Project, name: str) -> str:
    """Return the text that was added to an open ticket."""
    return project.plan_files()[f"tickets/open/{name}.md"].partition("Do it.\n\n")[2]
