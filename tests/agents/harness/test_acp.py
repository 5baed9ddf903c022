"""The harness for agents that speak the Agent Client Protocol, with a fake one (see fake_acp_agent)."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scriptorium.agents.harness.acp import Acp
from scriptorium.agents.harness.base import Event, EventKind, Outcome, Session, Task
from scriptorium.agents.harness.runner import run_harness
from scriptorium.agents.harness.usage import Usage
from scriptorium.project.config import Program
from scriptorium.system import process
from scriptorium.system.limits import Limits
from tests.support import CHECKOUT, PLAN, Project, is_alive, until

pytestmark = pytest.mark.slow

FAKE = (sys.executable, str(CHECKOUT / "tests" / "fake_acp_agent.py"))

Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, facts: Path) -> Run:
    """Run the harness with a fake agent that has a script; `shown` collects the events."""

    def run(script: dict[str, Any] | None = None, shown: list[Event] | None = None, **task: Any) -> Outcome:
        program = task.pop("program", None) or Program((*FAKE, json.dumps(script or {})), {}, "acp")
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        defaults = {"role": "coding", "prompt": "Do it.", "directory": work, "logs": tmp_path / "logs"}
        settings = {"model": "fake", "effort": "", "limits": Limits(60, 60, 60), "env": dict(os.environ)}
        harness = Acp("fake", program, tmp_path)
        return run_harness(
            harness, Task(**{**defaults, **settings, **task}), shown.append if shown is not None else None
        )

    return run


def calls(facts: Path, method: str = "") -> list[Any]:
    """Return the parameters of the calls of a method that reached the fake, or the names of all."""
    messages = [json.loads(line) for line in (facts / "calls").read_text().splitlines()]
    if not method:
        return [message["method"] for message in messages if "method" in message]
    return [message["params"] for message in messages if message.get("method") == method]


def lines(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the lines of the client without the usual beginning."""
    told = [json.loads(line) for line in outcome.log.read_text().splitlines()]
    assert told[:2] == [{"type": "agent", "name": "fake", "version": "1"}, {"type": "session", "id": "s-1"}]
    return told[2:]


# -- a turn -------------------------------------------------------------------------------------------


def test_a_turn_is_printed_line_by_line_and_reported(run: Run, facts: Path) -> None:
    shown: list[Event] = []
    outcome = run({"cost": 0.25}, shown)

    assert lines(outcome) == [
        {"type": "thinking", "text": "I wonder.", "new": True},
        {"type": "text", "text": "first line\n", "new": True},
        {"type": "text", "text": "second line", "new": False},
        {"type": "tool", "status": "pending", "title": "run"},
        {"type": "tool", "status": "in_progress", "title": "run make"},
        {"type": "tool", "status": "completed"},
        {"type": "plan", "text": "look\nleap"},
        {"type": "text", "text": "the\n", "new": True},
        {"type": "cost", "usd": 0.25},
        {"type": "text", "text": "end", "new": False},
        {"type": "end", "stop": "end_turn", "usage": {"in": 1050, "cached": 900, "out": 110, "reasoning": 30}},
    ]
    assert [event for event in shown if event.text] == [
        Event(EventKind.THINKING, "I wonder."),
        Event(EventKind.TEXT, "first line\n"),
        Event(EventKind.TEXT, "second line"),
        Event(EventKind.TOOL, "run"),
        Event(EventKind.TOOL, "run make"),
        Event(EventKind.THINKING, "look\nleap"),
        Event(EventKind.TEXT, "the\n"),
        Event(EventKind.TEXT, "end"),
    ]
    assert outcome.finished.ok
    report = outcome.report
    assert (report.session, report.message, report.error, report.worked) == ("s-1", "the\nend", "", True)
    assert report.usage == Usage(1050, 900, 110, 30, 0.25)
    assert outcome.agent == "fake"
    assert calls(facts, "session/prompt") == [{"sessionId": "s-1", "prompt": [{"type": "text", "text": "Do it."}]}]


def test_the_agent_is_offered_no_service_and_works_in_the_directory(run: Run, facts: Path, tmp_path: Path) -> None:
    run()
    [hello] = calls(facts, "initialize")
    assert hello["protocolVersion"] == 1
    assert hello["clientInfo"]["name"] == "scriptorium"
    assert not hello.get("clientCapabilities")
    assert calls(facts, "session/new") == [{"cwd": str(tmp_path / "work"), "mcpServers": []}]


def test_the_agent_is_given_the_mcp_server_with_the_token_of_the_run(run: Run, facts: Path) -> None:
    env = {**os.environ, "SCRIPTORIUM_TOKEN": "secret-token"}
    outcome = run(endpoint="http://127.0.0.1:9/mcp", env=env)
    [new] = calls(facts, "session/new")
    bearer = {"name": "Authorization", "value": "Bearer secret-token"}
    server = {"type": "http", "name": "scriptorium", "url": "http://127.0.0.1:9/mcp", "headers": [bearer]}
    assert new["mcpServers"] == [server]
    assert "secret-token" not in outcome.log.read_text()


