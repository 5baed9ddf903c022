"""A second attempt resumes the session of the agent, and counts only its own tokens."""

from __future__ import annotations

import json

import pytest

from tests.integration.conftest import Backend
from tests.integration.test_flow import REQUEST, steps, submit
from tests.scripted_model import Reply, Request, Shell, Text
from tests.support import PLAN, Project

TICKET = "0001-greet"


def tokens(project: Project, verb: str) -> list[str]:
    """Return the tokens of the newest transition of a kind."""
    pattern = f"--grep=scriptorium: {verb} ticket"
    lines = project.git("log", "-1", pattern, "--format=%(trailers:only,unfold)", PLAN).splitlines()
    return [line for line in lines if line.startswith("Tokens-")]


@pytest.mark.behaviour("a second attempt resumes the session")
def test_a_second_attempt_goes_on_with_the_session_of_the_first(backend: Backend) -> None:
    project = backend.project
    project.ticket(TICKET, body=REQUEST)
    project.configure(prices={"gpt-5.5": {"input": 1.0, "output": 10.0}})  # Claude Code reports its own cost

    def forgetful(request: Request) -> Reply:
        if "Continue your work now" in request.prompt:
            return steps(request, submit("What the first attempt wrote"), Text("Done."))
        return steps(request, Shell("echo 'Hello, world' > greeting.txt"), Text("I wrote it."))

    with backend.answering(forgetful) as requests:
        project.run("assign")
        assert project.run("code", TICKET).code == 1
        assert "Attempt 1 failed: no-submit" in project.plan_files()[f"tickets/open/{TICKET}.md"]
        project.run("assign")
        second = project.run("code", TICKET)
        assert second.code == 0, second.err
        assert project.run("merge").out == f"{TICKET}\tlanded\n"

    assert [request.prompt.count("You are the coding agent") for request in requests] == [1, 1, 1, 1]
    assert ["Attempt 1 failed: no-submit" in request.prompt for request in requests] == [False, False, True, True]
    # the first attempt used half of the 400 and 40 of the session
    assert tokens(project, "reopen") == tokens(project, "complete") == ["Tokens-In: 200", "Tokens-Out: 20"]
    cost = {"codex": 0.0004, "claude-code": 0.0012}[backend.name]
    assert f"Cost-USD: {cost:.6f}" in project.git("log", "-1", "--format=%B", "--grep=complete ticket", PLAN)


@pytest.mark.behaviour("a lost session is replaced by a new one")
def test_a_session_that_is_lost_is_replaced_by_a_new_one(backend: Backend) -> None:
    project = backend.project
    project.ticket(TICKET, body=REQUEST)

    with backend.answering(lambda _: Text("I have no idea.")) as requests:
        project.run("assign")
        assert project.run("code", TICKET).code == 1
        [log] = project.root.parent.glob(f"root/*/logs/{TICKET}/attempt-01.json")
        facts = json.loads(log.read_text())
        log.write_text(json.dumps(facts | {"session": "01a202ce-72c5-7c20-9258-59e40986a04d"}))
        project.run("assign")
        assert project.run("code", TICKET).code == 1

    assert ["This is attempt 2" in request.prompt for request in requests] == [False, True]
    assert "Attempt 2 failed: no-submit" in project.plan_files()[f"tickets/open/{TICKET}.md"]
