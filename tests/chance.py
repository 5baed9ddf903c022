"""What is left to chance, and how it is repeated."""

from __future__ import annotations

import os
import random


def seed() -> int:
    """Return and print the number to draw by: SEED, which may be 'random', and without it always the same."""
    given = os.environ.get("SEED") or "1"
    number = random.SystemRandom().randrange(2**32) if given == "random" else int(given)
    print(f"\nSEED={number}", flush=True)
    return number


def chance() -> random.Random:
    """Return what draws by that number."""
    return random.Random(seed())
