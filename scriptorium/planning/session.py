"""A conversation with the Architect about the spec."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scriptorium.agents.prompts import prompt
from scriptorium.errors import ScriptoriumError, Stopped
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.planning.conversation import Conversation, Turn, render_turns
from scriptorium.planning.run import PlanEdits, hold_planning_lock, release_edits, run_planner
from scriptorium.planning.transcript import Transcript, say
from scriptorium.project.held import PlanningLock
from scriptorium.project.workspace import Workspace
from scriptorium.system.text import printable
from scriptorium.worktrees import rescue

log = logging.getLogger(__name__)


@dataclass
class PlanningSession:
    """A conversation with the Architect. Each turn is an agent run and, if the spec changed, a commit."""

    workspace: Workspace
    transcript: Transcript

    @property
    def _file(self) -> Path:
        self.workspace.paths.ensure(self.workspace.paths.home)
        return self.workspace.paths.conversation

    def begin(self) -> None:
        """Begin a new conversation."""
        Conversation(self._file).begin()

    def introduce(self) -> None:
        """Log the conversation that the next turn continues, if there is one and no other process uses it."""
        talk = Conversation.read(self._file)
        if not talk.turns or self.workspace.is_held("repo"):
            return
        log.info("turn %d of the conversation of %s; --new begins another", len(talk.turns) + 1, talk.began)
        last = talk.turns[-1]
        if not last.answer and not last.failure:
            log.warning("its last turn was interrupted: %s", printable(last.request))

    def turn(self, request: str) -> None:
        """Send a request to the Architect and show the answer and the change.

        Raises if the agent fails or edits anything but the spec.
        """
        with hold_planning_lock(self.workspace) as lock:
            talk = Conversation.read(self._file)
            before = talk.turns
            talk.ask(request)
            try:
                edits = self._run(lock, talk, before, request)
                answer = printable(edits.outcome.report.message).strip()
                self._take(edits, sum(bool(turn.answer) for turn in before) + 1)
            except (ScriptoriumError, Stopped) as error:
                self.transcript.flush()
                talk.end(failure=error.message if isinstance(error, ScriptoriumError) else "the engineer stopped it")
                raise
            talk.end(answer=answer or "(no answer)", outcome=edits.outcome)
        self._show(edits, answer or "(no answer)")

    def _run(self, lock: PlanningLock, talk: Conversation, before: Sequence[Turn], request: str) -> PlanEdits:
        """Run the Architect in its own session of this conversation, or with all earlier turns in the prompt."""
        facts = {
            "spec": self.workspace.plan.snapshot().spec.decode(errors="replace"),
            "repo": self.workspace.repository.root,
            "request": request,
        }
        whole = prompt("plan", history=render_turns("the session so far", before), **facts)
        more = prompt("plan-resume", history=render_turns("since your last answer", talk.since_session()[:-1]), **facts)
        return run_planner(
            self.workspace,
            lock,
            "architect",
            "plan",
            whole,
            lambda path: path == "spec.md",
            session=lambda agent: talk.session(agent, more),
            on_event=self.transcript.event,
        )

    def _take(self, edits: PlanEdits, number: int) -> None:
        """Commit the spec if the Architect changed it. Raises for strays and if another process changed the spec."""
        if edits.strays:
            strays = ", ".join(f"'{path}'" for path in edits.strays)
            raise ScriptoriumError(
                f"the Architect edited {strays} but may edit only 'spec.md': nothing is committed",
                f"its spec is kept: git show {edits.kept}:spec.md"
                if "spec.md" in edits.allowed
                else f"its edits are kept: git show {edits.kept}",
            )
        if "spec.md" not in edits.allowed:
            log.info("spec.md is unchanged")
            return
        data = edits.allowed["spec.md"]
        verb = f"plan session turn {number}" if number > 1 else "update spec from architect"

        def decide(plan: Plan) -> PlanChange:
            if data is None or plan.blob("spec.md") != edits.base.blob("spec.md"):
                rescue.log_kept("a spec that the plan cannot accept", edits.kept)
                why = "the Architect removed 'spec.md'" if data is None else "'spec.md' was changed meanwhile"
                raise ScriptoriumError(why, f"the Architect's edits are kept: git show {edits.kept}")
            return PlanChange(verb, writes={"spec.md": data}, trailers=edits.outcome.trailers())

        self.workspace.plan.transact(decide)
        release_edits(self.workspace, edits)
        log.info("spec.md is updated")

    def _show(self, edits: PlanEdits, answer: str) -> None:
        """Print the answer, unless the transcript has just shown it, and the diff of the spec."""
        if self.transcript.hold or answer != self.transcript.last:
            say(answer, sys.stdout)
        spec = edits.allowed.get("spec.md") or edits.base.spec
        self.transcript.diff("spec.md", edits.base.spec.decode(errors="replace"), spec.decode(errors="replace"))
