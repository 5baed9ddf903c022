"""scriptorium plan: write spec.md together with the Architect."""

from __future__ import annotations

import logging
import signal
import sys

from scriptorium.cli import Command, Flag
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped
from scriptorium.planning.session import PlanningSession
from scriptorium.planning.terminal import read_lines
from scriptorium.planning.transcript import Transcript, say
from scriptorium.project.workspace import Workspace
from scriptorium.system.text import printable

log = logging.getLogger(__name__)

HELP = """\
/show  print the current spec.md
/new   begin another conversation
/help  list the commands
/quit  leave (so does the end of input)
anything else is a request to the Architect"""


class PlanCommand(Command):
    """Let the Architect write spec.md: from one request, or in a session without a request.

    Continues the last conversation in this repository. In a session each line is a request; /show
    prints the spec, /new begins another conversation, /help lists the commands, /quit exits. The
    Architect may edit only spec.md: a turn with any other edit fails, and its edits are kept under
    refs/scriptorium/rescue/. Prints the Architect's answer.
    """

    USAGE = "    {progname} [options] [REQUEST...]\n"

    new = Flag("--new", help="begin another conversation")

    def main(self, *request: str) -> int:
        text = " ".join(request).strip()
        if request and not text:
            raise ScriptoriumError("the request is empty", "describe what to plan", ExitCode.USAGE)
        workspace = Workspace.open()
        workspace.plan.snapshot()
        session = PlanningSession(workspace, Transcript(sys.stderr if request else sys.stdout, hold=bool(request)))
        if self.new:
            session.begin()
        session.introduce()
        if not request:
            return _converse(session)
        session.turn(text)
        return ExitCode.OK


def _converse(session: PlanningSession) -> int:
    """Read requests until /quit or the end of input, and return the exit code of the last one."""
    code = ExitCode.OK
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        print("planning session; /help lists the commands, Alt-Enter begins a new line, Ctrl-C stops a turn")
    for line in map(str.strip, read_lines(session.workspace.paths.typed) if terminal else sys.stdin):
        match line:
            case "":
                continue
            case "/quit":
                return code
            case "/help":
                print(HELP)
            case "/new":
                session.begin()
            case "/show":
                say(printable(session.workspace.plan.snapshot().spec.decode(errors="replace")), sys.stdout, end="")
            case _ if line.startswith("/") and "\n" not in line:
                print(f"'{line}' is not a command; /help lists them")
            case _:
                code = _try_turn(session, line, survives=terminal)
        sys.stdout.flush()
    return code


def _try_turn(session: PlanningSession, request: str, *, survives: bool) -> ExitCode:
    """Take one turn. A failure is printed and the session goes on; if it ``survives``, even after Ctrl-C."""
    try:
        session.turn(request)
    except ScriptoriumError as error:
        print(f"scriptorium: {error}", file=sys.stderr)
        return error.code
    except (Stopped, KeyboardInterrupt) as stop:
        if not survives or (isinstance(stop, Stopped) and stop.signum != signal.SIGINT):
            raise
        print("scriptorium: the turn is stopped", file=sys.stderr)
        return ExitCode.INTERRUPTED
    return ExitCode.OK


main = PlanCommand.launch
