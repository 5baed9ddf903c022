"""Random choices of tests, and how to repeat them."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable
from functools import cache

SWITCHES = ("CRASH", "STRESS", "SAMPLE")
"""Environment variables that set the size of a sample."""

_used: list[int] = []


def seed() -> int:
    """Return and print the seed of random choices: SEED, or a constant without it.

    SEED is a number, the id of a commit, which is used as a number, or 'random'.
    """
    return use(_number(os.environ.get("SEED") or "1"))


@cache
def _number(given: str) -> int:
    if given == "random":
        return random.SystemRandom().randrange(2**32)
    return int(given[:8], 16) if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", given) else int(given)


def use(number: int) -> int:
    """Print and return a seed, and use it from now on."""
    _used.append(number)
    print(f"\nSEED={number}", flush=True)
    return number


def chance() -> random.Random:
    """Return a random generator with the seed."""
    return random.Random(seed())


def repeat(command: str) -> str:
    """Return a shell line that repeats the choices of the last seed."""
    given = {"SEED": str(_used[-1]) if _used else ""} | {name: os.environ.get(name, "") for name in SWITCHES}
    return " ".join([*(f"{name}={value}" for name, value in given.items() if value), command])


def share(taken: Iterable[object], known: Iterable[object]) -> str:
    """Return the share of a sample, in words."""
    return f"{len(list(taken))} of {len(list(known))}"
