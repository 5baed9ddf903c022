"""The typoi backend, with a stand-in: no public copy of the program exists, and its interface is assumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Project, trailers, write_script

STAND_IN = """\
# a stand-in for typoi
test "$1 $2" = "--model llama-5"
cat >"$FACTS/prompt"
"""
USAGE = '{"type": "usage", "input_tokens": 1200, "cached_tokens": 1000, "output_tokens": 90, "cost_usd": 0.5}'


@pytest.fixture(autouse=True)
def _typoi(project: Project, facts: Path) -> None:
    project.init()
    project.configure(models={"coding": "llama-5"}, environment=["FACTS"])


def typoi(tmp_path: Path, script: str) -> None:
    """Put the stand-in on PATH."""
    write_script(tmp_path / "home" / "bin" / "typoi", STAND_IN + script)


def say(*lines: str) -> str:
    return "".join(f"cat <<'END'\n{line}\nEND\n" for line in lines)


def test_a_model_of_no_other_backend_is_for_typoi(project: Project, facts: Path, tmp_path: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    typoi(tmp_path, "echo x >file; scriptorium submit-pr 'add a file'")

    result = project.run("code", name)

    assert (result.code, result.out) == (0, f"{name}\n"), result.err
    assert f"--- ticket {name} ---" in (facts / "prompt").read_text()
    assert project.git("show", "scriptorium/ticket-0001:file") == "x"


@pytest.mark.parametrize(
    "said",
    [
        ["I am done"],
        ['{"type": "thinking", "text": "hm"}', '{"type": "tool"}', '{"type": "text", "text": "I am done"}'],
        ["I am done", '{"type": "anything"}'],
    ],
)  # fmt: skip
def test_text_and_json_lines_are_read_alike(project: Project, tmp_path: Path, said: list[str]) -> None:
    name = project.ticket("0001", state="in-progress")
    typoi(tmp_path, say(*said, USAGE))

    assert project.run("code", name).code == 1

    ticket = project.plan_files()[f"tickets/open/{name}.md"]
    assert "## Attempt 1 failed: no-submit\n\nThe agent ended without submitting\n" in ticket
    assert "I am done" in ticket
    assert '"type"' not in ticket
    found = trailers(project)
    assert {key: found.get(key) for key in ("Agent", "Tokens-In", "Tokens-Cached", "Tokens-Out", "Cost-USD")} == {
        "Agent": "typoi/llama-5",
        "Tokens-In": "1200",
        "Tokens-Cached": "1000",
        "Tokens-Out": "90",
        "Cost-USD": "0.500000",
    }


def test_an_error_of_the_provider_uses_up_no_attempt(project: Project, tmp_path: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    typoi(tmp_path, say('{"type": "error", "message": "HTTP 429 Too Many Requests"}') + "exit 1")

    assert project.run("code", name).code == 1

    assert "attempts" not in project.plan_files()[f"tickets/open/{name}.md"]
    assert trailers(project)["Cause"] == "rate-limit"
