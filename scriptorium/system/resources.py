"""Finds the files that are shipped with the code."""

from __future__ import annotations

from pathlib import Path


def share(name: str) -> Path:
    """Return a shipped directory, ``hooks`` or ``templates``: in the wheel, or at the top of a clone."""
    package = Path(__file__).parent.parent
    packed = package / "_share" / name
    return packed if packed.is_dir() else package.parent / name
