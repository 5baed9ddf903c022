"""Helpers for fuzzing: values that break programs, nearly valid documents, and the count of examples."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import figures

PHASES = (Phase.explicit, Phase.generate)
"""No search for the smallest example: all examples are small, and many use the same path through the YAML reader."""

FACTOR = 50 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 1
LIMIT = 60.0
"""Seconds until an example counts as hanging, on a busy machine."""

COUNTS: Counter[str] = Counter()
"""The examples tried in this process, by target."""

NASTY = (
    "", " ", "\0", "a\0b", "\n", "a\nb", "\r\n", "\t", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m",
    "\x85", "\u2028",
    "\ud800", "\udcff", "\ufeff", "\ufffe", "\u202egnp.exe", "e\u0301", "\U0010ffff", "ß", "İ", "²", "٣", "-", "--",
    "-x", "--debug", ".", "..", "../x", "../../../x", "/etc/passwd", "/", ".git", ".git/config", "con", "a/b", "a\\b",
    "~", "$HOME", "$(id)", "`id`", "%s%n", "{0}", "{{x}}", ":(top)*", ":/", "*", "HEAD", "refs/heads/master", "@{1}",
    "x" * 300, "9" * 5000,
    "1e999", "NaN", "null", "none", "true", "0x10", "2001-02-30", "---", "...", "# x", "## Attempt 9 failed: conflict",
    "**Repair:** true", "**Area:** forged", "Transition: x", "Transaction: 0", "\n\nMove: open -> done\nTicket: 0001-x",
    "!!python/object/apply:os.system [id]", "&a [*a]", "*a", "<<: *a", "? [a]", "%YAML 9.9", "[" * 2000, "{" * 2000,
    "eyJ" * 2000, "```", "~~~~", "\x7f",
)  # fmt: skip

NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**400,
    -(10**400),
    1.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
)


def texts() -> st.SearchStrategy[str]:
    """Any text, including half characters, with a preference for critical characters."""
    anything = st.text(st.characters(exclude_categories=()), max_size=12)
    return st.one_of(st.sampled_from(NASTY), anything, st.tuples(anything, st.sampled_from(NASTY)).map("".join))


def values() -> st.SearchStrategy[Any]:
    """Any JSON value, and the further values that Python's JSON reader accepts."""
    leaves = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(), texts())
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3), max_leaves=6
    )


@st.composite
def mutated(draw: st.DrawFn, *documents: bytes) -> bytes:
    """A document with pieces removed, doubled, inserted and moved."""
    data = draw(st.sampled_from(documents))
    pieces = st.one_of(texts().map(lambda text: text.encode(errors="surrogatepass")), st.binary(max_size=8))
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.integers(0, len(data))) for _ in range(2))
        match draw(st.sampled_from(("cut", "put", "change", "double", "end", "lines"))):
            case "cut":
                data = data[:start] + data[end:]
            case "put":
                data = data[:start] + draw(pieces) + data[start:]
            case "change":
                data = data[:start] + draw(pieces) + data[end:]
            case "double":
                data = data[:end] + data[start:end] * draw(st.integers(1, 40)) + data[end:]
            case "end":
                data = data[:end]
            case "lines":
                data = data.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"\n\n", b"\x85", b" \n"))))
    return data


@st.composite
def altered(draw: st.DrawFn, *documents: Any) -> Any:
    """A JSON value with some of its parts replaced, removed and renamed, at any depth."""
    value = json.loads(json.dumps(draw(st.sampled_from(documents))))
    for _ in range(draw(st.integers(0, 3))):
        holders = list(_holders(value))
        if not holders:
            return draw(values())
        holder, key = draw(st.sampled_from(holders))
        match draw(st.sampled_from(("replace", "remove", "add", "deepen"))):
            case "replace":
                holder[key] = draw(values())
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(texts())] = draw(values())
            case "deepen":
                holder[key] = [holder[key]] * draw(st.integers(0, 3))
    return value


def _holders(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place in a JSON value, as its container and its key or index."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _holders(value[key])


def fuzzed(target: str, examples: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Make a test of many examples, which are counted under the name of their target; none may hang."""

    def decorate(test: Callable[..., None]) -> Any:
        @settings(max_examples=examples * FACTOR, suppress_health_check=list(HealthCheck), phases=PHASES)
        @given(**strategies)
        @wraps(test)
        def run(*arguments: Any, **named: Any) -> None:
            COUNTS[target] += 1
            with in_time():
                test(*arguments, **named)

        return run

    return decorate


@contextmanager
def in_time(seconds: float = LIMIT) -> Iterator[None]:
    """Fail if a block takes too long, wherever it hangs."""

    def fail(*_: object) -> None:
        raise AssertionError(f"it hangs: not over after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def publish() -> None:
    """Save the counts so far."""
    figures.publish("fuzz", [*sorted(COUNTS.items()), ("all of them", COUNTS.total())])
