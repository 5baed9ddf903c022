"""The driver: chains the steps, and decides when to look again."""

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
from scriptorium.planning.architect import areas_are_stale as architect_due
from scriptorium.planning.architect import update_areas
from scriptorium.planning.manager import areas_due as manager_due
from scriptorium.planning.manager import write_tickets
from scriptorium.project.config_reader import FILE, ConfigError
from scriptorium.project.workspace import Workspace
from scriptorium.scheduler import housekeeping, watch
from scriptorium.scheduler.backoff import Backoff
from scriptorium.system import signals
from scriptorium.worktrees.tickets import WorktreeError

log = logging.getLogger(__name__)

IDLE_SLEEP = (1.0, 60.0)
"""Seconds of the shortest and the longest rest when nothing moves."""


MAX_IDLE_WAIT = 120.0
"""Seconds of a pause that `--until-idle` does not wait for."""

HOUSEKEEPING_INTERVAL = 3600.0
"""Seconds between two rounds of housekeeping."""

MAX_FAILURES = 3
"""How often `--until-idle` lets a step fail in a row before it takes it for unable to move."""


class DriverState(StrEnum):
    """What keeps the whole from moving."""

    IDLE = "idle"
    WAITING = "waiting for a spec"
    RED = "master is red"
    BLOCKED = "a landing waits"
    FAILING = "a step fails"


