"""Planners with the real agent programs: tickets by MCP, resumed sessions, and questions."""

from __future__ import annotations

import json
import re

import pytest

from tests.integration.conftest import Backend
from tests.integration.test_flow import steps
from tests.scripted_model import Item, Reply, Request, Shell, Text, Tool
from tests.support import PLAN, Project


def tickets(*depends: str) -> Tool:
    written = [
        {"name": "write-docs", "title": "Write the docs", "body": "All.", "depends": depends},
        {"name": "count-words", "title": "Count words", "body": "Of a file."},
    ]
    return Tool("mcp__scriptorium", "submit_tickets", {"tickets": written})


@pytest.mark.behaviour("tickets by MCP, checked at once")
def test_tickets_are_submitted_by_mcp_after_a_reported_mistake(backend: Backend) -> None:
    project = backend.project
    project.commit_plan({"areas/core.md": "# Words are counted, and there are docs\n"})
    outputs: list[str] = []

    def manager(request: Request) -> Reply:
        outputs[:] = request.tool_outputs.values()
        return steps(request, tickets("nowhere"), tickets("count-words"), Text("Two tickets."))

    with backend.answering(manager):
        result = project.run("manager")

    assert (result.code, result.out) == (0, "0001-write-docs\n0002-count-words\n"), result.err
    assert "it depends on 'nowhere', which does not exist" in outputs[0]
    assert "The tickets so far are 0001-write-docs, 0002-count-words." in outputs[1]
    assert "depends: [0002]\n" in project.plan_files()["tickets/open/0001-write-docs.md"]
    assert project.refs("refs/scriptorium/") == {}


@pytest.mark.behaviour("areas by MCP")
def test_areas_are_submitted_by_mcp(backend: Backend) -> None:
    project = backend.project
    project.commit_plan({"spec.md": "# Tally\n", "areas/old.md": "# Old\n", "planned": "\n"})
    area = {"name": "counting", "text": "Words are counted."}
    call = Tool("mcp__scriptorium", "submit_areas", {"areas": [area], "remove": ["old"]})
    with backend.answering(lambda request: steps(request, call, Text("One area."))):
        result = project.run("architect")
    assert (result.code, result.out) == (0, "counting\nold\n"), result.err
    files = project.plan_files()
    assert files["areas/counting.md"] == "Words are counted.\n"
    assert "areas/old.md" not in files


def trailers(project: Project) -> list[str]:
    """Return the tokens of the newest change of the plan."""
    lines = project.git("log", "-1", "--format=%(trailers:only,unfold)", PLAN).splitlines()
    return [line for line in lines if line.startswith("Tokens-")]


@pytest.mark.behaviour("a planning session resumes the agent's session")
def test_a_planning_session_goes_on_with_the_agents_own(backend: Backend) -> None:
    project = backend.project

    def architect(request: Request) -> Reply:
        if "The engineer continues" in request.prompt:
            done = "the second" in " ".join(request.tool_outputs.values())
            return Text("Both are in.") if done else Shell("echo 'And the second.' >> spec.md; echo the second")
        return steps(request, Shell("echo 'The first.' > spec.md"), Text("It is in."))

    with backend.answering(architect) as requests:
        first = project.run("plan", "The first")
        assert (first.code, first.out) == (0, "It is in.\n"), first.err
        assert "[tool] " in first.err
        assert "\n+The first.\n" in first.err
        second = project.run("plan", input="The second\n")

    assert second.code == 0, second.err
    assert "Both are in.\n" in second.out
    assert "[tool] " in second.out
    assert second.out.endswith("@@ -1 +1,2 @@\n The first.\n+And the second.\n")
    assert project.plan_files()["spec.md"] == "The first.\nAnd the second.\n"
    assert [request.prompt.count("You are the Architect") for request in requests] == [1, 1, 1, 1]
    assert "Engineer:" not in requests[-1].prompt
    assert trailers(project) == ["Tokens-In: 200", "Tokens-Out: 20"]  # the tokens of this turn only


@pytest.mark.behaviour("a lost planning session is repeated in the prompt")
def test_a_planning_session_that_the_agent_lost_is_repeated_in_the_prompt(backend: Backend) -> None:
    project = backend.project
    with backend.answering(lambda _: Text("What do you mean?")) as requests:
        assert project.run("plan", "The first").code == 0
        [file] = project.root.parent.glob("root/*/conversation.jsonl")
        records = [json.loads(line) for line in file.read_text().splitlines()]
        records[-1]["end"]["session"] = "01a202ce-72c5-7c20-9258-59e40986a04d"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        second = project.run("plan", "The second")
    assert (second.code, second.out) == (0, "What do you mean?\n"), second.err
    assert "Engineer: The first\n\nArchitect: What do you mean?\n" in requests[-1].prompt


def read(backend: Backend, file: str) -> Item:
    """Return the call with which a read-only program reads a file."""
    return Shell(f"cat {file}") if backend.name == "codex" else Tool("", "Read", {"file_path": file})


@pytest.mark.behaviour("a question is answered, and nothing written")
def test_a_question_is_answered_and_nothing_moves(backend: Backend) -> None:
    project = backend.project
    project.commit({"source.txt": "ink\n"})
    before = project.refs()
    outputs: list[str] = []

    def asked(request: Request) -> Reply:
        outputs[:] = request.tool_outputs.values()
        [plan] = re.findall(r"The plan is checked out in (\S+):", request.prompt)
        return steps(request, read(backend, "source.txt"), read(backend, f"{plan}/spec.md"), Text("Ink is in it."))

    with backend.answering(asked):
        result = project.run("ask", "What is in the source?")
    assert (result.code, result.out) == (0, "Ink is in it.\n"), result.err
    assert "[tool] " in result.err
    assert "ink" in outputs[0]
    assert "Nothing is planned yet" in outputs[1]
    assert project.refs() == before
