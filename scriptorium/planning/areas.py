"""The areas that the Architect may write, and the tool that submits them."""

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
    """Write all areas, each ``{name, text}``, into a checkout of the plan and return the reply to the Architect.

    Raises, with a message for the Architect, if any area is invalid; no file is written then.
    """
    if not isinstance(areas, list) or not all(map(_is_area, areas)):
        raise ScriptoriumError(
            "'areas' is not a list of areas", "submit a list of {name, text} objects; both values are strings"
        )
    if not isinstance(remove, list) or not all(isinstance(name, str) for name in remove):
        raise ScriptoriumError("'remove' is not a list of area names", "submit a list of strings")
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
    """Raise, with a message for the Architect, if the names of new or removed areas are invalid. Pure."""
    wrong = [f"'{name}' is not a valid name of an area" for name in new if not may_write(_path(name))]
    wrong += [
        f"there is no area '{name}' to remove; the areas are {', '.join(known)}" for name in gone if name not in known
    ]
    wrong += [f"area '{name}' occurs twice" for name in new if (new + gone).count(name) > 1]
    if wrong:
        raise ScriptoriumError(wrong[0], "no area was accepted: correct the error and submit all areas again")


def _path(area: str) -> str:
    return f"areas/{area}.md"


def _names(worktree: Path) -> list[str]:
    return sorted(file.stem for file in (worktree / "areas").glob("*.md"))
