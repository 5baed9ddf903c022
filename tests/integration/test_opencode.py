"""opencode, by the Agent Client Protocol and configuration alone: its differences from the common flow."""

from __future__ import annotations

import json
import signal

import pytest

from scriptorium.system.watchdog import members
from tests.integration.conftest import OpenCode
from tests.integration.test_flow import REQUEST, steps, submit
from tests.scripted_model import Answer, Fault, NoAnswer, Reply, Request, Shell, Text, Usage
from tests.support import is_alive, trailers, until

TICKET = "0001-greet"
OPEN = f"tickets/open/{TICKET}.md"
WORK = Shell("echo 'Hello, world' > greeting.txt")


@pytest.fixture
def ticket(opencode: OpenCode) -> str:
    """A ticket in progress."""
    opencode.project.ticket(TICKET, body=REQUEST)
    assert opencode.project.run("assign").code == 0
    return TICKET


@pytest.mark.behaviour("a second attempt resumes the session")
def test_a_second_attempt_resumes_the_session_and_has_its_own_cost(opencode: OpenCode, ticket: str) -> None:
    project = opencode.project

    def forgetful(request: Request) -> Reply:
        if "Continue your work now" in request.prompt:
            return Answer(
                [steps(request, submit("What the first attempt wrote"), Text("Done."))], Usage(200, 150, 30, 20)
            )
        return steps(request, WORK, Text("I wrote it."))

    with opencode.answering(forgetful) as requests:
        assert project.run("code", ticket).code == 1
        assert "Attempt 1 failed: no-submit" in project.plan_files()[OPEN]
        first = trailers(project)
        project.run("assign")
        second = project.run("code", ticket)
        assert second.code == 0, second.err
        assert project.run("merge").out == f"{ticket}\tlanded\n"

    assert [request.prompt.count("You are the coding agent") for request in requests] == [1, 1, 1, 1]
    # opencode reports the cost of the session, but only the tokens of the last request
    names = ("Agent", "Tokens-In", "Tokens-Cached", "Tokens-Out", "Tokens-Reasoning", "Cost-USD")
    assert [first.get(name) for name in names] == ["opencode/scripted/model", "100", None, "10", None, "0.000400"]
    last = [trailers(project).get(name) for name in names]
    assert last[:5] == ["opencode/scripted/model", "200", "150", "30", "20"]
    assert last[5] == "0.000700"


def test_a_session_that_is_lost_is_replaced_by_a_new_one(opencode: OpenCode, ticket: str) -> None:
    project = opencode.project
    with opencode.answering(lambda _: Text("I have no idea.")) as requests:
        assert project.run("code", ticket).code == 1
        [log] = project.root.parent.glob(f"root/*/logs/{ticket}/attempt-01.json")
        log.write_text(json.dumps(json.loads(log.read_text()) | {"session": "ses_0000000000000000000000000"}))
        project.run("assign")
        assert project.run("code", ticket).code == 1

    assert ["This is attempt 2" in request.prompt for request in requests] == [False, True]
    assert "Attempt 2 failed: no-submit" in project.plan_files()[OPEN]


@pytest.mark.parametrize(
    ("reply", "cause", "words"),
    [
        pytest.param(Fault(401), "auth", "Incorrect API key provided", marks=pytest.mark.behaviour("401")),
        pytest.param(Fault(400), "provider", "Invalid request", marks=pytest.mark.behaviour("400")),
    ],
)
def test_an_error_of_the_provider_is_reported_and_costs_no_attempt(
    opencode: OpenCode, ticket: str, reply: Reply, cause: str, words: str
) -> None:
    """opencode does not pass on the status, so a 400 counts as a fault of the provider as well."""
    with opencode.answering(lambda _: reply):
        coded = opencode.project.run("code", ticket)
    assert coded.code == 1
    assert words in coded.err
    assert trailers(opencode.project)["Cause"] == cause
    assert "attempts" not in opencode.project.plan_files()[OPEN]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Fault(500), id="500", marks=pytest.mark.behaviour("500")),
        pytest.param(Fault(429), id="429", marks=pytest.mark.behaviour("429")),
        pytest.param(NoAnswer(), id="NoAnswer", marks=pytest.mark.behaviour("no answer at all")),
    ],
)
def test_what_opencode_waits_out_in_silence_is_the_providers_fault(
    opencode: OpenCode, ticket: str, reply: Reply
) -> None:
    opencode.project.configure(timeouts={"no_output": 45})
    with opencode.answering(lambda _: reply) as requests:
        coded = opencode.project.run("code", ticket)
    assert requests
    assert coded.code == 1
    assert "The model had not answered after " in coded.err
    assert trailers(opencode.project)["Cause"] == "provider"
    assert "attempts" not in opencode.project.plan_files()[OPEN]


@pytest.mark.behaviour("the daemon serves submit_pr, and terminates the agent on SIGTERM")
def test_a_stopped_run_leaves_nothing_behind(opencode: OpenCode, ticket: str) -> None:
    project = opencode.project
    marker = project.root.parent / "pid"
    hanging = Shell(f"echo $$ > {marker}; exec sleep 600")
    with opencode.answering(lambda _: hanging), project.running("code", ticket) as coding:
        until(lambda: marker.exists() and marker.read_text().endswith("\n"), 120)
        there = members("no mark", coding.process.pid)
        result = coding.end(signal.SIGTERM)
    assert result.code == 143
    assert int(marker.read_text()) in there
    assert len(there) > 3  # also the client between the tool and opencode
    until(lambda: not [pid for pid in there if is_alive(pid)], 10)  # the watchdog ends a moment after its parent
    assert trailers(project)["Cause"] == "stopped"
