"""One attempt of the coding agent at a ticket."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from scriptorium.agents.cooldown import OnCooldown
from scriptorium.agents.failure import failure_of
from scriptorium.agents.harness.base import Outcome, Task
from scriptorium.agents.prompts import prompt
from scriptorium.agents.run import check_can_start, make_task, resume_session, run_agent, serve_tools
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.coding.acceptance import check_submission
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped, as_user_error
from scriptorium.git.errors import GitError
from scriptorium.plan import transitions
from scriptorium.plan.cause import UNCOUNTED, Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.readiness import unreadable_tickets
from scriptorium.plan.record_failure import tell_if_stuck
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, last_failure
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks, process, signals
from scriptorium.system.redact import redact
from scriptorium.system.text import tail
from scriptorium.worktrees import repair, rescue
from scriptorium.worktrees import tickets as worktrees

log = logging.getLogger(__name__)


class AttemptOutcome(StrEnum):
    """How a ticket came out of a run of the coding agent."""

    SUBMITTED = "submitted"
    FAILED = "failed"
    UNTRIED = "untried"  # the model could not be reached, so that no attempt is used up
    SKIPPED = "skipped"


@dataclass(frozen=True)
class AttemptResult:
    """A ticket that the coding agent has worked on, or that another process is at."""

    ticket: str
    result: AttemptOutcome


def idle_tickets(workspace: Workspace) -> list[str]:
    """Return the tickets in progress that wait for nobody, can be read, and have nobody at work."""
    plan = workspace.plan.snapshot()
    queued = {item.ticket for item in plan.queue()}
    broken = {problem.ticket for problem in unreadable_tickets(plan, State.IN_PROGRESS)}
    idle = [name for name in plan.tickets(State.IN_PROGRESS) if name not in queued | broken]
    return [name for name in idle if not locks.is_held(workspace.paths.ticket_lock(name))]


def run_attempt(workspace: Workspace, wanted: str, endpoint: Endpoint | None = None) -> AttemptResult:
    """Run the coding agent on one ticket and record what came of it.

    ``endpoint`` is the MCP server of a surrounding `scriptorium run`; without it, a harness that
    wants one gets its own. Raises `Stopped` after reopening the ticket when a signal arrives, and
    `Resting`, the ticket left as it is, while the backend rests.
    """
    name = _in_progress(workspace.plan.snapshot(), wanted)
    check_can_start(workspace, "coding")
    lock = workspace.paths.ensure(workspace.paths.ticket_lock(name).parent) / f"{name}.lock"
    try:
        with locks.hold(lock, name), signals.stoppable():
            _in_progress(workspace.plan.snapshot(), name)
            return AttemptResult(name, _Attempt(workspace, name).work(endpoint))
    except ScriptoriumError as error:
        if error.code is not ExitCode.LOCKED or isinstance(error, OnCooldown):
            raise
        log.warning("%s", error.message)
        return AttemptResult(name, AttemptOutcome.SKIPPED)


def _in_progress(plan: Plan, wanted: str) -> str:
    """Return the name of a ticket that can be worked on, or raise with what it is instead."""
    name, state = plan.require(wanted)
    if state is not State.IN_PROGRESS:
        hint = "run 'scriptorium assign' first" if state is State.OPEN else "see 'scriptorium status --json'"
        raise ScriptoriumError(f"ticket '{name}' is {state}, not in progress", hint)
    if any(item.ticket == name for item in plan.queue()):
        raise ScriptoriumError(f"ticket '{name}' is submitted already", "run 'scriptorium merge'")
    return name


class _Attempt:
    """One run of the coding agent on a ticket whose lock is held."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.ticket = workspace.plan.snapshot().ticket(name, State.IN_PROGRESS)
        self.worktree = worktrees.ensure(workspace, name)
        self.submitted = ""
        """The commit that was handed in."""
        self.merge = ""
        """What the agent is told of a merge that was begun for it."""
        self.hindered = ""
        """Why the system kept the work from being handed in, for which neither agent nor ticket can be blamed."""
        self.refused = ""
        """Why what was last handed in was not taken."""

    def work(self, endpoint: Endpoint | None) -> AttemptOutcome:
        workspace = self.workspace
        harness, task = make_task(workspace, "coding", "", self.worktree, self.ticket.name)
        if any(task.logs.iterdir()):
            process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={self.worktree}")
        repair.repair_worktree(workspace, self.ticket.name)
        if last_failure(self.ticket.text) == Cause.CONFLICT:
            self._begin_merge()
        own = {"SCRIPTORIUM_TICKET": self.ticket.name, "SCRIPTORIUM_AREA": self.ticket.area}
        task = replace(task, prompt=self._prompt(), env={**task.env, **own})
        task = resume_session(harness, task, self._continuation())
        log.info("ticket '%s': attempt %d begins", self.ticket.name, self.ticket.attempts + 1)
        tools = {"submit_pr": lambda given: self.submit(str(given.get("summary", "")))}
        with serve_tools(workspace, harness, task, tools, endpoint) as task:
            try:
                outcome = run_agent(workspace, harness, task)
            except Stopped:
                self._stopped()
                raise
            except ScriptoriumError as error:
                if error.code is ExitCode.CONFIG:  # else it is tried again by itself, as when a backend rests
                    self._reopen(Cause.INFRASTRUCTURE, f"The agent could not start its work: {error.message}", "", {})
                raise
        return self._conclude(outcome, task)

    def _begin_merge(self) -> None:
        """Begin the merge that failed, so that the agent need only resolve it; its sandbox may keep git from it."""
        self._settle(f"Leave ticket {self.ticket.name} as it was found")
        try:
            conflicts = worktrees.begin_merge(self.workspace, self.ticket.name)
        except GitError as error:
            repair.repair_worktree(self.workspace, self.ticket.name)
            if error.system:
                raise
            log.warning("ticket '%s': %s", self.ticket.name, error.message)
            return
        if conflicts:
            self.merge = prompt(
                "merge", master=self.workspace.master, files=", ".join(f"`{name}`" for name in conflicts)
            )

    def _prompt(self) -> str:
        attempt = self.ticket.attempts + 1
        again = prompt("again", attempt=attempt, master=self.workspace.master, merge=self.merge) if attempt > 1 else ""
        return self._ask("coding", repo=self.workspace.repository.root, history=again)

    def _continuation(self) -> str:
        """Return what to say to an agent that remembers its earlier attempt."""
        return self._ask("resume", merge=self.merge)

    def _ask(self, name: str, **values: object) -> str:
        ticket, workspace = self.ticket, self.workspace
        known = {"branch": ticket.branch, "master": workspace.master, "gate": workspace.config.gate}
        return prompt(name, ticket=ticket.name, text=ticket.text, **known, **values)

    def submit(self, summary: str) -> str:
        """Enqueue the ticket, the agent's uncommitted work included, and return the reply to the agent.

        Called from the submit server's thread while the agent runs.
        """
        try:
            return self._submit(summary)
        except (ScriptoriumError, OSError) as error:
            self.refused = as_user_error(error).message
            if isinstance(error, OSError) or (isinstance(error, GitError) and error.system):
                self.hindered = as_user_error(error).message
            raise

    def _submit(self, summary: str) -> str:
        if self.submitted:
            return f"ticket {self.ticket.name} is handed in already; there is nothing left to do"
        summary = self._redact(" ".join(summary.split()))[:2000] or self.ticket.title
        try:
            message = f"{self.ticket.title}\n\n{summary}"
            head = worktrees.commit_leftovers(self.workspace, self.ticket.name, message, resolved=True)
        except GitError as error:
            if error.system:
                raise
            hint = error.hint or f"check out '{self.ticket.branch}' in '{self.worktree}'"
            raise ScriptoriumError(error.message, hint) from error
        check_submission(self.workspace, self.ticket, head)

        def decide(plan: Plan) -> PlanChange:
            ticket = plan.ticket(_in_progress(plan, self.ticket.name), State.IN_PROGRESS)
            return transitions.enqueue(plan, ticket, str(self.worktree), summary, head)

        self.workspace.plan.transact(decide)
        self.submitted = head
        log.info("coding agent called submit_pr, summary=%s", summary)
        return f"ticket {self.ticket.name} is queued to be merged; there is nothing left to do"

    def _conclude(self, outcome: Outcome, task: Task) -> AttemptOutcome:
        if self.submitted:
            self._hold_to_submitted()
            return AttemptOutcome.SUBMITTED  # what it has left uncommitted since is settled by the merge lane
        # the agent may have been ended in the middle of a commit
        repair.repair_worktree(self.workspace, self.ticket.name)
        kept = self._settle(f"Leave attempt {self.ticket.attempts + 1} of ticket {self.ticket.name} as it stands")
        cause, reason = failure_of(outcome, task)
        if self.hindered:
            cause, reason = Cause.INFRASTRUCTURE, f"The work could not be handed in: {self.hindered}"
        elif self.refused and cause is Cause.NO_SUBMIT:  # it ended as if all were well, so its stderr is not looked at
            reason = f"{reason}; what it tried to hand in was refused: {self.refused}"
        reason = f"{reason}; what it left is kept as '{kept}'" if kept else reason
        errors = tail(outcome.log.with_suffix(".stderr"), *self.workspace.config.environments)
        said = self._redact(outcome.report.message)[-1500:]
        # what an agent said last tells why it did not hand in; why a program failed is on its stderr
        words = (said or errors) if cause is Cause.NO_SUBMIT else (errors or said)
        self._reopen(cause, reason, words, outcome.trailers())
        return AttemptOutcome.UNTRIED if cause in UNCOUNTED else AttemptOutcome.FAILED

    def _hold_to_submitted(self) -> None:
        """Take the branch back to what was handed in: commits made since were not looked at, and are kept aside."""
        tip = self.workspace.repository.resolve(f"refs/heads/{self.ticket.branch}")
        if tip and tip != self.submitted:
            why = f"ticket '{self.ticket.name}' got commits after it was handed in"
            worktrees.reset_branch(self.workspace, self.ticket.name, why, self.submitted)

    def _settle(self, message: str) -> str:
        """Commit what lies in the worktree; return where it is kept, or '', when that cannot be done."""
        try:
            worktrees.commit_leftovers(self.workspace, self.ticket.name, message)
        except worktrees.UnresolvedConflict:
            why = f"ticket '{self.ticket.name}' left a merge with conflicts"
            return rescue.rescue_and_reset(self.workspace, self.ticket.name, why)
        except GitError as error:
            log.warning("ticket '%s': %s", self.ticket.name, error.message)
            with suppress(ScriptoriumError):  # the next attempt tries again, and tells
                return worktrees.restore(self.workspace, self.ticket.name)
        return ""

    def _stopped(self) -> None:
        if self.submitted:
            self._hold_to_submitted()
        else:
            self._reopen(Cause.STOPPED, "The run was stopped from outside", "", {})

    def _reopen(self, cause: Cause, reason: str, words: str, facts: dict[str, object]) -> None:
        most = self.workspace.config.max_attempts

        def decide(plan: Plan) -> PlanChange | None:
            if self.ticket.name not in plan.tickets(State.IN_PROGRESS):
                return None  # somebody moved it by hand, and theirs counts
            ticket = plan.ticket(self.ticket.name, State.IN_PROGRESS)
            return transitions.reopen(plan, ticket, cause, self._redact(reason), words, most, facts)

        after = self.workspace.plan.transact(decide)
        if cause is Cause.STOPPED:
            log.info("ticket '%s' was stopped and is open again; the attempt does not count", self.ticket.name)
        else:
            log.info("ticket '%s': attempt failed: %s", self.ticket.name, reason)
        tell_if_stuck(log, after, self.ticket.name)

    def _redact(self, text: str) -> str:
        return redact(text, *self.workspace.config.environments)
