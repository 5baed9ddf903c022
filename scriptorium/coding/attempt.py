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
from scriptorium.plan.record_failure import Failure, record_failure
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, last_failure
from scriptorium.project.held import TicketLock
from scriptorium.project.workspace import Workspace
from scriptorium.system import process, signals
from scriptorium.system.text import tail
from scriptorium.worktrees.tickets import TicketWorktree, UnresolvedConflict

log = logging.getLogger(__name__)


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUBMITTED = "submitted"
    FAILED = "failed"
    UNTRIED = "untried"  # the provider or the host failed, so the attempt does not count
    SKIPPED = "skipped"


@dataclass(frozen=True)
class AttemptResult:
    """A ticket, and how the attempt at it ended; skipped if another process works on it."""

    ticket: str
    result: AttemptOutcome


def idle_tickets(workspace: Workspace) -> list[str]:
    """Return the readable tickets in progress that are not queued and on which no process works."""
    plan = workspace.plan.snapshot()
    queued = {item.ticket for item in plan.queue()}
    broken = {problem.ticket for problem in unreadable_tickets(plan, State.IN_PROGRESS)}
    idle = [name for name in plan.tickets(State.IN_PROGRESS) if name not in queued | broken]
    return [name for name in idle if not workspace.is_ticket_held(name)]


def run_attempt(workspace: Workspace, wanted: str, endpoint: Endpoint | None = None) -> AttemptResult:
    """Run the coding agent on one ticket and record the result in the plan.

    ``endpoint`` is the MCP server of a surrounding `scriptorium run`; without it, a harness that needs one starts
    its own. Raises `Stopped` after a signal has arrived and the ticket is open again. Raises `OnCooldown`, and leaves
    the ticket as it is, while the backend cools down.
    """
    name = _in_progress(workspace.plan.snapshot(), wanted)
    check_can_start(workspace, "coding")
    try:
        with workspace.hold_ticket(name) as lock, signals.stoppable():
            _in_progress(workspace.plan.snapshot(), name)
            return AttemptResult(name, _Attempt(workspace, lock).work(endpoint))
    except ScriptoriumError as error:
        if error.code is not ExitCode.LOCKED or isinstance(error, OnCooldown):
            raise
        log.warning("%s", error.message)
        return AttemptResult(name, AttemptOutcome.SKIPPED)


def _in_progress(plan: Plan, wanted: str) -> str:
    """Return the full name of a ticket in progress; raises for a ticket in another state or in the queue."""
    name, state = plan.require(wanted)
    if state is not State.IN_PROGRESS:
        hint = "run 'scriptorium assign' first" if state is State.OPEN else "see 'scriptorium status --json'"
        raise ScriptoriumError(f"ticket '{name}' is {state}, not in progress", hint)
    if any(item.ticket == name for item in plan.queue()):
        raise ScriptoriumError(f"ticket '{name}' is submitted already", "run 'scriptorium merge'")
    return name


