"""The areas that the Architect may write, and the tool that it submits them with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from scriptorium.agents.tools.server import Tools
from scriptorium.errors import ScriptoriumError
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import area_problem
from scriptorium.system.files import remove_inside, write_inside


def may_write(path: str) -> bool:
    found = re.fullmatch(r"areas/([^/.][^/]*)\.md", path, re.DOTALL)
    return found is not None and not area_problem(found[1])


def area_tools(_base: Plan, worktree: Path) -> Tools:
    return {"submit_areas": lambda given: submit_areas(worktree, given.get("areas"), given.get("remove", []))}


def submit_areas(worktree: Path, areas: Any, remove: Any) -> str:
    """Write areas, each ``{name, text}``, into a checkout of the plan, all or none, and return the reply."""
    if not isinstance(areas, list) or not all(map(_is_area, areas)):
        raise ScriptoriumError("these are no areas", "a list of {name, text}, both of them texts")
    if not isinstance(remove, list) or not all(isinstance(name, str) for name in remove):
        raise ScriptoriumError("these are no names of areas to remove", "a list of texts")
    files = [(area["name"], f"{area['text'].strip()}\n") for area in areas]
    gone = list(remove)
    _check([name for name, _ in files], gone, _names(worktree))
    for name, text in files:
        write_inside(worktree, _path(name), text.encode(errors="replace"))
    for name in gone:
        remove_inside(worktree, _path(name))
    return f"The areas are {', '.join(_names(worktree)) or 'none'}."


def _is_area(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("name", "text"))


def _check(new: list[str], gone: list[str], known: list[str]) -> None:
    """Raise, for the Architect to read, when areas of these names cannot be taken. Pure."""
    wrong = [f"'{name}' is no name for an area" for name in new if not may_write(_path(name))]
    wrong += [f"there is no area '{name}' to remove, only {', '.join(known)}" for name in gone if name not in known]
    wrong += [f"area '{name}' is there twice" for name in new if (new + gone).count(name) > 1]
    if wrong:
        raise ScriptoriumError(wrong[0], "none of them is taken: mend it, and hand them all in again")


def _path(area: str) -> str:
    return f"areas/{area}.md"


def _names(worktree: Path) -> list[str]:
    return sorted(file.stem for file in (worktree / "areas").glob("*.md"))
