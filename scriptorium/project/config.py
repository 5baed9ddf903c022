"""The configuration, ``scriptorium.json`` at the top of the repository.

Every key is optional. An unknown key is an error that suggests the nearest known one, since a typo must not
silently select a default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from scriptorium.project.config_reader import FILE, ConfigError, Reader, is_text, unique_keys
from scriptorium.system.limits import Limits

PROTOCOLS = ("acp",)
ROLES = ("architect", "manager", "coding", "reviewer")
ACTIVE_ROLES = ROLES[:-1]
"""The roles that have a step; there is none for the reviewer yet."""
EFFORTS = ("minimal", "low", "medium", "high", "xhigh")
DEFAULT_MODEL = "gpt-5.1-codex-mini"
DEFAULT_ENDPOINT = "http://127.0.0.1:8097"


MAX_NAME = 50
"""Characters of the name of a configured agent program."""


@dataclass(frozen=True)
class Program:
    """An agent program that the user configures."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    """The protocol: 'acp', or '' for a program that reads its prompt on stdin."""
    model: str = ""
    """The model for roles that name none, or '' for the program's default; the same for ``mode``."""
    mode: str = ""


@dataclass(frozen=True)
class Price:
    """The price of a model, in US dollars per million tokens."""

    input: float
    cached: float
    output: float


@dataclass(frozen=True)
class Config:
    """All settings, with their defaults."""

    models: Mapping[str, str] = field(default_factory=dict)
    reasoning_effort: Mapping[str, str] = field(default_factory=dict)
    harnesses: Mapping[str, Program] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    """By role, the backend that was chosen by name."""
    environment: tuple[str, ...] = ()
    """Patterns of the additional environment variables that agents inherit."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    sandbox: str = "auto"
    """Whether agents run in the sandbox of their program: 'auto' if that works, or 'off'."""
    endpoint: tuple[str, int] = ("127.0.0.1", 8097)
    branch: str = ""
    gate: str = "make test"
    gate_timeout: float = 1800
    limits: Limits = field(default_factory=Limits)
    max_attempts: int = 5
    disk_floor: int = 1024
    """Free MiB that a disk needs before new work begins; zero disables the check."""
    log_level: str = "INFO"
    file_log_level: str = "DEBUG"

    def model(self, role: str) -> str:
        """Return the model of a role; the name of its backend stands for that program's own default."""
        return self.models.get(role) or self.backends.get(role) or DEFAULT_MODEL

    def effort(self, role: str) -> str:
        return self.reasoning_effort.get(role, "")

    def programs_in(self, root: Path) -> set[str]:
        """Return the paths inside a repository that the agents' commands name, directly or by symbolic links."""
        words = [word for program in self.harnesses.values() for word in program.command[:1] if "/" in word]
        words += [word for program in self.harnesses.values() for word in program.command[1:] if word.startswith("/")]
        places = [Path(os.path.normpath(root / word)) for word in words]
        found = [(place, root) for place in places] + [(place.resolve(), root.resolve()) for place in places]
        return {place.relative_to(top).as_posix() for place, top in found if top in place.parents}

    @property
    def environments(self) -> list[Mapping[str, str]]:
        """The configured environment variables of each agent program; they may hold secrets."""
        return [program.env for program in self.harnesses.values()]


def load(root: Path) -> Config:
    """Read the configuration of a repository, or return the defaults if it has none."""
    try:
        text = (root / FILE).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}") from error
    return parse(text)


def parse(text: str) -> Config:
    """Parse the text of a configuration. Raises ConfigError for the first error."""
    try:
        data = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {error.lineno} is not JSON: {error.msg.lower()}") from error
    except RecursionError as error:
        raise ConfigError("the nesting is too deep") from error
    except ValueError as error:
        raise ConfigError("a number has too many digits") from error
    top = Reader("", data)
    timeouts = top.section("timeouts")
    agents = top.section("agents")
    models, backends = _models(top, agents)
    harnesses = _harnesses(top)
    concurrency = top.section("concurrency")
    concurrency.number("maxAgents", 1)
    concurrency.number("tokenBudgetMB", 0)
    top.take("loop", dict, {})
    config = Config(
        models=models,
        reasoning_effort=_efforts(top.section("reasoning_effort")),
        harnesses=harnesses,
        backends=backends,
        environment=_words(top, "environment"),
        prices=_prices(top.section("prices")),
        sandbox=_sandbox(top),
        endpoint=_endpoint(top.section("endpoints")),
        branch=top.text("branch", ""),
        gate=top.text("gate", "make test"),
        gate_timeout=timeouts.number("gate", 1800),
        limits=Limits(
            hard=timeouts.seconds("hard", "codingAgentHardTimeoutMs", Limits.hard),
            no_output=timeouts.seconds("no_output", "codingAgentNoOutputTimeoutMs", Limits.no_output),
            no_progress=timeouts.seconds("no_progress", "codingAgentProgressTimeoutMs", Limits.no_progress),
        ),
        max_attempts=top.whole("max_attempts", timeouts.whole("codingAgentMaxAttempts", 5, least=1), least=1),
        disk_floor=top.whole("disk_floor", Config.disk_floor, least=0),
        log_level=_level(top, "logLevel", "INFO"),
        file_log_level=_level(top, "fileLogLevel", "DEBUG"),
    )
    for reader in (timeouts, concurrency, agents, top):
        reader.finish()
    return config


