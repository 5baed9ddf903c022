"""Fuzzing of the configuration: a text is usable or refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scriptorium.agents.harness.choice import choose
from scriptorium.agents.harness.usage import Usage
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.project.config import Config, parse
from scriptorium.project.config_reader import ConfigError
from scriptorium.system.text import one_line
from tests.fuzz.fuzz_cases import task
from tests.fuzzing import altered, fuzzed, mutated

SETTINGS = {
    "models": {"architect": "gpt-5", "coding": "mine"},
    "reasoning_effort": {"coding": "high"},
    "harnesses": {"mine": {"command": ["./agent"], "env": {"A": "b"}, "protocol": "acp", "model": "m", "mode": "n"}},
    "agents": {"manager": {"model": "claude-x", "harness": "claude-code"}},
    "environment": ["A*"],
    "prices": {"gpt-5": {"input": 1, "cached": 0.1, "output": 10}},
    "endpoints": {"local": "http://127.0.0.1:8097"},
    "sandbox": "auto",
    "branch": "master",
    "gate": "make test",
    "timeouts": {"gate": 5, "hard": 1, "no_output": 2, "no_progress": 3, "codingAgentHardTimeoutMs": 5},
    "max_attempts": 3,
    "concurrency": {"maxAgents": 1},
    "loop": {},
    "logLevel": "INFO",
    "fileLogLevel": "DEBUG",
}


def configured(text: str) -> Config | None:
    """Return a configuration, or None if it is refused; the error must be one line."""
    try:
        return parse(text)
    except ConfigError as error:
        caught = error
    assert caught.code is ExitCode.CONFIG
    assert caught.message == one_line(caught.message)
    return None


def used(config: Config) -> None:
    """Use a configuration like the first steps of a run."""
    for role in ("architect", "manager", "coding"):
        try:
            harness, model = choose(config, role, Path("/"))
        except ScriptoriumError:
            continue
        os.fsencode(harness.label(model))
        assert all(os.fsencode(word) and "\0" not in word for word in harness.argv(task(Path("/")), Path("/x")))
    os.fsencode(config.gate + config.branch)
    for number in (config.gate_timeout, config.limits.hard, config.limits.no_output, config.limits.no_progress):
        assert 0 <= number <= 1e12
        f"{number:g}"
    for environment in config.environments:
        for name, value in environment.items():
            assert os.fsencode(name)
            os.fsencode(value)
            assert not {"\0", "="} & {*name}
    for price in config.prices.values():
        Usage(10**15, 10**15, 10**15).priced(price).trailers()


@fuzzed("configurations", 80, settings=altered(SETTINGS))
def test_a_configuration_is_usable_or_refused(settings: Any) -> None:
    config = configured(json.dumps(settings))
    if config is not None:
        used(config)


@fuzzed(
    "configuration texts",
    60,
    data=mutated(json.dumps(SETTINGS, indent=1).encode(), b"{}", b'{"gate": "a", "gate": "b"}'),
)
def test_a_text_that_is_no_configuration_is_refused(data: bytes) -> None:
    config = configured(data.decode(errors="replace"))
    if config is not None:
        used(config)
