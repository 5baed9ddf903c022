"""Reads the logs of a ticket's runs: trailers for commits, and the session to resume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scriptorium.agents.harness.base import Session
from scriptorium.agents.harness.usage import Usage
from scriptorium.plan.cause import BACKEND, Cause


def _runs(logs: Path) -> Iterator[dict[str, Any]]:
    """Yield the facts of the finished runs in a directory of logs, newest first."""
    for file in sorted(logs.glob("attempt-*.json"), key=lambda file: (len(file.name), file.name), reverse=True):
        try:
            facts = json.loads(file.read_text())
        except (OSError, ValueError):
            facts = None
        yield facts if isinstance(facts, dict) else {}


def last_trailers(logs: Path) -> dict[str, object]:
    """Return the trailers of the newest finished run in a directory of logs; empty if there is none."""
    trailers = next(_runs(logs), {}).get("trailers")
    return trailers if isinstance(trailers, dict) else {}


def last_session(logs: Path, agent: str, prompt: str) -> Session | None:
    """Return the session of the newest run in which the model answered, if the same agent made it.

    Later runs that the backend rejected are skipped: they did not change the session.
    """
    for run in _runs(logs):
        trailers = run.get("trailers")
        # after the cause `agent`, such as a full context, the session would fail again
        if not isinstance(trailers, dict) or trailers.get("Agent") != agent or run.get("cause") == Cause.AGENT:
            return None
        if run.get("worked") or run.get("cause") not in BACKEND:
            session = run.get("session") if run.get("worked") else None
            return Session(str(session), prompt, Usage.parse(run.get("total"))) if session else None
    return None
