"""Starts other parts of this scriptorium in a Python interpreter of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import scriptorium


def command_for(module: str) -> list[str]:
    """Return a command that calls ``main()`` of a module of this package; it exits with the result.

    The command runs the installation that runs now: ``-P`` keeps modules of the current directory out.
    """
    source = str(Path(scriptorium.__path__[0]).parent)
    start = f"import sys; sys.path.insert(0, {source!r}); from {module} import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", start]
