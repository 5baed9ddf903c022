"""The scripted model, tested with the real codex and the real claude."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.scripted_model import (
    Answer,
    ContextOverflow,
    Cut,
    EndsEarly,
    ErrorEvent,
    Fault,
    Item,
    Malformed,
    NoAnswer,
    Overloaded,
    Reply,
    Request,
    ScriptedModel,
    Shell,
    Stall,
    Text,
    Think,
    Usage,
    Write,
    claude_environment,
    codex_config,
)
from tests.support import until


@dataclass(frozen=True)
class Run:
    """The result of a program: its exit code, its events and its requests."""

    status: int
    events: list[dict[str, Any]]
    requests: list[Request]

    @property
    def error(self) -> str:
        """The failure in the last event of the program."""
        last = self.events[-1]
        return str(last["error"]["message"] if last["type"] == "turn.failed" else last["is_error"] and last["result"])


class Program:
    """An agent program alone, in an empty directory, with its own home directory."""

    def __init__(self, name: str, home: Path) -> None:
        binary = shutil.which(name)
        assert binary, f"'{name}' is not on PATH\nhint: make integration-test"
        self.name, self.binary, self.home, self.work = name, binary, home, home / "work"
        self.work.mkdir(parents=True)

    def argv(self, model: str) -> list[str]:
        if self.name == "codex":
            argv = ["exec", "--json", "--cd", str(self.work), "--model", model or "gpt-5.5", "--skip-git-repo-check"]
            return [self.binary, *argv, "--dangerously-bypass-approvals-and-sandbox", "-"]
        argv = ["--print", "--output-format", "stream-json", "--verbose", "--model", model or "claude-opus-5-5"]
        return [self.binary, *argv, "--permission-mode", "bypassPermissions"]

    def environment(self, model: ScriptedModel) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        if self.name == "codex":
            (self.home / "config.toml").write_text(codex_config(model.url))
            return {**own, "CODEX_HOME": str(self.home)}
        limits = {"CLAUDE_CODE_MAX_RETRIES": "0", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "IS_SANDBOX": "1"}
        return {**own, **limits, **claude_environment(model.root, str(self.home))}

    def run(self, model: ScriptedModel, name: str = "") -> Run:
        done = subprocess.run(
            self.argv(name),
            input="do the ticket",
            cwd=self.work,
            env=self.environment(model),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Run(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], model.requests)


@pytest.fixture(params=["codex", "claude"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    return Program(request.param, tmp_path / "agent")


@pytest.fixture
def codex(tmp_path: Path) -> Program:
    return Program("codex", tmp_path / "agent")


@pytest.fixture
def claude(tmp_path: Path) -> Program:
    return Program("claude", tmp_path / "agent")


def obeyed(program: Program, model: str = "") -> None:
    with ScriptedModel(lambda asked: Text("done") if asked.turn else Shell("echo ink > page; echo wrote")) as scripted:
        run = program.run(scripted, model)
    assert run.status == 0
    assert run.events[-1]["usage"]["input_tokens"] == 200
    assert (program.work / "page").read_text() == "ink\n"
    first, last = run.requests
    assert not model or first.model == model
    assert "do the ticket" in first.latest
    assert "authorization" not in first.headers
    assert [text.rstrip().endswith("wrote") for text in last.tool_outputs.values()] == [True]


def test_a_shell_call_is_obeyed_and_its_output_comes_back(program: Program) -> None:
    obeyed(program)


@pytest.mark.parametrize("model", ["gpt-5.1-codex-mini", "gpt-6.1-sol"])
def test_other_models_of_codex_obey_the_same_script(codex: Program, model: str) -> None:
    obeyed(codex, model)


def test_every_item_of_one_reply_happens(program: Program) -> None:
    reply: list[Item] = [Think("hm"), Text("go"), Shell("echo 1 > first"), Shell("echo 2 > second"), Write("w", "3\n")]
    with ScriptedModel(lambda asked: Text("done") if asked.turn else reply) as scripted:
        run = program.run(scripted)
    assert (run.status, [asked.turn for asked in run.requests]) == (0, [0, 3])
    # codex runs the commands of one reply side by side, in no order
    assert [(program.work / name).read_text() for name in ("first", "second", "w")] == ["1\n", "2\n", "3\n"]


def test_usage_is_as_scripted(program: Program) -> None:
    with ScriptedModel(lambda _: Answer([Text("done")], Usage(1000, 800, 50, 20))) as scripted:
        usage = program.run(scripted).events[-1]["usage"]
    if program.name == "codex":
        cached = usage["cached_input_tokens"]
        counts = (usage["input_tokens"], cached, usage["output_tokens"], usage["reasoning_output_tokens"])
    else:
        cached = usage["cache_read_input_tokens"]
        thinking = usage["output_tokens_details"]["thinking_tokens"]
        counts = (usage["input_tokens"] + cached, cached, usage["output_tokens"], thinking)
    assert counts == (1000, 800, 50, 20)


FAULTS: list[tuple[Reply, str, str]] = [
    (Fault(400), "Invalid request", "Invalid request"),
    (Fault(401), "401 Unauthorized", "Invalid API key"),
    (Fault(403), "403 Forbidden", "API Error: 403"),
    (Fault(429), "429 Too Many Requests", "Request rejected (429)"),
    (Fault(429, {"Retry-After": "3600"}), "429 Too Many Requests", "Request rejected (429)"),
    (Fault(500), "high demand", "API Error: 500"),
    (Fault(503, body="<html>"), "", "503"),
    (Overloaded(), "at capacity", "API Error: 529 Overloaded"),
    (ContextOverflow(), "ran out of room", "Prompt is too long"),
    (Cut(), "stream disconnected", "Connection to the API was lost"),
    (EndsEarly(), "stream closed before response.completed", "API Error: JSON Parse error"),
    (Malformed(), "stream closed before response.completed", "API Error: JSON Parse error"),
    (ErrorEvent(), "had an error while processing your request", "API Error: 500"),
]


@pytest.mark.parametrize(("fault", "to_codex", "to_claude"), FAULTS, ids=[repr(fault[0]) for fault in FAULTS])
def test_a_fault_ends_the_run_and_is_reported(program: Program, fault: Reply, to_codex: str, to_claude: str) -> None:
    with ScriptedModel(lambda _: fault) as scripted:
        run = program.run(scripted)
    assert run.status == 1
    assert (to_codex if program.name == "codex" else to_claude) in run.error


@pytest.mark.parametrize("fault", [NoAnswer(), Stall()], ids=repr)
def test_a_silent_model_keeps_the_program_waiting_until_it_ends(program: Program, fault: Reply) -> None:
    with ThreadPoolExecutor() as threads:
        with ScriptedModel(lambda _: fault) as scripted:
            running = threads.submit(program.run, scripted)
            until(lambda: scripted.requests or running.done())
            assert (len(scripted.requests), running.done()) == (1, False)
        assert running.result().status == 1


def test_an_error_in_the_script_is_raised_when_it_closes(program: Program) -> None:
    def script(asked: Request) -> Text:
        raise AssertionError(f"unexpected prompt by {asked.wire}")

    scripted = ScriptedModel(script)
    with pytest.raises(AssertionError, match=r"unexpected prompt by (responses|messages)"), scripted:
        assert program.run(scripted).status == 1


def test_a_websocket_is_refused_with_426() -> None:
    with ScriptedModel(lambda _: Text("")) as scripted:
        connection = HTTPConnection(urlsplit(scripted.url).netloc)
        connection.request("GET", "/v1/responses", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert connection.getresponse().status == 426
        connection.close()
