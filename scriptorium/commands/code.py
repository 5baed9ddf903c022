"""scriptorium code: the coding agent works on tickets in progress."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from scriptorium import agent, config, leaks, locks, mending, notices, process, rescue, transitions, worktrees
from scriptorium.backends import Resting
from scriptorium.causes import UNCOUNTED, Cause
from scriptorium.cli import Command
from scriptorium.commands.assign import unreadable
from scriptorium.endpoint import Endpoint
from scriptorium.errors import ExitCode, ScriptoriumError, Stopped, told
from scriptorium.git import GitError
from scriptorium.harness import Outcome, Task
from scriptorium.output import tail
from scriptorium.plan import Change, Plan
from scriptorium.prompts import prompt
from scriptorium.records import emit, tickets
from scriptorium.redact import Secrets, redact
from scriptorium.ticket import State, last_failure
from scriptorium.working_tree import WorkingTree
from scriptorium.workspace import Workspace

log = logging.getLogger(__name__)


class Code(Command):
    """Run the coding agent on tickets in progress, one after the other.

    TICKET is a name or a number; without any, they are the first fields of the lines on stdin. With
    neither, the command takes the abandoned tickets: those in progress that no process works on, for
    example after a crash. Prints each submitted ticket, one per line. A ticket that was not submitted
    is open again with a note, or stuck after its last attempt, and the exit code is 1.
    """

    USAGE = "    {progname} [options] [TICKET...]\n"

    def main(self, *names: str) -> int:
        workspace = Workspace.open()
        named = tickets(names)
        failed = False
        with process.stoppable():
            for name in named or abandoned(workspace):
                process.check_stop()  # a signal that came as the last agent ended
                try:
                    coded = code(workspace, name)
                except worktrees.WorktreeError as error:
                    log.error("%s", error.message)
                    failed = True
                    continue  # the others need not wait for it
                failed |= coded.result in (Result.FAILED, Result.UNTRIED)
                if coded.result is Result.SUBMITTED:
                    emit(coded.ticket)
        return ExitCode.FAILED if failed else ExitCode.OK


class Result(StrEnum):
    """How a ticket came out of a run of the coding agent."""

    SUBMITTED = "submitted"
    FAILED = "failed"
    UNTRIED = "untried"  # the model could not be reached, so that no attempt is used up
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Coded:
    """A ticket that the coding agent has worked on, or that another process is at."""

    ticket: str
    result: Result


def abandoned(workspace: Workspace) -> list[str]:
    """Return the tickets in progress that wait for nobody, can be read, and have nobody at work."""
    plan = workspace.plan.snapshot()
    queued = {item.ticket for item in plan.queue()}
    broken = {problem.ticket for problem in unreadable(plan, State.IN_PROGRESS)}
    idle = [name for name in plan.tickets(State.IN_PROGRESS) if name not in queued | broken]
    return [name for name in idle if not locks.is_held(workspace.paths.ticket_lock(name))]


def code(workspace: Workspace, wanted: str, endpoint: Endpoint | None = None) -> Coded:
    """Run the coding agent on one ticket and record what came of it.

    ``endpoint`` is the MCP server of a surrounding `scriptorium run`; without it, a harness that
    wants one gets its own. Raises `Stopped` after reopening the ticket when a signal arrives, and
    `Resting`, the ticket left as it is, while the backend rests.
    """
    name = _in_progress(workspace.plan.snapshot(), wanted)
    agent.ready(workspace, "coding")
    lock = workspace.paths.ensure(workspace.paths.ticket_lock(name).parent) / f"{name}.lock"
    try:
        with locks.hold(lock, name), process.stoppable():
            _in_progress(workspace.plan.snapshot(), name)
            return Coded(name, _Coding(workspace, name).work(endpoint))
    except ScriptoriumError as error:
        if error.code is not ExitCode.LOCKED or isinstance(error, Resting):
            raise
        log.warning("%s", error.message)
        return Coded(name, Result.SKIPPED)


def _in_progress(plan: Plan, wanted: str) -> str:
    """Return the name of a ticket that can be worked on, or raise with what it is instead."""
    name, state = plan.require(wanted)
    if state is not State.IN_PROGRESS:
        hint = "run 'scriptorium assign' first" if state is State.OPEN else "see 'scriptorium status --json'"
        raise ScriptoriumError(f"ticket '{name}' is {state}, not in progress", hint)
    if any(item.ticket == name for item in plan.queue()):
        raise ScriptoriumError(f"ticket '{name}' is submitted already", "run 'scriptorium merge'")
    return name


class _Coding:
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

    def work(self, endpoint: Endpoint | None) -> Result:
        workspace = self.workspace
        harness, task = agent.task(workspace, "coding", "", self.worktree, self.ticket.name)
        if any(task.logs.iterdir()):
            process.end_leftovers(f"SCRIPTORIUM_WORKTREE={self.worktree}")
        mending.mend(workspace, self.ticket.name)
        if last_failure(self.ticket.text) == Cause.CONFLICT:
            self._begin_merge()
        own = {"SCRIPTORIUM_TICKET": self.ticket.name, "SCRIPTORIUM_AREA": self.ticket.area}
        task = replace(task, prompt=self._prompt(), env={**task.env, **own})
        task = agent.resume(harness, task, self._continuation())
        log.info("ticket '%s': attempt %d begins", self.ticket.name, self.ticket.attempts + 1)
        tools = {"submit_pr": lambda given: self.submit(str(given.get("summary", "")))}
        with agent.answering(workspace, harness, task, tools, endpoint) as task:
            try:
                outcome = agent.run(workspace, harness, task)
            except Stopped:
                self._stopped()
                raise
            except ScriptoriumError as error:
                if error.code is ExitCode.CONFIG:  # else it is tried again by itself, as when a backend rests
                    self._reopen(Cause.INFRASTRUCTURE, f"The agent could not be set to work: {error.message}", "", {})
                raise
        return self._conclude(outcome, task)

    def _begin_merge(self) -> None:
        """Begin the merge that failed, so that the agent need only resolve it; its sandbox may keep git from it."""
        self._settle(f"Leave ticket {self.ticket.name} as it was found")
        try:
            conflicts = worktrees.begin_merge(self.workspace, self.ticket.name)
        except GitError as error:
            mending.mend(self.workspace, self.ticket.name)
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
            self.refused = told(error).message
            if isinstance(error, OSError) or (isinstance(error, GitError) and error.system):
                self.hindered = told(error).message
            raise

    def _submit(self, summary: str) -> str:
        if self.submitted:
            return f"ticket {self.ticket.name} is handed in already; there is nothing left to do"
        summary = self._redact(" ".join(summary.split()))[:2000] or self.ticket.title
        try:
            message = f"{self.ticket.title}\n\n{summary}"
            head = worktrees.settle(self.workspace, self.ticket.name, message, resolved=True)
        except GitError as error:
            if error.system:
                raise
            hint = error.hint or f"check out '{self.ticket.branch}' in '{self.worktree}'"
            raise ScriptoriumError(error.message, hint) from error
        self._check_work(head)

        def decide(plan: Plan) -> Change:
            ticket = plan.ticket(_in_progress(plan, self.ticket.name), State.IN_PROGRESS)
            return transitions.enqueue(plan, ticket, str(self.worktree), summary, head)

        self.workspace.plan.transact(decide)
        self.submitted = head
        log.info("coding agent called submit_pr, summary=%s", summary)
        return f"ticket {self.ticket.name} is queued to be merged; there is nothing left to do"

    def _check_work(self, head: str) -> None:
        """Raise, for the agent to read, when there is nothing to land or a part of the work would be lost."""
        repository = self.workspace.repository
        master = self.workspace.master_commit()
        same = repository.tree_of(head) == repository.tree_of(master)
        patches = b"" if same else repository.patches(master, head)
        if not patches:
            raise ScriptoriumError("there is no change to hand in", "make the change first, then hand in again")
        self._check_secrets(patches, master)
        self._check_config(patches, master, head)
        links = repository.changed_links(master, head) if b"160000" in patches else {}
        embedded = repository.embedded(head, links)
        if embedded:
            what = f"'{embedded[0]}' is a git repository of its own, and its files would be lost"
            raise ScriptoriumError(what, "'git rm --cached' it and remove its '.git', or make it a submodule")
        unpushed = WorkingTree(repository, self.worktree).unpushed(links)
        if unpushed:
            what = f"submodule '{unpushed[0]}' has commits that are nowhere else, and would be lost"
            raise ScriptoriumError(what, "push them, or change no submodule, then hand in again")

    def _check_secrets(self, patches: bytes, master: str) -> None:
        """Raise, with the commits taken back, when one of them adds a credential, as history would keep it for good."""
        repository = self.workspace.repository
        for leak in leaks.find(patches, Secrets(*self.workspace.config.environments)):
            if not repository.holds(master, leak.text):  # what is public already is no news
                log.warning("ticket '%s': not handed in: %s", self.ticket.name, leak)
                WorkingTree(repository, self.worktree).take_back(master)
                hint = "take it out and hand in again; the commits are taken back, their changes lie in the worktree"
                raise ScriptoriumError(str(leak), hint)

    def _check_config(self, patches: bytes, master: str, head: str) -> None:
        """Raise when a commit changes the configuration, or a program of the repository that it names.

        They run outside of any sandbox.
        """
        paths = (config.FILE, *self.workspace.config.programs_in(self.workspace.repository.root))
        # by any case of its letters, as not every file system tells them apart
        header = rb"^diff --(?:git a/|cc )(%b)(?: b/|$)" % b"|".join(re.escape(os.fsencode(path)) for path in paths)
        resolve = self.workspace.repository.resolve
        for name in {os.fsdecode(name) for name in re.findall(header, patches, re.MULTILINE | re.IGNORECASE)}:
            if resolve(f"{head}:{name}") != resolve(f"{master}:{name}"):
                hint = "take the change out, say in the summary what it should be, then hand in again"
                raise ScriptoriumError(f"'{name}' says what runs outside of the sandbox, and is a person's", hint)

    def _conclude(self, outcome: Outcome, task: Task) -> Result:
        if self.submitted:
            self._hold_to_submitted()
            return Result.SUBMITTED  # what it has left uncommitted since is settled by the merge lane
        # the agent may have been ended in the middle of a commit
        mending.mend(self.workspace, self.ticket.name)
        kept = self._settle(f"Leave attempt {self.ticket.attempts + 1} of ticket {self.ticket.name} as it stands")
        cause, reason = agent.failure(outcome, task)
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
        return Result.UNTRIED if cause in UNCOUNTED else Result.FAILED

    def _hold_to_submitted(self) -> None:
        """Take the branch back to what was handed in: commits made since were not looked at, and are kept aside."""
        tip = self.workspace.repository.resolve(f"refs/heads/{self.ticket.branch}")
        if tip and tip != self.submitted:
            why = f"ticket '{self.ticket.name}' got commits after it was handed in"
            worktrees.take_back(self.workspace, self.ticket.name, why, self.submitted)

    def _settle(self, message: str) -> str:
        """Commit what lies in the worktree; return where it is kept, or '', when that cannot be done."""
        try:
            worktrees.settle(self.workspace, self.ticket.name, message)
        except worktrees.Unresolved:
            why = f"ticket '{self.ticket.name}' left a merge with conflicts"
            return rescue.put_aside(self.workspace, self.ticket.name, why)
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

        def decide(plan: Plan) -> Change | None:
            if self.ticket.name not in plan.tickets(State.IN_PROGRESS):
                return None  # somebody moved it by hand, and theirs counts
            ticket = plan.ticket(self.ticket.name, State.IN_PROGRESS)
            return transitions.reopen(plan, ticket, cause, self._redact(reason), words, most, facts)

        after = self.workspace.plan.transact(decide)
        if cause is Cause.STOPPED:
            log.info("ticket '%s' was stopped and is open again; the attempt does not count", self.ticket.name)
        else:
            log.info("ticket '%s': attempt failed: %s", self.ticket.name, reason)
        notices.tell_if_stuck(log, after, self.ticket.name)

    def _redact(self, text: str) -> str:
        return redact(text, *self.workspace.config.environments)


main = Code.launch
