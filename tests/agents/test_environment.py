"""What of our environment an agent gets to see."""

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


def test_an_agent_gets_the_usual_and_no_secret() -> None:
    assert allowed_variables(OURS).keys() == USUAL


def test_a_program_gets_what_it_needs_and_the_user_has_named() -> None:
    assert allowed_variables(OURS, ["OPENAI_*"], ["DATABASE_URL"]).keys() == USUAL | {"OPENAI_API_KEY", "DATABASE_URL"}
    assert allowed_variables(OURS, [], ["AWS_*"])["AWS_SECRET_ACCESS_KEY"] == "secret"


def test_a_run_sees_what_the_configuration_names_and_nothing_else_that_is_not_usual(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
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
