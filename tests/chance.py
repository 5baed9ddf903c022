"""What is left to chance, and how it is repeated."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable
from functools import cache

SWITCHES = ("CRASH", "STRESS", "SAMPLE")
"""Variables that say how much is drawn."""

_used: list[int] = []


def seed() -> int:
    """Return and print the number to draw by: SEED, and without it always the same.

    SEED is a number, the id of a commit, which stands for one, or 'random'.
    """
    return use(_number(os.environ.get("SEED") or "1"))


@cache
def _number(given: str) -> int:
    if given == "random":
        return random.SystemRandom().randrange(2**32)
    return int(given[:8], 16) if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", given) else int(given)


def use(number: int) -> int:
    """Print and return a number that is drawn by from now on."""
    _used.append(number)
    print(f"\nSEED={number}", flush=True)
    return number


def chance() -> random.Random:
    """Return what draws by that number."""
    return random.Random(seed())


def repeat(command: str) -> str:
    """Return how to draw once more by the number that was used last, as a line for a shell."""
    given = {"SEED": str(_used[-1]) if _used else ""} | {name: os.environ.get(name, "") for name in SWITCHES}
    return " ".join([*(f"{name}={value}" for name, value in given.items() if value), command])


def share(taken: Iterable[object], known: Iterable[object]) -> str:
    """Return in words how much of what is known was taken."""
    return f"{len(list(taken))} of {len(list(known))}"
