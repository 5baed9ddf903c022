"""A reader of a JSON object that checks each value and rejects unknown keys."""

from __future__ import annotations

from typing import Any

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.system.text import one_line

FILE = "scriptorium.json"

MAX_NUMBER = 10**12
"""An upper bound for times and prices."""


class ConfigError(ScriptoriumError):
    """The configuration cannot be used."""

    def __init__(self, message: str, hint: str = f"edit '{FILE}'") -> None:
        super().__init__(one_line(f"'{FILE}': {message}"), one_line(hint), ExitCode.CONFIG)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        twice = next(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
        raise ConfigError(f"duplicate key '{twice}'")
    return data


class Reader:
    """Reads known keys from an object, and raises ConfigError for the rest."""

    def __init__(self, where: str, data: Any) -> None:
        self.where = where
        if not isinstance(data, dict):
            raise ConfigError(f"{self.name()} is not an object but {_kind(data)}")
        self.data = data
        self.known: list[str] = []

    def name(self, key: str = "") -> str:
        path = ".".join(part for part in (self.where, key) if part)
        return f"'{path}'" if path else "it"

    def take(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        self.known.append(key)
        value = self.data.get(key, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if key in self.data and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise ConfigError(f"{self.name(key)} is {_kind(value)}, and should be {_kinds(kinds)}")
        return value

    def section(self, key: str) -> Reader:
        return Reader(self.name(key).strip("'"), self.take(key, dict, {}))

    def text(self, key: str, default: str) -> str:
        value: str = self.take(key, str, default)
        if key in self.data and not value.strip():
            raise ConfigError(f"{self.name(key)} is empty")
        if not is_text(value):
            raise ConfigError(f"{self.name(key)} contains characters that cannot be passed to a program")
        return value

    def number(self, key: str, default: float, *, least: float = 0) -> float:
        value: float = self.take(key, (int, float), default)
        if value > MAX_NUMBER:
            raise ConfigError(f"{self.name(key)} is too large")
        if not least <= value:  # also true for NaN
            raise ConfigError(f"{self.name(key)} is {value}, and should be {least} or more")
        return value

    def whole(self, key: str, default: int, *, least: int) -> int:
        value = self.number(key, default, least=least)
        if value != int(value):
            raise ConfigError(f"{self.name(key)} is {value}, and should be a whole number")
        return int(value)

    def seconds(self, key: str, alias: str, default: float) -> float:
        """Read a time in seconds, or in milliseconds under the name that the original uses."""
        return self.number(key, self.number(alias, default * 1000) / 1000)

    def finish(self) -> None:
        for key in self.data:
            if key not in self.known:
                from difflib import get_close_matches

                near = get_close_matches(key, self.known, 1, 0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(self.known))}"
                raise ConfigError(f"unknown key {self.name(key)}", hint)


def is_text(value: str) -> bool:
    """Return whether a text can be an argument, a file name or a variable: it has no NUL and no lone surrogate."""
    return "\0" not in value and value.encode(errors="replace").decode() == value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return names.get(type(value), "a number")


def _kinds(kinds: tuple[type, ...]) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return names.get(kinds[0], "a number")