def test_an_agent_without_mcp_over_http_submits_by_the_command(project: Project, facts: Path) -> None:
    project.init()
    name = project.ticket("0001", state="in-progress")
    script = json.dumps({"http": False, "turn": "submit"})
    env = {"FACTS": str(facts)}
    project.configure(
        models={"coding": "fake"}, harnesses={"fake": {"protocol": "acp", "command": [*FAKE, script], "env": env}}
    )

    result = project.run("code", name)

    assert (result.code, result.out) == (0, f"{name}\n")
    assert result.err == (
        f"scriptorium: ticket '{name}': attempt 1 begins\n"
        "scriptorium: coding agent called submit_pr, summary=add a file\n"
    )
    assert project.git("show", "scriptorium/ticket-0001:file") == "x"
    assert calls(facts, "session/new")[0]["mcpServers"] == []
    [log] = project.root.parent.glob("root/*/logs/*/attempt-01.jsonl")
    note = "the agent supports no MCP server over HTTP, so it has the command line only"
    assert {"type": "note", "text": note} in [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize(
    ("read_only", "answers"),
    [
        (False, ["id of allow_once", "id of allow_once", None]),
        (True, ["id of reject_once", "id of allow_once", None]),
    ],
)
def test_permissions_are_given_once_unless_the_run_is_read_only(
    run: Run, facts: Path, read_only: bool, answers: list[str | None]
) -> None:
    outcome = run({"turn": "permission"}, read_only=read_only)

    messages = [json.loads(line) for line in (facts / "calls").read_text().splitlines()]
    assert [message["result"]["outcome"].get("optionId") for message in messages if "result" in message] == answers
    assert lines(outcome)[:3] == [
        {"type": "permission", "title": "write", "allowed": not read_only},
        {"type": "permission", "title": "look", "allowed": True},
        {"type": "permission", "title": "look", "allowed": False},
    ]


# -- model, mode and effort ---------------------------------------------------------------------------


def test_the_model_is_chosen_and_then_the_effort_that_it_offers(run: Run, facts: Path) -> None:
    outcome = run({"choices": True}, model="large", effort="high")
    assert outcome.finished.ok
    assert outcome.agent == "fake/large"
    assert calls(facts, "session/set_config_option") == [
        {"sessionId": "s-1", "configId": "the-model", "value": "large"},
        {"sessionId": "s-1", "configId": "thinking", "value": "high"},
    ]


def test_the_model_of_the_program_counts_where_the_role_names_none(run: Run, facts: Path) -> None:
    program = Program((*FAKE, '{"choices": true}'), {}, "acp", "large")
    outcome = run(program=program)
    assert [call["value"] for call in calls(facts, "session/set_config_option")] == ["large"]
    assert outcome.agent == "fake/large"


def test_a_model_that_is_not_offered_is_the_configurations_fault(run: Run, facts: Path) -> None:
    outcome = run({"choices": True}, model="lrage")
    assert not outcome.finished.ok
    assert outcome.report.error == "the agent does not offer model 'lrage', but 'large', 'small'"
    assert outcome.report.cause == "infrastructure"
    assert "session/prompt" not in calls(facts)


def test_a_mode_is_set_in_the_older_way_as_well(run: Run, facts: Path) -> None:
    outcome = run(program=Program((*FAKE, '{"modes": true}'), {}, "acp", mode="free"))
    assert outcome.finished.ok
    assert calls(facts, "session/set_mode") == [{"sessionId": "s-1", "modeId": "free"}]


def test_a_read_only_run_has_the_mode_for_that(run: Run, facts: Path) -> None:
    assert run({"modes": True}, read_only=True).finished.ok
    assert calls(facts, "session/set_mode") == [{"sessionId": "s-1", "modeId": "read-only"}]


def test_a_choice_that_is_not_offered_is_noted_and_ignored(run: Run) -> None:
    shown: list[Event] = []
    outcome = run({}, shown, model="large", effort="high")
    assert outcome.finished.ok
    assert [event.text for event in shown if event.kind is EventKind.NOTE] == [
        "the agent offers no choice of model: 'large' is ignored",
        "the agent offers no choice of thought level: 'high' is ignored",
    ]


# -- sessions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "cost"), [("resume", 1.5), ("load", 1.5), ("resume", 0.5)])
def test_a_session_is_resumed_and_its_earlier_cost_subtracted(run: Run, facts: Path, way: str, cost: float) -> None:
    """claude-agent-acp reports the cost since its start, other agents the cost of the session."""
    session = Session("s-1", "Go on.", Usage(cost_usd=1.0))
    outcome = run({"resume": way, "cost": cost}, session=session)

    assert calls(facts) == ["initialize", f"session/{way}", "session/prompt"]
    assert calls(facts, "session/prompt")[0]["prompt"][0]["text"] == "Go on."
    assert outcome.report.usage == Usage(1050, 900, 110, 30, 0.5)
    assert outcome.report.total == Usage(cost_usd=1.5)
    assert "what was said before" not in outcome.log.read_text()
    assert outcome.report.message == "the\nend"


@pytest.mark.parametrize("script", [{"resume": "resume", "known": False}, {"resume": "load", "known": False}, {}])
def test_a_session_that_cannot_be_resumed_is_replaced(run: Run, facts: Path, script: dict[str, Any]) -> None:
    outcome = run(script, session=Session("s-0", "Go on."))
    assert outcome.finished.ok
    assert calls(facts)[-3:] == ["initialize", "session/new", "session/prompt"]
    assert [call["prompt"][0]["text"] for call in calls(facts, "session/prompt")] == ["Do it."]


# -- faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "error", "cause"),
    [
        ({"auth": False}, "Authentication required", "auth"),
        ({"turn": "fail"}, "Internal error: HTTP 429 Too Many Requests", "rate-limit"),
        ({"turn": "fail", "code": 503}, "Try it elsewhere", "provider"),
        ({"turn": "stop"}, "the agent stopped early: refusal", None),
        ({"turn": "die"}, "the agent ended with exit code 3: panic: out of ink", None),
        ({"version": 2}, "the agent speaks version 2 of the protocol, not 1", "infrastructure"),
    ],
)
def test_a_fault_is_reported_with_its_cause(run: Run, script: dict[str, Any], error: str, cause: str | None) -> None:
    outcome = run(script)
    assert outcome.finished.status == 1
    assert (outcome.report.error, outcome.report.cause) == (error, cause)


