"""The environment variables that an agent gets."""

from __future__ import annotations

import pytest

from scriptorium.agents.environment import allowed_variables
from tests.support import Project

OURS = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "HTTPS_PROXY": "http://proxy",
    "GIT_CONFIG_KEY_0": "user.name",
    "RUSTFLAGS": "-D warnings",
    "NODE_AUTH_TOKEN": "secret",
    "PIP_PASSWORD": "secret",
    "DATABASE_URL": "postgres://me:secret@db",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "OPENAI_API_KEY": "secret",
}
USUAL = {"PATH", "LC_ALL", "HTTPS_PROXY", "GIT_CONFIG_KEY_0", "RUSTFLAGS"}


def test_an_agent_gets_usual_variables_and_no_secret() -> None:
    assert allowed_variables(OURS).keys() == USUAL


def test_a_program_gets_the_variables_it_needs_and_configured_ones() -> None:
    assert allowed_variables(OURS, ["OPENAI_*"], ["DATABASE_URL"]).keys() == USUAL | {"OPENAI_API_KEY", "DATABASE_URL"}
    assert allowed_variables(OURS, [], ["AWS_*"])["AWS_SECRET_ACCESS_KEY"] == "secret"


def test_a_run_sees_only_usual_and_configured_variables(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://db")
    monkeypatch.setenv("DEPLOY_HOST", "example.com")
    project.init()
    name = project.ticket("0001", state="in-progress")
    project.agent("env >file\nscriptorium submit-pr done")
    project.configure(environment=["DATABASE_*"])

    assert project.run("code", name).out == f"{name}\n"

    seen = project.git("show", "scriptorium/ticket-0001:file").splitlines()
    assert "DATABASE_URL=postgres://db" in seen
    assert not [line for line in seen if line.startswith("DEPLOY_HOST=")]