class _Attempt:
    """One run of the coding agent on a ticket."""

    def __init__(self, workspace: Workspace, lock: TicketLock) -> None:
        self.workspace = workspace
        self.ticket = workspace.plan.snapshot().ticket(lock.ticket, State.IN_PROGRESS)
        self.worktree = TicketWorktree(workspace, lock)
        self.worktree.ensure()
        self.submitted = ""
        """The commit that was submitted, or ''."""
        self.merge = ""
        """The part of the prompt about a merge that was begun for the agent, or ''."""
        self.environment_error = ""
        """The environment error that blocked the submission, or ''; not counted against the ticket."""
        self.refusal = ""
        """Why the last submission was refused, or ''."""

    def work(self, endpoint: Endpoint | None) -> AttemptOutcome:
        workspace = self.workspace
        harness, task = make_task(workspace, "coding", "", self.worktree.path, self.ticket.name)
        if any(task.logs.iterdir()):
            process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={self.worktree.path}")
        self.worktree.repair()
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
                if error.code is ExitCode.CONFIG:  # other errors, such as a cooldown, are retried without a commit
                    self._record(Failure(Cause.INFRASTRUCTURE, f"The agent could not start its work: {error.message}"))
                raise
        return self._conclude(outcome, task)

    def _begin_merge(self) -> None:
        """Begin the merge that had conflicts, so that the agent only resolves them; its sandbox may forbid git to."""
        self._commit_leftovers(f"Leave ticket {self.ticket.name} as it was found")
        try:
            conflicts = self.worktree.begin_merge()
        except GitError as error:
            self.worktree.repair()
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
        """Return the prompt for an agent that resumes the session of its earlier attempt."""
        return self._ask("resume", merge=self.merge)

    def _ask(self, name: str, **values: object) -> str:
        ticket, workspace = self.ticket, self.workspace
        known = {"branch": ticket.branch, "master": workspace.master, "gate": workspace.config.gate}
        return prompt(name, ticket=ticket.name, text=ticket.text, **known, **values)

    def submit(self, summary: str) -> str:
        """Commit the agent's work, enqueue the ticket, and return the reply to the agent.

        Called from the submit server's thread while the agent runs. Raises, for the agent to read, if the work cannot
        be accepted.
        """
        try:
            return self._submit(summary)
        except (ScriptoriumError, OSError) as error:
            self.refusal = as_user_error(error).message
            if isinstance(error, OSError) or (isinstance(error, GitError) and error.system):
                self.environment_error = as_user_error(error).message
            raise

    def _submit(self, summary: str) -> str:
        if self.submitted:
            return f"ticket {self.ticket.name} is submitted already; there is nothing left to do"
        summary = self.workspace.secrets.redact(" ".join(summary.split()))[:2000] or self.ticket.title
        try:
            message = f"{self.ticket.title}\n\n{summary}"
            head = self.worktree.commit_leftovers(message, resolved=True)
        except GitError as error:
            if error.system:
                raise
            hint = error.hint or f"check out '{self.ticket.branch}' in '{self.worktree.path}'"
            raise ScriptoriumError(error.message, hint) from error
        check_submission(self.workspace, self.ticket, head)

        def decide(plan: Plan) -> PlanChange:
            ticket = plan.ticket(_in_progress(plan, self.ticket.name), State.IN_PROGRESS)
            return transitions.enqueue(plan, ticket, str(self.worktree.path), summary, head)

        self.workspace.plan.transact(decide)
        self.submitted = head
        log.info("coding agent called submit_pr, summary=%s", summary)
        return f"ticket {self.ticket.name} is queued to be merged; there is nothing left to do"

    def _conclude(self, outcome: Outcome, task: Task) -> AttemptOutcome:
        if self.submitted:
            self._hold_to_submitted()
            return AttemptOutcome.SUBMITTED  # the merge lane discards later uncommitted changes
        # the agent may have been terminated in the middle of a commit
        self.worktree.repair()
        kept = self._commit_leftovers(
            f"Leave attempt {self.ticket.attempts + 1} of ticket {self.ticket.name} as it stands"
        )
        cause, reason = failure_of(outcome, task)
        if self.environment_error:
            cause, reason = Cause.INFRASTRUCTURE, f"The work could not be submitted: {self.environment_error}"
        elif self.refusal and cause is Cause.NO_SUBMIT:
            reason = f"{reason}; its submission was refused: {self.refusal}"
        reason = f"{reason}; its work is kept as '{kept}'" if kept else reason
        errors = tail(outcome.log.with_suffix(".stderr"), *self.workspace.config.environments)
        said = self.workspace.secrets.redact(outcome.report.message)[-1500:]
        # an agent's last message explains why it did not submit; a failed program explains itself on stderr
        words = (said or errors) if cause is Cause.NO_SUBMIT else (errors or said)
        self._record(Failure(cause, reason, words, outcome.trailers()))
        return AttemptOutcome.UNTRIED if cause in UNCOUNTED else AttemptOutcome.FAILED

    def _hold_to_submitted(self) -> None:
        """Reset the branch to the submitted commit; a rescue ref keeps later commits, which nobody has looked at."""
        tip = self.worktree.tip
        if tip and tip != self.submitted:
            why = f"ticket '{self.ticket.name}' got commits after it was submitted"
            self.worktree.reset_to(self.submitted, why)

    def _commit_leftovers(self, message: str) -> str:
        """Commit the leftovers in the worktree; where that fails, return where they are kept, or ''."""
        try:
            self.worktree.commit_leftovers(message)
        except UnresolvedConflict:
            return self.worktree.rescue_and_reset(f"ticket '{self.ticket.name}' left a merge with conflicts")
        except GitError as error:
            log.warning("ticket '%s': %s", self.ticket.name, error.message)
            with suppress(ScriptoriumError):  # the next attempt repeats it, and reports the error
                return self.worktree.restore()
        return ""

    def _stopped(self) -> None:
        if self.submitted:
            self._hold_to_submitted()
        else:
            self._record(Failure(Cause.STOPPED, "The run was stopped from outside"))

    def _record(self, failure: Failure) -> None:
        workspace = self.workspace
        record_failure(workspace.plan, self.ticket.name, failure, workspace.config.max_attempts, workspace.secrets)
        if failure.cause is Cause.STOPPED:
            log.info("ticket '%s' was stopped and is open again; the attempt does not count", self.ticket.name)
        else:
            log.info("ticket '%s': attempt failed: %s", self.ticket.name, failure.reason)