@pytest.mark.parametrize(
    ("command", "error", "cause"),
    [
        (("sh", "-c", "echo Please log in first; exit 5"), "exit code 5: Please log in first", "auth"),
        (("true",), "the agent ended with exit code 0", "infrastructure"),
        (("sh", "-c", "read x; echo '[1]'; sleep 600"), "the agent does not speak the protocol", "infrastructure"),
        (("./no-such-program",), "No such file or directory", "infrastructure"),
    ],
)
def test_a_program_that_does_not_speak_the_protocol_is_reported(
    run: Run, command: tuple[str, ...], error: str, cause: str
) -> None:
    outcome = run(program=Program(command, {}, "acp"))
    assert outcome.finished.status == 1
    assert error in outcome.report.error
    assert outcome.report.cause == cause


def test_a_line_that_is_no_message_is_noted_and_the_turn_goes_on(run: Run) -> None:
    shown: list[Event] = []
    outcome = run({"turn": "babble"}, shown)
    assert outcome.finished.ok
    notes = [event.text for event in shown if event.kind is EventKind.NOTE]
    assert notes[0] == "Error parsing JSON-RPC message: debug: not JSON"
    assert outcome.report.message == "the\nend"


def test_a_flood_of_lines_that_are_no_messages_is_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_OUTPUT", 200_000)
    outcome = run({"turn": "flood"})
    assert outcome.finished.end is process.EndReason.TOO_MUCH
    assert outcome.report.session == "s-1"
    assert not outcome.report.worked


def test_a_fault_of_the_backend_uses_up_no_attempt_and_a_death_does(project: Project, facts: Path) -> None:
    project.init()
    project.ticket("0001", state="in-progress")
    fake = {"protocol": "acp", "env": {"FACTS": str(facts)}}

    def code(script: dict[str, Any]) -> str:
        project.configure(
            models={"coding": "fake"}, harnesses={"fake": {**fake, "command": [*FAKE, json.dumps(script)]}}
        )
        assert project.run("code", "1").code == 1
        return project.git("log", "-1", "--format=%B", PLAN)

    assert re.search(r"^Cause: auth$", code({"auth": False}), re.MULTILINE)
    assert "attempts" not in project.plan_files()["tickets/open/0001-thing.md"]
    for rest in project.root.parent.glob("root/*/backends/*"):
        rest.unlink()
    assert project.run("assign").code == 0

    last = code({"turn": "die"})

    assert re.search(r"^Cause: agent$", last, re.MULTILINE)
    ticket = project.plan_files()["tickets/open/0001-thing.md"]
    assert "\nattempts: 1\n" in ticket
    assert "panic: out of ink" in ticket


def test_a_stopped_run_cancels_the_turn_and_leaves_nothing_behind(project: Project, facts: Path) -> None:
    project.init()
    project.ticket("0001", state="in-progress")
    script = write_pids(facts, json.dumps({"turn": "wait"}))
    project.configure(models={"coding": "fake"}, harnesses={"fake": {"protocol": "acp", **script}})
    with project.running("code", "1") as coding:
        until(lambda: "session/prompt" in calls(facts) if (facts / "calls").exists() else False)
        result = coding.end(signal.SIGTERM)
    assert result.code == 143
    assert calls(facts)[-1] == "session/cancel"
    assert not is_alive(int((facts / "pid").read_text()))
    assert "Cause: stopped" in project.git("log", "-1", "--format=%B", PLAN)


def write_pids(facts: Path, script: str) -> dict[str, Any]:
    """Return the fake as a program that leaves its process id in a file, and ignores signals to itself."""
    shell = 'echo $$ >"$FACTS/pid"; trap "" INT; exec "$@"'
    return {"command": ["sh", "-c", shell, "sh", *FAKE, script], "env": {"FACTS": str(facts)}}
