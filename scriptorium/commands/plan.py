"""scriptorium plan: write spec.md together with the Architect."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium import locks, planning, rescue
from scriptorium.cli import Command, Flag
from scriptorium.conversation import Conversation, Turn, told
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped
from scriptorium.output import printable
from scriptorium.plan import Change, Plan
from scriptorium.prompts import prompt
from scriptorium.terminal import typed
from scriptorium.transcript import Transcript, say
from scriptorium.workspace import Workspace

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
            raise ScriptoriumError("the request is empty", "say what should be planned", ExitCode.USAGE)
        workspace = Workspace.open()
        workspace.plan.snapshot()
        session = Session(workspace, Transcript(sys.stderr if request else sys.stdout, hold=bool(request)))
        if self.new:
            session.begin()
        session.introduce()
        if not request:
            return _converse(session)
        session.turn(text)
        return ExitCode.OK


def _converse(session: Session) -> int:
    """Read requests until /quit or the end of input; the exit code tells whether the last one failed."""
    code = ExitCode.OK
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        print("planning session; /help lists the commands, Alt-Enter begins a new line, Ctrl-C stops a turn")
    for line in map(str.strip, typed(session.workspace.paths.typed) if terminal else sys.stdin):
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


def _try_turn(session: Session, request: str, *, survives: bool) -> ExitCode:
    """Take one turn; a failure is told and the session goes on, where it ``survives`` also after Ctrl-C."""
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


@dataclass
class Session:
    """A conversation with the Architect; each turn is an agent run and, if the spec changed, a commit."""

    workspace: Workspace
    transcript: Transcript

    @property
    def _file(self) -> Path:
        self.workspace.paths.ensure(self.workspace.paths.home)
        return self.workspace.paths.conversation

    def begin(self) -> None:
        """Begin another conversation."""
        Conversation(self._file).begin()

    def introduce(self) -> None:
        """Say which conversation this goes on with, if there is one and nobody is at it."""
        talk = Conversation.read(self._file)
        if not talk.turns or locks.is_held(self.workspace.paths.lock("repo")):
            return
        log.info("turn %d of the conversation of %s; --new begins another", len(talk.turns) + 1, talk.began)
        last = talk.turns[-1]
        if not last.answer and not last.failure:
            log.warning("its last turn broke off: %s", printable(last.request))

    def turn(self, request: str) -> None:
        """Put a request to the Architect and show the answer and the change; raises when it oversteps or fails."""
        with planning.single_flight(self.workspace):
            talk = Conversation.read(self._file)
            before = talk.turns
            talk.ask(request)
            try:
                edits = self._run(talk, before, request)
                answer = printable(edits.outcome.report.message).strip()
                self._take(edits, sum(bool(turn.answer) for turn in before) + 1)
            except (ScriptoriumError, Stopped) as error:
                self.transcript.flush()
                talk.end(failure=error.message if isinstance(error, ScriptoriumError) else "the engineer stopped it")
                raise
            talk.end(answer=answer or "(no answer)", outcome=edits.outcome)
        self._show(edits, answer or "(no answer)")

    def _run(self, talk: Conversation, before: Sequence[Turn], request: str) -> planning.Edits:
        """Run the Architect, in its own session of this conversation or else with all that was said."""
        facts = {
            "spec": self.workspace.plan.snapshot().spec.decode(errors="replace"),
            "repo": self.workspace.repository.root,
            "request": request,
        }
        whole = prompt("plan", history=told("the session so far", before), **facts)
        more = prompt("plan-resume", history=told("since your last answer", talk.since_session()[:-1]), **facts)
        return planning.run(
            self.workspace,
            "architect",
            "plan",
            whole,
            lambda path: path == "spec.md",
            session=lambda agent: talk.session(agent, more),
            on_event=self.transcript.event,
        )

    def _take(self, edits: planning.Edits, number: int) -> None:
        """Commit the spec, unless it is as before or somebody else has changed it meanwhile; raises for strays."""
        if edits.strays:
            strays = ", ".join(f"'{path}'" for path in edits.strays)
            raise ScriptoriumError(
                f"the Architect edited {strays}, and may only edit 'spec.md': nothing is taken",
                f"its spec is kept: git show {edits.kept}:spec.md"
                if "spec.md" in edits.allowed
                else f"its edits are kept: git show {edits.kept}",
            )
        if "spec.md" not in edits.allowed:
            log.info("spec.md is unchanged")
            return
        data = edits.allowed["spec.md"]
        verb = f"plan session turn {number}" if number > 1 else "update spec from architect"

        def decide(plan: Plan) -> Change:
            if data is None or plan.blob("spec.md") != edits.base.blob("spec.md"):
                rescue.tell("a spec that cannot be taken as it is", edits.kept)
                what = "the Architect removed 'spec.md'" if data is None else "'spec.md' was changed meanwhile"
                raise ScriptoriumError(what, f"the Architect's edits are kept: git show {edits.kept}")
            return Change(verb, writes={"spec.md": data}, trailers=edits.outcome.trailers())

        self.workspace.plan.transact(decide)
        planning.release(self.workspace, edits)
        log.info("spec.md is updated")

    def _show(self, edits: planning.Edits, answer: str) -> None:
        """Print the answer, unless it was the last that was shown, and what has changed."""
        if self.transcript.hold or answer != self.transcript.last:
            say(answer, sys.stdout)
        spec = edits.allowed.get("spec.md") or edits.base.spec
        self.transcript.diff("spec.md", edits.base.spec.decode(errors="replace"), spec.decode(errors="replace"))


main = PlanCommand.launch
