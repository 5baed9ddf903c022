"""The scripted model itself, proved against the real codex."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.scripted_model import Fault, Item, Request, ScriptedModel, Shell, Text, codex_config

Run = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def codex(tmp_path: Path) -> Run:
    """Run codex with our harness's flags in an empty directory; returns its exit code and its events."""
    binary = shutil.which("codex")
    assert binary, "'codex' is not on PATH\nhint: make integration-test"
    home, work = tmp_path / "codex", tmp_path / "work"
    home.mkdir()
    work.mkdir()

    def run(url: str, model: str = "gpt-5.5") -> tuple[int, list[dict[str, Any]]]:
        (home / "config.toml").write_text(codex_config(url))
        argv = [binary, "exec", "--json", "--cd", str(work), "--model", model, "--skip-git-repo-check"]
        done = subprocess.run(
            [*argv, "--dangerously-bypass-approvals-and-sandbox", "-"],
            input="do the ticket",
            env={"PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    return run


@pytest.mark.parametrize("model", ["gpt-5.1-codex-mini", "gpt-5.5", "gpt-6.1-sol"])
def test_a_shell_call_is_obeyed_and_its_output_comes_back(codex: Run, tmp_path: Path, model: str) -> None:
    with ScriptedModel(lambda asked: Text("done") if asked.turn else Shell("echo ink > page; echo wrote")) as scripted:
        status, events = codex(scripted.url, model)
    assert status == 0
    assert events[-1]["usage"]["input_tokens"] == 200
    assert (tmp_path / "work" / "page").read_text() == "ink\n"
    first, last = scripted.requests
    assert first.model == model
    assert "do the ticket" in first.prompt
    assert "authorization" not in first.headers
    assert [text.endswith("wrote\n") for text in last.tool_outputs.values()] == [True]


def test_every_item_of_one_reply_happens(codex: Run, tmp_path: Path) -> None:
    reply: list[Item] = [Text("two steps"), Shell("echo 1 > first"), Shell("echo 2 > second")]
    with ScriptedModel(lambda asked: Text("done") if asked.turn == 2 else reply) as scripted:
        status, _ = codex(scripted.url)
    assert (status, len(scripted.requests)) == (0, 2)
    work = tmp_path / "work"  # codex runs the commands of one reply side by side, in no order
    assert ((work / "first").read_text(), (work / "second").read_text()) == ("1\n", "2\n")


@pytest.mark.parametrize("fault", [Fault(400), Fault(401), Fault(429, {"Retry-After": "3600"}), Fault(503)])
def test_a_fault_ends_the_run_after_one_request(codex: Run, fault: Fault) -> None:
    with ScriptedModel(lambda _: fault) as scripted:
        status, events = codex(scripted.url)
    assert (status, len(scripted.requests)) == (1, 1)
    assert events[-1]["type"] == "turn.failed"


def test_an_error_in_the_script_is_raised_when_it_closes(codex: Run) -> None:
    def script(asked: Request) -> Text:
        raise AssertionError(f"unexpected prompt of {asked.model}")

    scripted = ScriptedModel(script)
    with pytest.raises(AssertionError, match=r"unexpected prompt of gpt-5\.5"), scripted:
        assert codex(scripted.url)[0] == 1


def test_a_websocket_is_refused_with_426() -> None:
    with ScriptedModel(lambda _: Text("")) as scripted:
        connection = HTTPConnection(urlsplit(scripted.url).netloc)
        connection.request("GET", "/v1/responses", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert connection.getresponse().status == 426
        connection.close()
