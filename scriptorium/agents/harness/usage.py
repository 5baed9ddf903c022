"""Usage of an agent's run: tokens and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from scriptorium.project.config import Price


@dataclass(frozen=True)
class Usage:
    """Tokens and cost in US dollars; input includes cached tokens, output includes reasoning."""

    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    cost_usd: float = 0.0

    def __sub__(self, earlier: Usage) -> Usage:
        """Return the usage since ``earlier``, at least zero."""
        names = [field.name for field in fields(self)]
        return Usage(**{name: max(0, getattr(self, name) - getattr(earlier, name)) for name in names})

    def __or__(self, other: Usage) -> Usage:
        """Return this usage, with zero figures taken from another."""
        return Usage(**{field.name: getattr(self, field.name) or getattr(other, field.name) for field in fields(self)})

    def priced(self, price: Price | None) -> Usage:
        """Return this usage with a cost by the price table, unless the backend reported a cost."""
        if price is None or self.cost_usd:
            return self
        fresh = self.tokens_in - self.tokens_cached
        cost = fresh * price.input + self.tokens_cached * price.cached + self.tokens_out * price.output
        return replace(self, cost_usd=cost / 1_000_000)

    @classmethod
    def parse(cls, data: object) -> Usage:
        """Return the usage in parsed JSON; missing and invalid figures are zero."""
        tokens = {name: count(data, f"tokens_{name}") for name in ("in", "cached", "out", "reasoning")}
        return cls(**{f"tokens_{name}": number for name, number in tokens.items()}, cost_usd=amount(data, "cost_usd"))

    def trailers(self) -> dict[str, object]:
        """Return commit trailers; '' for unknown figures."""
        return {
            "Tokens-In": self.tokens_in or "",
            "Tokens-Cached": self.tokens_cached or "",
            "Tokens-Out": self.tokens_out or "",
            "Tokens-Reasoning": self.tokens_reasoning or "",
            "Cost-USD": f"{self.cost_usd:.6f}" if self.cost_usd else "",
        }


NOTHING = Usage()

MAX_AMOUNT = 10**15
"""The largest figure that is accepted as a token count or a cost."""


def amount(data: object, key: str) -> float:
    """Return a number from a parsed JSON object; 0 if it is missing, negative or above `MAX_AMOUNT`."""
    value = data.get(key) if isinstance(data, Mapping) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT:
        return value
    return 0


def count(data: object, key: str) -> int:
    """Return `amount` as a whole number."""
    return int(amount(data, key))
