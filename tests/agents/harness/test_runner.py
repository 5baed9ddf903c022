"""Which session a further attempt resumes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scriptorium.agents.run_log import last_session

AGENT = "codex/gpt-5.5"
WORKED = {"session": "one", "worked": True, "cause": None, "total": {"tokens_in": 7}}
REFUSED = {"session": "one", "worked": False, "cause": "rate-limit", "total": {"tokens_in": 7}}


def keep(logs: Path, *runs: dict[str, object]) -> None:
    """Write the facts of runs, oldest first."""
    for number, run in enumerate(runs, 1):
        facts = {"trailers": {"Agent": AGENT}, **run}
        (logs / f"attempt-{number:02d}.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("runs", [[WORKED], [WORKED, REFUSED], [WORKED, REFUSED, REFUSED]])
def test_a_session_outlives_rejected_runs(tmp_path: Path, runs: list[dict[str, object]]) -> None:
    keep(tmp_path, *runs)
    session = last_session(tmp_path, AGENT, "go on")
    assert session
    assert (session.id, session.prompt, session.spent.tokens_in) == ("one", "go on", 7)


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [REFUSED],
        [WORKED, {**WORKED, "cause": "agent"}],
        [WORKED, {**REFUSED, "cause": None}],
        [WORKED, {**REFUSED, "trailers": {"Agent": "claude-code/opus"}}],
        [WORKED, {"trailers": None}],
    ],
)
def test_there_is_no_session_to_resume(tmp_path: Path, runs: list[dict[str, object]]) -> None:
    keep(tmp_path, *runs)
    assert last_session(tmp_path, AGENT, "go on") is None


def test_a_torn_file_has_no_session(tmp_path: Path) -> None:
    keep(tmp_path, WORKED)
    (tmp_path / "attempt-02.json").write_text("{")
    assert last_session(tmp_path, AGENT, "go on") is None
