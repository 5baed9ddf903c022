"""scriptorium ask: answer a question about the project."""

from __future__ import annotations

import logging
import sys

from scriptorium.cli import Command
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.planning.question import ask
from scriptorium.planning.transcript import say
from scriptorium.project.workspace import Workspace

log = logging.getLogger(__name__)


class Ask(Command):
    """Let the Architect answer a question from the spec, the plan and the source without changing anything.

    The agent reads a temporary checkout of master, so the command can run beside all others. Prints the answer.
    """

    USAGE = "    {progname} [options] QUESTION...\n"

    def main(self, *question: str) -> None:
        text = " ".join(question).strip()
        if not text:
            raise ScriptoriumError("the question is empty", 'scriptorium ask "what you want to know"', ExitCode.USAGE)
        say(ask(Workspace.open(), text), sys.stdout)


main = Ask.launch
