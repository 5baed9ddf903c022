"""What a run of an agent has used up: tokens, and what they cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from scriptorium.project.config import Price


@dataclass(frozen=True)
class Usage:
    """Tokens of a run, and its cost in US dollars; the input includes what was cached, the output the reasoning."""

    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    cost_usd: float = 0.0

    def __sub__(self, earlier: Usage) -> Usage:
        """Return what was used since, never less than nothing."""
        names = [field.name for field in fields(self)]
        return Usage(**{name: max(0, getattr(self, name) - getattr(earlier, name)) for name in names})

    def __or__(self, other: Usage) -> Usage:
        """Return it, and what it leaves at nothing from another."""
        return Usage(**{field.name: getattr(self, field.name) or getattr(other, field.name) for field in fields(self)})

    def priced(self, price: Price | None) -> Usage:
        """Return it with the cost by a price table, unless the backend has told its own."""
        if price is None or self.cost_usd:
            return self
        fresh = self.tokens_in - self.tokens_cached
        cost = fresh * price.input + self.tokens_cached * price.cached + self.tokens_out * price.output
        return replace(self, cost_usd=cost / 1_000_000)

    @classmethod
    def parse(cls, data: object) -> Usage:
        """Read one that was kept as JSON; what is missing or wrong is nothing."""
        tokens = {name: count(data, f"tokens_{name}") for name in ("in", "cached", "out", "reasoning")}
        return cls(**{f"tokens_{name}": number for name, number in tokens.items()}, cost_usd=amount(data, "cost_usd"))

    def trailers(self) -> dict[str, object]:
        """Return it as commit trailers, '' for what is not known."""
        return {
            "Tokens-In": self.tokens_in or "",
            "Tokens-Cached": self.tokens_cached or "",
            "Tokens-Out": self.tokens_out or "",
            "Tokens-Reasoning": self.tokens_reasoning or "",
            "Cost-USD": f"{self.cost_usd:.6f}" if self.cost_usd else "",
        }


NOTHING = Usage()

MAX_AMOUNT = 10**15
"""A figure above this is no count of tokens and no cost."""


def amount(data: object, key: str) -> float:
    """Return a number of a parsed JSON object, 0 when it is not there, negative or more than can be."""
    value = data.get(key) if isinstance(data, Mapping) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT:
        return value
    return 0


def count(data: object, key: str) -> int:
    """Return a whole number of a parsed JSON object, as `amount` does."""
    return int(amount(data, key))
