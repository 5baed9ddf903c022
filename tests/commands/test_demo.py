"""scriptorium demo: a new user watches a spec become commits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import Project


def test_demo_builds_a_project_and_says_that_its_agent_is_scripted(project: Project, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    here = project.git("for-each-ref")

    result = project.run("demo", env={"TMPDIR": str(place)})

    assert result.code == 0
    assert result.err.startswith("scriptorium: spec.md is updated\n--- a/spec.md\n+++ b/spec.md\n@@ ")
    assert "The agent in this demo is a script that knows its answers: no model, no key, no network." in result.out
    (home,) = place.iterdir()
    demo = home / "tally"
    assert f"The project is in {demo}\n" in result.out
    assert "\nOpen: 0\nIn Progress: 0\nDone: 3\nStuck: 0\n" in result.out
    assert "With a real agent: install codex" in result.out
    assert f"rm -r {home}\n" in result.out
    assert "Traceback" not in result.out

    log = project.git("log", "--format=%s", "--reverse", "scriptorium/plan", cwd=demo).splitlines()
    moves = [subject.removeprefix("scriptorium: ") for subject in log if " ticket " in subject]
    assert [move for move in moves if move.startswith("reopen")] == [
        "reopen ticket 0002-ignore-case-and-punctuation",
    ]
    assert [move for move in moves if move.startswith("complete")] == [
        "complete ticket 0001-count-words",
        "complete ticket 0002-ignore-case-and-punctuation",
        "complete ticket 0003-command-line",
    ]
    graph = project.git("log", "--graph", "--oneline", "--no-decorate", "master", cwd=demo)
    assert graph in result.out
    assert project.git("status", "--porcelain", cwd=demo) == ""
    tally = subprocess.run(
        [sys.executable, "-m", "tally", "README.md"], cwd=demo, capture_output=True, text=True, check=True
    )
    assert tally.stdout == "    1 counts\n    1 tally\n    1 words\n"
    assert project.git("for-each-ref") == here
