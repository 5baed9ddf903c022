"""The logs of a ticket's runs, read again: trailers for commits, and the session to resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scriptorium.agents.harness.base import Session
from scriptorium.agents.harness.usage import Usage
from scriptorium.plan.cause import BACKEND, Cause


def _runs(logs: Path) -> Iterator[dict[str, Any]]:
    """Yield the facts of the finished runs in a directory of logs, the newest first."""
    for file in sorted(logs.glob("attempt-*.json"), key=lambda file: (len(file.name), file.name), reverse=True):
        try:
            facts = json.loads(file.read_text())
        except (OSError, ValueError):
            facts = None
        yield facts if isinstance(facts, dict) else {}


def last_trailers(logs: Path) -> dict[str, object]:
    """Return the trailers of the newest finished run in a directory of logs; empty when there is none."""
    trailers = next(_runs(logs), {}).get("trailers")
    return trailers if isinstance(trailers, dict) else {}


def last_session(logs: Path, agent: str, prompt: str) -> Session | None:
    """Return the session of the newest run in which the model answered, if that agent can go on with it.

    Runs since then in which its backend refused are passed over: the session is none the worse for them.
    """
    for run in _runs(logs):
        trailers = run.get("trailers")
        # one that could not go on, as with its context full, would fail again
        if not isinstance(trailers, dict) or trailers.get("Agent") != agent or run.get("cause") == Cause.AGENT:
            return None
        if run.get("worked") or run.get("cause") not in BACKEND:
            session = run.get("session") if run.get("worked") else None
            return Session(str(session), prompt, Usage.parse(run.get("total"))) if session else None
    return None