@dataclass
class Driver:
    """Passes over all steps until nothing moves, then rests until something has changed."""

    workspace: Workspace
    endpoint: Endpoint
    standing: DriverState = DriverState.IDLE
    _told: dict[str, str] = field(default_factory=dict)
    _pauses: defaultdict[str, Backoff] = field(default_factory=lambda: defaultdict(Backoff))
    """By step; ``attempt`` is for attempts that failed, which end when the ticket is stuck."""
    _postponed: Counter[str] = field(default_factory=Counter)
    """How often the worktree of a ticket could not be made."""
    _tidied: float = -math.inf

    def forever(self) -> None:
        """Pass and rest until a signal stops it."""
        rest = IDLE_SLEEP[0]
        while True:
            seen = watch.signature(self.workspace)
            if self.pass_once():
                rest = IDLE_SLEEP[0]
                continue
            rest = (
                IDLE_SLEEP[0]
                if watch.wait(self.workspace, seen, self._until_next(rest))
                else min(rest * 2, IDLE_SLEEP[1])
            )

    def until_idle(self) -> ExitCode:
        """Pass until nothing can move, and return what that means as an exit code."""
        while True:
            seen, began = watch.signature(self.workspace), time.monotonic()
            if self.pass_once():
                continue
            # one that ended during the pass has held a step up as well
            pauses = {name: pause for name, pause in self._pauses.items() if pause.until > began}
            hopeless = any(pause.failures >= MAX_FAILURES for name, pause in pauses.items() if name != "attempt")
            hopeless |= all(pause.until > began + MAX_IDLE_WAIT for pause in pauses.values())
            if not pauses or hopeless or self.standing is DriverState.RED:
                return self.verdict()
            watch.wait(self.workspace, seen, self._until_next(IDLE_SLEEP[0]))

    def verdict(self) -> ExitCode:
        """Return the exit code for the state in which everything now stands."""
        if self.standing is DriverState.RED:
            return ExitCode.REFUSED
        plan = self.workspace.plan.snapshot()
        stuck = plan.tickets(State.STUCK)
        self._tell("stuck", f"stuck, and in need of a person: {', '.join(stuck)}" if stuck else "", logging.WARNING)
        held_up = self.standing in (DriverState.BLOCKED, DriverState.FAILING)
        return ExitCode.FAILED if self._tell_problems() or held_up or stuck else ExitCode.OK

    # -- one pass -----------------------------------------------------------------------------------

    def pass_once(self) -> bool:
        """Take each step once, in order; tell whether anything moved."""
        signals.raise_if_stopped()
        try:
            moved = self._pass()
        except OSError as error:  # a full disk or the like is no reason to end, and may be over soon
            self._fault("run", error)
            self._pauses["run"].failed()
            return False
        self._pauses["run"].worked()
        self._told.pop("run", None)
        return moved

    def _pass(self) -> bool:
        self._reload()
        self._tidy()
        self.standing = DriverState.IDLE
        if not self._spec():
            return False
        green = self._healthy()
        if green is None:
            return False
        if not green:
            self.standing = DriverState.RED
        moved = self._merge()
        if green:
            moved |= self._plan("architect", update_areas, architect_due(self.workspace.plan.snapshot()))
            moved |= self._plan("manager", write_tickets, bool(manager_due(self.workspace.plan.snapshot())))
        moved |= self._code(repairs_only=not green)
        return self._merge() or moved

    def _tidy(self) -> None:
        if time.monotonic() > self._tidied + HOUSEKEEPING_INTERVAL:
            self._tidied = time.monotonic()
            housekeeping.clean_up(self.workspace)

    def _spec(self) -> bool:
        has = self.workspace.plan.snapshot().has_spec
        if not has:
            self.standing = DriverState.WAITING
        self._tell("spec", "" if has else WAITING)
        return has

    def _healthy(self) -> bool | None:
        try:
            found = master_health(self.workspace)
        except (ScriptoriumError, OSError) as error:
            self._fault("health", error)
            self._pauses["health"].failed(error)
            return None
        self._pauses["health"].worked()
        gate = self.workspace.config.gate
        reason = found.reason or f"'{gate}' fails"
        red = f"master is red at {found.commit[:12]}: everything halts until it is green ({reason})"
        known = self._told.get("health", "")
        if found.green:
            if known:
                log.info("master is green again at %s", found.commit[:12])
            self._told.pop("health", None)
        elif not known.startswith(f"master is red at {found.commit[:12]}"):
            self._tell("health", red, logging.WARNING)
        return found.green

    def _plan(self, name: str, step: Callable[[Workspace, Endpoint], list[str]], due: bool) -> bool:
        if not due:
            return False
        plan = self.workspace.plan.snapshot()
        pause = self._pauses[name]
        if pause.holds(f"{plan.blob('spec.md')} {plan.areas}"):
            self.standing = DriverState.FAILING
            return False
        try:
            step(self.workspace, self.endpoint)
        except OnCooldown as error:
            self._rest(name, error)
            return False
        except (ScriptoriumError, OSError) as error:
            self._fault(name, error)
            pause.failed(error)
            return False
        pause.worked()
        self._told.pop(name, None)
        return True

    def _code(self, *, repairs_only: bool) -> bool:
        faults, attempts = self._pauses["code"], self._pauses["attempt"]
        if faults.holds("") or attempts.holds(""):
            self.standing = DriverState.FAILING
            return False
        try:
            check_can_start(self.workspace, "coding")  # before a ticket is assigned for nothing
            name = self._next_ticket(repairs_only=repairs_only)
            if not name:
                self._tell_problems()
                return False
            coded = run_attempt(self.workspace, name, self.endpoint)
        except OnCooldown as error:
            self._rest("code", error)
            return False
        except WorktreeError as error:
            self._postponed[error.ticket] += 1
            self._fault(f"ticket '{error.ticket}'", error)
            faults.failed(error)
            return False
        except (ScriptoriumError, OSError) as error:
            self._fault("code", error)
            faults.failed(error)
            return False
        self._told.pop("code", None)
        match coded.result:
            case AttemptOutcome.UNTRIED:
                faults.failed()
            case AttemptOutcome.FAILED:
                faults.worked()
                attempts.failed()
            case AttemptOutcome.SUBMITTED | AttemptOutcome.SKIPPED:
                faults.worked()
                attempts.worked()
        return coded.result is not AttemptOutcome.SKIPPED

    def _next_ticket(self, *, repairs_only: bool) -> str:
        """Return the ticket to work on now, or ''; one whose worktree could not be made comes after all others."""
        left = [] if repairs_only else idle_tickets(self.workspace)
        fresh = [name for name in left if name not in self._postponed]
        if fresh:
            return fresh[0]
        assigned = assign_next(self.workspace, repairs_only=repairs_only)
        if assigned:
            return assigned[0]
        return min(left, key=lambda name: self._postponed[name], default="")

    def _rest(self, step: str, error: OnCooldown) -> None:
        """Leave a step alone as long as its backend rests, and say so once a rest."""
        self.standing = DriverState.FAILING
        self._tell("backend", error.message, logging.WARNING, error.hint)
        self._pauses[step].rest(error.cooldown.seconds, error.cooldown.failures)

    def _merge(self) -> bool:
        pause = self._pauses["merge"]
        if pause.holds(str(watch.file_stamp(self.workspace.repository.common_dir / "index"))):
            self.standing = DriverState.BLOCKED
            return False
        try:
            merged = process_next(self.workspace)
        except (ScriptoriumError, OSError) as error:
            if isinstance(error, OSError) or error.code is not ExitCode.REFUSED:  # master is red: told already
                self._fault("merge", error)
                pause.failed(error)
            return False
        if merged is None:
            return False
        if merged.outcome is ItemOutcome.WAITING:
            self._tell("merge", f"ticket '{merged.ticket}' waits: {merged.blocked_by}", logging.WARNING, merged.hint)
            pause.failed()
            self.standing = DriverState.BLOCKED
            return False
        pause.worked()
        self._told.pop("merge", None)
        return True

    def _tell_problems(self) -> bool:
        """Tell what keeps tickets from ever moving, and return whether anything does."""
        problems = _problems(self.workspace.plan.snapshot())
        self._tell("open", "; ".join(problem.message for problem in problems), logging.WARNING)
        return bool(problems)

    # -- talking --------------------------------------------------------------------------------------

    def _tell(self, subject: str, text: str, level: int = logging.INFO, hint: str = "") -> None:
        """Log a standing fact once, until it changes; another hint alone is no change."""
        if text and self._told.get(subject) != text:
            log.log(level, "%s", f"{text}; hint: {hint}" if hint else text)
        self._told[subject] = text

    def _fault(self, subject: str, failure: ScriptoriumError | OSError) -> None:
        self.standing, error = DriverState.FAILING, as_user_error(failure)
        if error.code is ExitCode.LOCKED:
            log.debug("%s: %s", subject, error.message)
            return
        text = error.message if error.message.startswith(subject) else f"{subject}: {error.message}"
        self._tell(subject, text, logging.ERROR, error.hint)

    # -- waiting --------------------------------------------------------------------------------------

    def _until_next(self, rest: float) -> float:
        """Return the seconds to rest, no longer than a pause that is running."""
        now = time.monotonic()
        ends = [pause.until - now for pause in self._pauses.values() if pause.until > now]
        return min([rest, *ends])

    def _reload(self) -> None:
        """Read an edited configuration; one that is wrong is told, and the last right one stands."""
        stamp = str(watch.file_stamp(self.workspace.repository.root / FILE))
        if self._told.get("stamp") in (None, stamp):
            self._told["stamp"] = stamp
            return
        self._told["stamp"] = stamp
        try:
            self.workspace.reload()
        except ConfigError as error:
            log.error("%s; going on with what it said before", error.message)
            return
        self._pauses.clear()  # it may be what mends a step that fails
        log.info("'%s' has changed and is in force", FILE)


def _problems(plan: Plan) -> list[TicketError]:
    """Return what keeps tickets from ever moving until a person mends them. Pure."""
    return [*open_problems(plan), *unreadable_tickets(plan, State.IN_PROGRESS)]
