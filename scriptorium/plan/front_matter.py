"""The fields of a ticket: YAML front matter, or bold lines in tickets of the original scriptorium."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_YAML = 65536
"""The longest front matter in characters; parsing a kilobyte takes about ten milliseconds."""

KEYS = ("area", "depends", "priority", "attempts", "repair")
"""The keys of front matter that scriptorium reads; it ignores all others."""

SIMILARITY = 0.65
"""The similarity from which an unknown key counts as a misspelling; 'prio' just reaches it."""


def split_front_matter(text: str) -> tuple[str, str] | None:
    """Split a text into front matter and body, or return None if it has no front matter.

    Raises ValueError if the front matter has no end.
    """
    lines = text.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != "---":
        return None
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return "".join(lines[1:number]), "".join(lines[number:])
    raise ValueError("its front matter has no closing '---' line")


def load_yaml(text: str) -> dict[str, Any]:
    """Read front matter. Raises ValueError with the line unless it is a mapping in YAML without anchors and tags."""
    from ruamel.yaml.error import MarkedYAMLError  # late: status and the hooks do not need YAML

    from scriptorium.plan import plain_yaml

    if len(text) > MAX_YAML:
        raise ValueError("its front matter is too long")
    try:
        data = plain_yaml.load(text)
    except plain_yaml.UnsupportedError as error:
        line = error.problem_mark.line + 2  # the first line is '---'
        raise ValueError(f"its front matter has an unsupported YAML {error.problem} in line {line}") from error
    except MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 2}" if error.problem_mark else ""
        raise ValueError(f"its front matter is not YAML{line}: {error.problem}") from error
    except RecursionError as error:
        raise ValueError("its front matter is nested too deeply") from error
    except Exception as error:  # the library raises many kinds of errors for a broken document
        raise ValueError(f"its front matter is not YAML: {' '.join(str(error).split())}") from error
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise ValueError("its front matter is not a list of 'key: value' lines")
    return dict(data)


def bold_fields(text: str) -> dict[str, Any]:
    """Return the fields of a ticket in the original's form. The first of several equal fields counts."""
    pattern = r"^\*\*(Area|Depends|Priority|Attempts|Repair):\*\*[ \t]*(.*?)[ \t\r]*$"
    return {key.lower(): value for key, value in reversed(re.findall(pattern, text, re.MULTILINE))}


def misspelled_keys(text: str) -> dict[str, str]:
    """Return the misspelled keys of a ticket's front matter, each with the key that was probably meant."""
    from difflib import get_close_matches  # late: only fsck needs it

    parts = split_front_matter(text)
    keys = [str(key) for key in load_yaml(parts[0])] if parts else []
    near = {key: get_close_matches(key.lower(), KEYS, 1, SIMILARITY) for key in keys if key not in KEYS}
    return {key: found[0] for key, found in near.items() if found}


def set_field(text: str, key: str, value: object) -> str:
    """Return a ticket's text with one field changed or added; every other line stays as it is.

    ``value`` is written as YAML: a number, a word, or a list such as ``[0003, 0004]``. Raises ValueError if the
    layout of the front matter does not allow the change.
    """
    parts = split_front_matter(text)
    if parts is None:
        return _set_bold_field(text, key, value)
    head, rest = parts
    end = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"
    line = f"{key}: {value}"
    # the key's line up to a comment, and the lines of a block list below it
    pattern = re.compile(
        rf"^{re.escape(key)}[ \t]*:[^\r\n#]*?(?=[ \t]*(?:#[^\r\n]*)?\r?$)(?P<end>[^\r\n]*)"
        r"(?:\r?\n[ \t]*-[ \t][^\r\n]*)*",
        re.MULTILINE,
    )
    changed, count = pattern.subn(lambda found: line + found["end"], head, count=1)
    if not count:
        changed = f"{head}{line}{end}"
    if not _is_changed(head, changed, line):
        raise ValueError(f"'{key}' cannot be set to '{value}' in its front matter")
    return f"---{end}{changed}{rest}"


def _is_changed(old: str, new: str, line: str) -> bool:
    wanted = {**load_yaml(old), **load_yaml(line)}
    try:
        return load_yaml(new) == wanted
    except ValueError:
        return False


def _set_bold_field(text: str, key: str, value: object) -> str:
    shown = str(value).strip("[]")
    line = f"**{key.capitalize()}:** {shown}"
    pattern = re.compile(rf"^\*\*{key.capitalize()}:\*\*[^\r\n]*", re.MULTILINE)
    if pattern.search(text):
        return pattern.sub(lambda _: line, text, count=1)
    area = re.search(r"^\*\*Area:\*\*[^\n]*\n?", text, re.MULTILINE)
    at = area.end() if area else 0
    gap = "" if text[:at].endswith("\n") or not at else "\n"
    return f"{text[:at]}{gap}{line}\n{text[at:]}"


def append_section(text: str, heading: str, body: str) -> str:
    """Return a ticket's text with a section added at its end."""
    return f"{text.rstrip()}\n\n## {heading}\n\n{body.strip()}\n"