def _models(top: Reader, agents: Reader) -> tuple[dict[str, str], dict[str, str]]:
    """Return the models and the backends that are named, by role."""
    section = top.section("models")
    models = {role: section.text(role, "") for role in ROLES}
    section.finish()
    backends = {}
    for role in (*ROLES, "audit"):
        agent = agents.section(role)
        model, backend = agent.text("model", ""), agent.text("harness", "")
        agent.finish()
        if role in ROLES:
            models[role] = models[role] or model
            backends[role] = backend
    return {role: model for role, model in models.items() if model}, {
        role: backend for role, backend in backends.items() if backend
    }


def _harnesses(top: Reader) -> dict[str, Program]:
    programs = top.section("harnesses")
    harnesses = {}
    for name in list(programs.data):
        program = programs.section(name)
        command = _words(program, "command")
        if not command:
            raise ConfigError(f"'harnesses.{name}.command' should be a list of words, the program first")
        if not name.isprintable() or len(name) > MAX_NAME:  # it is also a file name
            raise ConfigError(f"'harnesses.{name[:MAX_NAME]}' is not a valid program name")
        env = program.take("env", dict, {})
        if not all(
            isinstance(value, str) and key and "=" not in key and is_text(key + value) for key, value in env.items()
        ):
            raise ConfigError(f"'harnesses.{name}.env' should hold strings")
        protocol = program.text("protocol", "")
        if protocol not in ("", *PROTOCOLS):
            hint = f"one of: {', '.join(PROTOCOLS)}; none for a program that reads its prompt on stdin"
            raise ConfigError(f"'harnesses.{name}.protocol' is '{protocol}'", hint)
        model, mode = (program.text("model", ""), program.text("mode", "")) if protocol else ("", "")
        program.finish()
        harnesses[name] = Program(command, env, protocol, model, mode)
    return harnesses


def _words(section: Reader, key: str) -> tuple[str, ...]:
    words = section.take(key, list, [])
    if not all(isinstance(word, str) and word and is_text(word) for word in words):
        raise ConfigError(f"{section.name(key)} should be a list of words")
    return tuple(words)


def _prices(section: Reader) -> dict[str, Price]:
    """Return the prices by model. Cached input costs as much as other input by default."""
    prices = {}
    for model in list(section.data):
        price = section.section(model)
        fresh = price.number("input", 0)
        prices[model] = Price(fresh, price.number("cached", fresh), price.number("output", 0))
        price.finish()
    return prices


def _sandbox(top: Reader) -> str:
    wanted = top.text("sandbox", "auto")
    if wanted not in ("auto", "off"):
        raise ConfigError(f"'sandbox' is '{wanted}'", "one of: auto, off")
    return wanted


def _efforts(section: Reader) -> dict[str, str]:
    efforts = {role: section.text(role, "") for role in ROLES}
    section.finish()
    for role, effort in efforts.items():
        if effort and effort not in EFFORTS:
            raise ConfigError(f"'reasoning_effort.{role}' is '{effort}'", f"one of: {', '.join(EFFORTS)}")
    return {role: effort for role, effort in efforts.items() if effort}


def _endpoint(section: Reader) -> tuple[str, int]:
    text = section.text("local", DEFAULT_ENDPOINT)
    section.finish()
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
        right = url.scheme == "http" and url.path in ("", "/") and not (url.query or url.fragment)
    except ValueError:  # an invalid port
        right = False
    if not right or not host or port is None:
        raise ConfigError(f"'endpoints.local' is '{text}'", f"it should look like '{DEFAULT_ENDPOINT}'")
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigError(f"'endpoints.local' is '{text}', not on this machine", f"use '{DEFAULT_ENDPOINT}'")
    return host, port


def _level(top: Reader, key: str, default: str) -> str:
    level = top.text(key, default).upper().replace("WARNING", "WARN")
    if level not in ("DEBUG", "INFO", "WARN", "ERROR"):
        raise ConfigError(f"'{key}' is '{level}'", "one of: DEBUG, INFO, WARN, ERROR")
    return level
