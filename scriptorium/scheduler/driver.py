"""The driver: takes the steps in order, pass after pass, and sleeps while nothing moves."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from scriptorium.agents.cooldown import OnCooldown
from scriptorium.agents.run import check_can_start
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.coding.assign import assign_next
from scriptorium.coding.attempt import AttemptOutcome, idle_tickets, run_attempt
from scriptorium.errors import ExitCode, ScriptoriumError, as_user_error
from scriptorium.gate.health import master_health
from scriptorium.merge_queue.lane import ItemOutcome
from scriptorium.merge_queue.queue import process_next
from scriptorium.plan.readiness import open_problems, unreadable_tickets
from scriptorium.plan.snapshot import WAITING, Plan
from scriptorium.plan.ticket import State, TicketError
from scriptorium.planning.architect import areas_are_stale, update_areas
from scriptorium.planning.manager import areas_due, write_tickets
from scriptorium.project.config_reader import FILE, ConfigError
from scriptorium.project.workspace import Workspace
from scriptorium.scheduler import housekeeping, watch
from scriptorium.scheduler.backoff import Backoff
from scriptorium.scheduler.log_once import LogOnce
from scriptorium.system import signals
from scriptorium.worktrees.tickets import WorktreeError

log = logging.getLogger(__name__)

IDLE_SLEEP = (1.0, 60.0)
"""Seconds of the shortest and the longest sleep while nothing moves."""

MAX_IDLE_WAIT = 120.0
"""Seconds; `--until-idle` does not wait for a longer delay."""

HOUSEKEEPING_INTERVAL = 3600.0
"""Seconds between two rounds of housekeeping."""

MAX_FAILURES = 3
"""Failures of a step in a row after which `--until-idle` gives up on it."""


class DriverState(StrEnum):
    """The reason why nothing moves."""

    IDLE = "idle"
    WAITING = "waiting for a spec"
    RED = "master is red"
    BLOCKED = "a landing waits"
    FAILING = "a step fails"


@dataclass(frozen=True)
class Step:
    """One step of a pass."""

    name: str
    due: Callable[[Driver], bool]
    run: Callable[[Driver], bool]
    """Takes the step and returns whether anything moved. An error starts the backoff of the step."""
    subject: Callable[[Driver], str] = lambda _: ""
    """Returns the input of the step; a new one ends the backoff."""
    held: DriverState = DriverState.FAILING
    """The state of the driver during the backoff."""


@dataclass
class Driver:
    """Takes all steps until nothing moves, then sleeps until something has changed."""

    workspace: Workspace
    endpoint: Endpoint
    state: DriverState = DriverState.IDLE
    is_green: bool = False
    """Whether master is green in this pass."""
    _backoffs: defaultdict[str, Backoff] = field(default_factory=lambda: defaultdict(Backoff))
    """By step; ``attempt`` is for failed attempts, which end when the ticket is stuck."""
    _postponed: Counter[str] = field(default_factory=Counter)
    """How often the worktree of a ticket could not be created."""
    _cleaned_up: float = -math.inf

    def __post_init__(self) -> None:
        self._log = LogOnce(log)
        self._config_file = watch.FileWatcher(self.workspace.repository.root / FILE)

    def forever(self) -> None:
        """Alternate between passes and sleep until a signal arrives."""
        sleep = IDLE_SLEEP[0]
        while True:
            seen = watch.signature(self.workspace)
            if self.pass_once() or watch.wait(self.workspace, seen, self._until_next(sleep)):
                sleep = IDLE_SLEEP[0]
            else:
                sleep = min(sleep * 2, IDLE_SLEEP[1])

    def until_idle(self) -> ExitCode:
        """Take passes until nothing can move, and return the exit code for that state."""
        while True:
            seen, began = watch.signature(self.workspace), time.monotonic()
            if self.pass_once():
                continue
            # a delay that ended during the pass may have held a step up, too
            delays = {name: backoff for name, backoff in self._backoffs.items() if backoff.until > began}
            hopeless = any(delay.failures >= MAX_FAILURES for name, delay in delays.items() if name != "attempt")
            hopeless |= all(delay.until > began + MAX_IDLE_WAIT for delay in delays.values())
            if not delays or hopeless or self.state is DriverState.RED:
                return self.verdict()
            watch.wait(self.workspace, seen, self._until_next(IDLE_SLEEP[0]))

    def verdict(self) -> ExitCode:
        """Return the exit code for the present state."""
        if self.state is DriverState.RED:
            return ExitCode.REFUSED
        stuck = self.workspace.plan.snapshot().tickets(State.STUCK)
        if stuck:
            self._log.log("stuck", f"stuck, and in need of a person: {', '.join(stuck)}", logging.WARNING)
        else:
            self._log.forget("stuck")
        held_up = self.state in (DriverState.BLOCKED, DriverState.FAILING)
        return ExitCode.FAILED if self._log_problems() or held_up or stuck else ExitCode.OK

    def _until_next(self, sleep: float) -> float:
        """Return the seconds to sleep, at most until the next delay ends."""
        now = time.monotonic()
        ends = [backoff.until - now for backoff in self._backoffs.values() if backoff.until > now]
        return min([sleep, *ends])

    # -- one pass -----------------------------------------------------------------------------------

    def pass_once(self) -> bool:
        """Take each step once, in order, and return whether anything moved."""
        signals.raise_if_stopped()
        try:
            moved = self._pass()
        except OSError as error:  # such as a full disk, which may have room again soon
            self._log_failure("run", error)
            self._backoffs["run"].failed()
            return False
        self._succeeded("run")
        return moved

    def _pass(self) -> bool:
        self._reload()
        if time.monotonic() > self._cleaned_up + HOUSEKEEPING_INTERVAL:
            self._cleaned_up = time.monotonic()
            housekeeping.clean_up(self.workspace)
        self.state = DriverState.IDLE
        if not self._has_spec() or not self._check_master():
            return False
        if not self.is_green:
            self.state = DriverState.RED
        moved = [self._take(step) for step in STEPS]
        return any(moved)

    def _reload(self) -> None:
        """Load an edited configuration; an invalid one is logged, and the last valid one stays in force."""
        if not self._config_file.has_changed():
            return
        try:
            self.workspace.reload()
        except ConfigError as error:
            log.error("%s; going on with what it said before", error.message)
            return
        self._backoffs.clear()  # the edit may repair a failing step
        log.info("'%s' has changed and is in force", FILE)

    def _has_spec(self) -> bool:
        if self.workspace.plan.snapshot().has_spec:
            self._log.forget("spec")
            return True
        self.state = DriverState.WAITING
        self._log.log("spec", WAITING)
        return False

    def _check_master(self) -> bool:
        """Find out whether master is green, and return whether that was possible."""
        try:
            health = master_health(self.workspace)
        except (ScriptoriumError, OSError) as error:
            self._step_failed("health", error)
            return False
        self._backoffs["health"].reset()
        self.is_green, commit = health.green, health.commit[:12]
        if not health.green:
            reason = health.reason or f"'{self.workspace.config.gate}' fails"
            text = f"master is red at {commit}: everything halts until it is green ({reason})"
            self._log.log("health", text, logging.WARNING, key=commit)
        elif self._log.forget("health"):
            log.info("master is green again at %s", commit)
        return True

    def _take(self, step: Step) -> bool:
        """Take a step if it is due and not in its backoff, and return whether anything moved."""
        if not step.due(self):
            return False
        if self._backoffs[step.name].is_waiting(step.subject(self)):
            self.state = step.held
            return False
        try:
            return step.run(self)
        except OnCooldown as error:
            self.state = DriverState.FAILING
            self._log.log("backend", error.message, logging.WARNING, hint=error.hint)
            self._backoffs[step.name].wait(error.cooldown.seconds, error.cooldown.failures)
        except (ScriptoriumError, OSError) as error:
            self._step_failed(step.name, error)
        return False

    # -- the steps ----------------------------------------------------------------------------------

    def plan(self, name: str, run: Callable[[Workspace, Endpoint], list[str]]) -> bool:
        """Let an agent write a part of the plan."""
        run(self.workspace, self.endpoint)
        self._succeeded(name)
        return True

    def code(self) -> bool:
        """Run one attempt on one ticket."""
        attempts = self._backoffs["attempt"]
        if attempts.is_waiting():
            self.state = DriverState.FAILING
            return False
        check_can_start(self.workspace, "coding")  # before a ticket is assigned
        try:
            name = self._next_ticket()
            if not name:
                self._log_problems()
                return False
            coded = run_attempt(self.workspace, name, self.endpoint)
        except WorktreeError as error:
            self._postponed[error.ticket] += 1
            self._step_failed("code", error, subject=f"ticket '{error.ticket}'")
            return False
        self._log.forget("code")
        if coded.result is AttemptOutcome.UNTRIED:
            self._backoffs["code"].failed()
            return True
        self._backoffs["code"].reset()
        if coded.result is AttemptOutcome.FAILED:
            attempts.failed()
        else:
            attempts.reset()
        return coded.result is not AttemptOutcome.SKIPPED

    def _next_ticket(self) -> str:
        """Return the next ticket to work on, or ''. Tickets whose worktree could not be created come last."""
        idle = idle_tickets(self.workspace) if self.is_green else []
        fresh = [name for name in idle if name not in self._postponed]
        if fresh:
            return fresh[0]
        assigned = assign_next(self.workspace, repairs_only=not self.is_green)
        if assigned:
            return assigned[0]
        return min(idle, key=lambda name: self._postponed[name], default="")

    def merge(self) -> bool:
        """Process the next item of the merge queue."""
        try:
            merged = process_next(self.workspace)
        except ScriptoriumError as error:
            if error.code is ExitCode.REFUSED:  # master is red, which is logged already
                return False
            raise
        if merged is None:
            return False
        if merged.outcome is ItemOutcome.WAITING:
            text = f"ticket '{merged.ticket}' waits: {merged.blocked_by}"
            self._log.log("merge", text, logging.WARNING, hint=merged.hint)
            self._backoffs["merge"].failed()
            self.state = DriverState.BLOCKED
            return False
        self._succeeded("merge")
        return True

    # -- outcomes -----------------------------------------------------------------------------------

    def _succeeded(self, step: str) -> None:
        self._backoffs[step].reset()
        self._log.forget(step)

    def _step_failed(self, step: str, error: ScriptoriumError | OSError, subject: str = "") -> None:
        self._log_failure(subject or step, error)
        self._backoffs[step].failed(error)

    def _log_failure(self, subject: str, failure: ScriptoriumError | OSError) -> None:
        self.state, error = DriverState.FAILING, as_user_error(failure)
        if error.code is ExitCode.LOCKED:
            log.debug("%s: %s", subject, error.message)
            return
        text = error.message if error.message.startswith(subject) else f"{subject}: {error.message}"
        self._log.log(subject, text, logging.ERROR, hint=error.hint)

    def _log_problems(self) -> bool:
        """Log the reasons why tickets can never move without an edit, and return whether there are any."""
        problems = _problems(self.workspace.plan.snapshot())
        if problems:
            self._log.log("open", "; ".join(problem.message for problem in problems), logging.WARNING)
        else:
            self._log.forget("open")
        return bool(problems)


def _problems(plan: Plan) -> list[TicketError]:
    """Return the errors in tickets that keep them from moving until somebody edits them. Pure."""
    return [*open_problems(plan), *unreadable_tickets(plan, State.IN_PROGRESS)]


def _planning_input(driver: Driver) -> str:
    plan = driver.workspace.plan.snapshot()
    return f"{plan.blob('spec.md')} {plan.areas}"


def _index_stamp(driver: Driver) -> str:
    """Return a stamp of the user's index: a commit or stash may clear the way for a landing."""
    return str(watch.file_stamp(driver.workspace.repository.common_dir / "index"))


_MERGE = Step("merge", lambda _: True, Driver.merge, _index_stamp, DriverState.BLOCKED)

STEPS = (
    _MERGE,
    Step(
        "architect",
        lambda driver: driver.is_green and areas_are_stale(driver.workspace.plan.snapshot()),
        lambda driver: driver.plan("architect", update_areas),
        _planning_input,
    ),
    Step(
        "manager",
        lambda driver: driver.is_green and bool(areas_due(driver.workspace.plan.snapshot())),
        lambda driver: driver.plan("manager", write_tickets),
        _planning_input,
    ),
    Step("code", lambda _: True, Driver.code),
    _MERGE,
)
"""The steps of a pass, in order. The queue has a turn before new work and after it."""
