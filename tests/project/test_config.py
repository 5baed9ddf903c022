"""The configuration: every key is optional, and every error is one line with a hint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scriptorium.errors import ExitCode
from scriptorium.project.config import Config, Program, load, parse
from scriptorium.project.config_reader import ConfigError
from scriptorium.system.limits import Limits
from tests.support import Project


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config == Config() == parse("{}")
    assert (config.model("coding"), config.effort("coding")) == ("gpt-5.1-codex-mini", "")
    assert (config.endpoint, config.gate, config.max_attempts) == (("127.0.0.1", 8097), "make test", 5)
    assert config.limits == Limits(hard=14400, no_output=300, no_progress=600)


def test_the_originals_configuration_is_read() -> None:
    config = parse(
        """{
        "models": {"architect": "gpt-5.1-codex-mini", "coding": "gpt-5.1-codex-max"},
        "reasoning_effort": {"coding": "high"},
        "endpoints": {"local": "http://localhost:9000/"}
        }"""
    )
    assert (config.model("coding"), config.model("manager")) == ("gpt-5.1-codex-max", "gpt-5.1-codex-mini")
    assert (config.effort("coding"), config.effort("manager")) == ("high", "")
    assert config.endpoint == ("localhost", 9000)


def test_the_originals_later_names_mean_the_same() -> None:
    config = parse(
        """{
        "agents": {"coding": {"harness": "codex", "model": "gpt-5"}, "audit": {"model": "gpt-5"}},
        "concurrency": {"maxAgents": 4, "tokenBudgetMB": 100},
        "timeouts": {"codingAgentHardTimeoutMs": 60000, "codingAgentNoOutputTimeoutMs": 1500,
                     "codingAgentProgressTimeoutMs": 0, "codingAgentMaxAttempts": 3},
        "loop": {"anything": 1}, "logLevel": "warning", "fileLogLevel": "debug"
        }"""
    )
    assert config.model("coding") == "gpt-5"
    assert config.limits == Limits(hard=60, no_output=1.5, no_progress=0)
    assert (config.max_attempts, config.log_level, config.file_log_level) == (3, "WARN", "DEBUG")


def test_its_own_names_win_over_the_originals() -> None:
    config = parse(
        """{"models": {"coding": "a"}, "agents": {"coding": {"model": "b"}}, "max_attempts": 2,
        "timeouts": {"hard": 5, "codingAgentHardTimeoutMs": 9000, "codingAgentMaxAttempts": 9, "gate": 7}}"""
    )
    assert (config.model("coding"), config.limits.hard, config.max_attempts, config.gate_timeout) == ("a", 5, 2, 7)


def test_a_program_can_be_a_harness() -> None:
    config = parse('{"harnesses": {"mine": {"command": ["./agent", "-x"], "env": {"KEY": "value"}}}}')
    assert config.harnesses == {"mine": Program(("./agent", "-x"), {"KEY": "value"})}


def test_an_agent_that_speaks_a_protocol_may_name_a_model_and_a_mode() -> None:
    program = {"protocol": "acp", "command": ["opencode", "acp"], "model": "a/b", "mode": "build"}
    config = parse(json.dumps({"harnesses": {"opencode": program}, "agents": {"coding": {"harness": "opencode"}}}))
    assert config.harnesses == {"opencode": Program(("opencode", "acp"), {}, "acp", "a/b", "build")}
    assert (config.model("coding"), config.model("manager")) == ("opencode", "gpt-5.1-codex-mini")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "line 1 is not JSON", "edit 'scriptorium.json'"),
        ('{"gate": "x",}', "line 1 is not JSON", "edit"),
        ('{\n"gate" "x"}', "line 2 is not JSON", "edit"),
        ("[" * 100_000, "the nesting is too deep", "edit"),
        ("[]", "it is not an object but a list", "edit"),
        ("null", "it is not an object but null", "edit"),
        ('"text"', "it is not an object but a string", "edit"),
        ('{"gate": "a", "gate": "b"}', "duplicate key 'gate'", "edit"),
        ('{"modles": {}}', "unknown key 'modles'", "did you mean 'models'?"),
        ('{"zzz": 1}', "unknown key 'zzz'", "known here: agents, "),
        ('{"models": {"codding": "x"}}', "unknown key 'models.codding'", "did you mean 'coding'?"),
        ('{"models": []}', "'models' is a list, and should be an object", "edit"),
        ('{"models": {"coding": 5}}', "'models.coding' is a number, and should be a string", "edit"),
        ('{"models": {"coding": " "}}', "'models.coding' is empty", "edit"),
        ('{"agents": {"codng": {}}}', "unknown key 'agents.codng'", "did you mean 'coding'?"),
        ('{"agents": {"coding": {"modl": "x"}}}', "unknown key 'agents.coding.modl'", "did you mean 'model'?"),
        ('{"agents": {"coding": "x"}}', "'agents.coding' is a string, and should be an object", "edit"),
        ('{"reasoning_effort": {"coding": "huge"}}', "'reasoning_effort.coding' is 'huge'", "one of: minimal, low, "),
        ('{"gate": ""}', "'gate' is empty", "edit"),
        ('{"gate": ["make"]}', "'gate' is a list, and should be a string", "edit"),
        ('{"gate": null}', "'gate' is null, and should be a string", "edit"),
        ('{"branch": true}', "'branch' is true or false, and should be a string", "edit"),
        ('{"gate": "a\\u0000b"}', "'gate' contains characters that cannot be passed to a program", "edit"),
        ('{"max_attempts": 0}', "'max_attempts' is 0, and should be 1 or more", "edit"),
        ('{"max_attempts": 1.5}', "'max_attempts' is 1.5, and should be a whole number", "edit"),
        ('{"max_attempts": "5"}', "'max_attempts' is a string, and should be a number", "edit"),
        ('{"max_attempts": true}', "'max_attempts' is true or false, and should be a number", "edit"),
        ('{"timeouts": {"gate": -1}}', "'timeouts.gate' is -1, and should be 0 or more", "edit"),
        ('{"timeouts": {"gate": NaN}}', "'timeouts.gate' is nan, and should be 0 or more", "edit"),
        ('{"timeouts": {"gate": 1e999}}', "'timeouts.gate' is too large", "edit"),
        ('{"timeouts": {"hrad": 1}}', "unknown key 'timeouts.hrad'", "did you mean 'hard'?"),
        ('{"timeouts": {"codingAgentHardTimeoutMs": -5}}', "'timeouts.codingAgentHardTimeoutMs' is -5", "edit"),
        ('{"concurrency": {"maxAgents": -1}}', "'concurrency.maxAgents' is -1, and should be 0 or more", "edit"),
        ('{"concurrency": {"agents": 1}}', "unknown key 'concurrency.agents'", "did you mean 'maxAgents'?"),
        ('{"loop": 5}', "'loop' is a number, and should be an object", "edit"),
        ('{"logLevel": "LOUD"}', "'logLevel' is 'LOUD'", "one of: DEBUG, INFO, WARN, ERROR"),
        ('{"endpoints": {"local": "127.0.0.1:8097"}}', "'endpoints.local' is '127.0.0.1:8097'", "it should look like"),
        ('{"endpoints": {"local": "https://127.0.0.1:1"}}', "'endpoints.local' is 'https", "it should look like"),
        ('{"endpoints": {"local": "http://127.0.0.1"}}', "'endpoints.local' is 'http", "it should look like"),
        ('{"endpoints": {"local": "http://127.0.0.1:99999"}}', "'endpoints.local' is 'http", "it should look like"),
        ('{"endpoints": {"local": "http://[::1:80"}}', "'endpoints.local' is 'http", "it should look like"),
        ('{"endpoints": {"local": "http://127.0.0.1:80/x"}}', "'endpoints.local' is 'http", "it should look like"),
        ('{"endpoints": {"local": "http://0.0.0.0:80"}}', "'endpoints.local' is 'http://0.0.0.0:80', not on", "use"),
        ('{"endpoints": {"remote": "x"}}', "unknown key 'endpoints.remote'", "known here: local"),
        ('{"harnesses": {"x": {}}}', "'harnesses.x.command' should be a list of words", "edit"),
        ('{"harnesses": {"x": {"command": []}}}', "'harnesses.x.command' should be a list of words", "edit"),
        ('{"harnesses": {"x": {"command": ["a", 1]}}}', "'harnesses.x.command' should be a list of words", "edit"),
        ('{"harnesses": {"x": {"command": "a"}}}', "'harnesses.x.command' is a string, and should be a list", "edit"),
        ('{"harnesses": {"x": {"command": ["a"], "env": {"A": 1}}}}', "'harnesses.x.env' should hold strings", "edit"),
        ('{"harnesses": {"x": {"command": ["a"], "cwd": "."}}}', "unknown key 'harnesses.x.cwd'", "known here: "),
        ('{"harnesses": {"x": {"command": ["a"], "model": "m"}}}', "unknown key 'harnesses.x.model'", "known here: "),
        ('{"harnesses": {"x": {"command": ["a"], "protocol": "apc"}}}', "'harnesses.x.protocol' is 'apc'", "one of"),
        ('{"harnesses": {"x": "a"}}', "'harnesses.x' is a string, and should be an object", "edit"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_is_one_line_and_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"'scriptorium.json': {message}")
    assert "\n" not in caught.value.message
    assert caught.value.hint.startswith(hint)
    assert caught.value.code is ExitCode.CONFIG


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scriptorium.json").write_bytes(b'{"gate": "\xff"}')
    with pytest.raises(ConfigError, match="cannot be read: "):
        load(tmp_path)


def test_a_directory_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scriptorium.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: "):
        load(tmp_path)


def test_a_mark_of_byte_order_is_taken_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "scriptorium.json").write_bytes(b'\xef\xbb\xbf{"gate": "make check"}')
    assert load(tmp_path).gate == "make check"


def test_a_step_stops_with_exit_78_before_it_changes_anything(project: Project) -> None:
    project.init()
    project.ticket("0001")
    (project.root / "scriptorium.json").write_text('{"brnach": "main"}')
    before = project.plan_log()

    expected = "scriptorium: 'scriptorium.json': unknown key 'brnach'\nhint: did you mean 'branch'?\n"
    assert project.run("assign") == (78, "", expected)
    assert project.plan_log() == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"max_attempts": ' + "9" * 5000 + "}", "too many digits"),
        ('{"timeouts": {"hard": 1e300}}', "'timeouts.hard' is too large"),
        ('{"timeouts": {"hard": NaN}}', "'timeouts.hard' is nan"),
        ('{"gate": "\\ud800"}', "'gate' contains characters that cannot be passed to a program"),
        ('{"harnesses": {"a\\u0000b": {"command": ["x"]}}}', "is not a valid program name"),
        ('{"harnesses": {"a": {"command": ["x"], "env": {"": "y"}}}}', "should hold strings"),
        ('{"a\\nb\\u001b[31m": 1}', "unknown key 'a b'"),
    ],
)
def test_what_breaks_readers_of_json_is_refused_in_a_line(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert why in caught.value.message
    assert caught.value.message.isprintable()
