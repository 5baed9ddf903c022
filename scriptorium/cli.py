"""The base class of all verbs: parsing of arguments, and start of a command."""

from __future__ import annotations

from inspect import getfullargspec
from typing import Any

from plumbum import cli

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.git.environment import scrub_environment
from scriptorium.system.log import start_plain
from scriptorium.version import VERSION

Flag = cli.Flag
SwitchAttr = cli.SwitchAttr


class Command(cli.Application):  # type: ignore[misc, unused-ignore]
    """A verb. ``main`` returns an exit code; None means 0."""

    VERSION = VERSION
    USAGE = "    {progname} [options]\n"
    _unbound_switches = ("help-all", "completions")  # no verb has subcommands

    # main.py handles it, before the verb is known
    debug = Flag("--debug", help="show a traceback when something fails", group="Meta-switches")

    @classmethod
    def launch(cls, argv: list[str]) -> int:
        """Parse the arguments, run the verb and return its exit code."""
        scrub_environment()
        start_plain()
        name = f"scriptorium {cls.__module__.rpartition('.')[2].replace('_', '-')}"
        command = cls(name)
        _, code = command._parse_and_dispatch(argv)
        return int(code)

    # plumbum prints usage errors on stdout, among the records. Both overridden methods are private,
    # hence the pin in pyproject.toml and a test of usage errors.

    def _parse_args(self, argv: list[str]) -> Any:
        try:
            return super()._parse_args(argv)
        except cli.switches.SwitchError as error:
            raise self._usage(error) from error

    def _validate_args(self, swfuncs: Any, tailargs: Any) -> Any:
        try:
            return super()._validate_args(swfuncs, tailargs)
        except cli.switches.PositionalArgumentsError as error:
            most = len(getfullargspec(self.main).args) - 1  # no verb has a required argument
            hint = f"see '{self.PROGNAME} --help'"
            raise ScriptoriumError(f"unexpected argument '{tailargs[most]}'", hint, ExitCode.USAGE) from error
        except cli.switches.SwitchError as error:
            raise self._usage(error) from error

    def _usage(self, error: Exception) -> Exception:
        if type(error).__name__.startswith("Show"):  # --help and --version raise exceptions, too
            return error
        text = " ".join(str(error).split())
        message = text[:1].lower() + text[1:].rstrip(".")
        return ScriptoriumError(message, f"see '{self.PROGNAME} --help'", ExitCode.USAGE)
