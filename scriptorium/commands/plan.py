"""scriptorium plan: write spec.md together with the Architect."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field

from scriptorium import planning, rescue
from scriptorium.cli import Command
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan import Change, Plan
from scriptorium.prompts import prompt
from scriptorium.redact import redact
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)

HELP = """\
/show  print the current spec.md
/help  list the commands
/quit  leave (so does the end of input)
anything else is a request to the Architect"""


class PlanCommand(Command):
    """Let the Architect write spec.md: from one request, or in a session when there is none.

    In a session each line is a request; /show prints the spec, /help lists the commands, /quit
    leaves. The Architect may edit spec.md and nothing else: a turn with any other edit fails, and
    what it wrote is kept under refs/scriptorium/rescue/. Prints the Architect's answer.
    """

    USAGE = "    {progname} [options] [REQUEST...]\n"

    def main(self, *request: str) -> int:
        session = Session(Workspace.open())
        session.workspace.plan.snapshot()
        if not request:
            return _converse(session)
        text = " ".join(request).strip()
        if not text:
            raise ScriptoriumError("the request is empty", "say what should be planned", ExitCode.USAGE)
        print(session.turn(text))
        return ExitCode.OK


def _converse(session: Session) -> int:
    """Read requests until /quit or the end of input; the exit code tells whether the last one failed."""
    code = ExitCode.OK
    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401 - gives input() its line editing

        print("planning session; /help lists the commands")
    while True:
        try:
            line = input("> " if terminal else "").strip()
        except EOFError:
            return code
        match line:
            case "":
                continue
            case "/quit":
                return code
            case "/help":
                print(HELP)
            case "/show":
                print(session.workspace.plan.snapshot().spec.decode(errors="replace"), end="")
            case _ if line.startswith("/"):
                print(f"'{line}' is not a command; /help lists them")
            case _:
                code = _try_turn(session, line)


def _try_turn(session: Session, request: str) -> ExitCode:
    """Take one turn; a failure is told and the session goes on."""
    try:
        print(session.turn(request), flush=True)
    except ScriptoriumError as error:
        print(f"scriptorium: {error}", file=sys.stderr)
        return error.code
    return ExitCode.OK


@dataclass
class Session:
    """A conversation with the Architect; each turn is an agent run and, if the spec changed, a commit."""

    workspace: Workspace
    history: list[tuple[str, str]] = field(default_factory=list)

    def turn(self, request: str) -> str:
        """Take one request to the Architect and return the answer; raises when it overstepped."""
        workspace = self.workspace
        with planning.single_flight(workspace):
            spec = workspace.plan.snapshot().spec.decode(errors="replace")
            said = "\n\n".join(f"Engineer: {asked}\n\nArchitect: {told}" for asked, told in self.history)
            text = prompt(
                "plan",
                repo=workspace.repository.root,
                history=f"--- the session so far ---\n{said}\n" if said else "",
                spec=spec,
                request=request,
            )
            edits = planning.run(workspace, "architect", "plan", text, lambda path: path == "spec.md")
            answer = redact(edits.outcome.report.message, *workspace.config.environments).strip()
            if edits.strays:
                strays = ", ".join(f"'{path}'" for path in edits.strays)
                raise ScriptoriumError(
                    f"the Architect edited {strays}, and may only edit 'spec.md': nothing is taken",
                    f"its spec is kept: git show {edits.kept}:spec.md"
                    if "spec.md" in edits.allowed
                    else f"its edits are kept: git show {edits.kept}",
                )
            self._record(edits)
        self.history.append((request, answer))
        return answer or "(no answer)"

    def _record(self, edits: planning.Edits) -> None:
        """Commit the spec, unless it is as before or somebody else has changed it meanwhile."""
        if "spec.md" not in edits.allowed:
            log.info("spec.md is unchanged")
            return
        data = edits.allowed["spec.md"]
        verb = f"plan session turn {len(self.history) + 1}" if self.history else "update spec from architect"

        def decide(plan: Plan) -> Change:
            if data is None or plan.blob("spec.md") != edits.base.blob("spec.md"):
                kept = rescue.keep(self.workspace, edits.commit, "plan", "a spec that cannot be taken as it is")
                what = "the Architect removed 'spec.md'" if data is None else "'spec.md' was changed meanwhile"
                raise ScriptoriumError(what, f"the Architect's edits are kept: git show {kept}")
            return Change(verb, writes={"spec.md": data}, trailers=edits.outcome.trailers())

        self.workspace.plan.transact(decide)
        log.info("spec.md is updated")


main = PlanCommand.launch
