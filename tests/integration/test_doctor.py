"""scriptorium doctor with the real agent programs."""

from __future__ import annotations

import json

import pytest

from scriptorium.agents.sandbox import WRITE
from tests.integration.conftest import Backend
from tests.scripted_model import Text
from tests.support import Project


def look(project: Project) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit code, and the findings by subject."""
    result = project.run("doctor", "--json")
    assert result.err == ""
    return result.code, {one["subject"]: (one["state"], one["text"]) for one in json.loads(result.out)["checks"]}


def test_doctor_finds_program_sign_in_and_sandbox_without_a_model(backend: Backend, project: Project) -> None:
    with backend.answering(lambda _: Text("")) as requests:
        code, found = look(project)
    assert requests == []
    assert (code, [one for one in found.items() if one[1][0] == "failed"]) == (0, [])
    state, version = found[backend.name]
    assert state == "ok"
    assert version.partition(", for ")[0].replace("codex-cli ", "").split()[0].count(".") == 2
    assert found[f"{backend.name} sign-in"][0] == "ok"
    assert found[f"{backend.name} sandbox"] == ("ok", WRITE)
    assert found["submit tool"] == ("ok", "replies over MCP")


@pytest.mark.behaviour("doctor reports a missing sign-in")
def test_program_that_is_not_signed_in_fails(backend: Backend, project: Project) -> None:
    code, found = look(project)
    assert code == 1
    assert found[f"{backend.name} sign-in"] == ("failed", "not signed in")
