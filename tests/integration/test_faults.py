"""Failing models and agents, with each real agent program: the report, the fate of the ticket, and nothing else.

Faults of the provider use no attempt and leave the ticket unchanged; faults of the agent use one and leave a note.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from scriptorium.plan.cause import UNCOUNTED, Cause
from tests.integration.conftest import Backend, Claude, every
from tests.integration.test_flow import steps, submit
from tests.scripted_model import (
    ContextOverflow,
    Cut,
    EndsEarly,
    ErrorEvent,
    Fault,
    Item,
    Malformed,
    NoAnswer,
    Overloaded,
    Reply,
    Request,
    Shell,
    Stall,
    Text,
    Tool,
    Write,
)
from tests.support import CHECKOUT, PLAN, Project, Result, until

TICKET = "0001-greet"
OPEN = f"tickets/open/{TICKET}.md"
BRANCH = "scriptorium/ticket-0001"
WORK = Shell("echo 'Hello, world' > greeting.txt")

REFUSED, LIMITED, DOWN = "refused the sign-in or key", "limit is reached", "could not be reached"


class Ticket:
    """A ticket in progress, and the refs that must not move while an agent fails."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.ticket(TICKET)
        assert project.run("assign").code == 0
        self.plan = project.git("rev-parse", PLAN)
        self.text = project.plan_files()[f"tickets/in-progress/{TICKET}.md"]
        self.others = self.surroundings()

    def surroundings(self) -> object:
        """Return all state except the plan, the branch of the ticket and its worktree."""
        refs = self.project.refs()
        files = {
            str(path.relative_to(self.project.root)): path.read_bytes()
            for path in self.project.root.rglob("*")
            if path.is_file() and ".git" not in path.relative_to(self.project.root).parts
        }
        config = (self.project.root / ".git" / "config").read_bytes()
        kept = {name: commit for name, commit in refs.items() if not name.endswith((BRANCH, PLAN))}
        return kept, self.project.git("status", "--porcelain"), self.project.git("rev-parse", "HEAD"), config, files

    def failed(self, coded: Result, cause: Cause, *words: str) -> str:
        """Assert that exactly one commit has reopened the ticket for a cause; return its text."""
        assert (coded.code, coded.out) == (1, ""), coded.err
        [line] = [line for line in coded.err.splitlines() if f"ticket '{TICKET}': attempt failed: " in line]
        assert not [word for word in words if word not in line], line
        assert self.surroundings() == self.others
        [commit] = self.project.git("rev-list", f"{self.plan}..{PLAN}").splitlines()
        said = self.project.git("log", "-1", "--format=%B", commit)
        assert said.startswith(f"scriptorium: reopen ticket {TICKET}\n")
        assert f"Cause: {cause}\n" in said
        moved = self.project.git("diff", "--name-status", "--no-renames", self.plan, commit).splitlines()
        assert moved == [f"D\ttickets/in-progress/{TICKET}.md", f"A\t{OPEN}"]
        text = self.project.plan_files()[OPEN]
        if cause in UNCOUNTED:
            assert text == self.text
        else:
            assert "attempts: 1\n" in text
            assert f"Attempt 1 failed: {cause}" in text
        return text


@pytest.fixture
def ticket(backend: Backend) -> Ticket:
    return Ticket(backend.project)


def fault(what: str, reply: Reply, cause: Cause, codex: str, claude: str) -> object:
    """Return a case: a behaviour, the reply that leads to it, and the outcome for each program."""
    words = {"codex": codex, "claude-code": claude}
    return pytest.param(reply, cause, words, id=repr(reply), marks=pytest.mark.behaviour(what))


@pytest.mark.parametrize(
    ("reply", "cause", "words"),
    [
        fault("401", Fault(401), Cause.AUTH, "401 Unauthorized", "Invalid API key"),
        fault("403", Fault(403), Cause.AUTH, "403 Forbidden", "API Error: 403"),
        fault("429", Fault(429), Cause.RATE_LIMIT, "429 Too Many Requests", "rejected (429)"),
        fault(
            "429 with a Retry-After of an hour",
            Fault(429, {"Retry-After": "3600"}),
            Cause.RATE_LIMIT,
            "429 Too Many Requests",
            "rejected (429)",
        ),
        fault("500", Fault(500), Cause.PROVIDER, "high demand", "API Error: 500"),
        fault("HTML page of a proxy", Fault(502, body="<html>"), Cause.PROVIDER, "", "API Error: 502"),
        fault("overloaded", Overloaded(), Cause.PROVIDER, "at capacity", "529 Overloaded"),
        fault("connection lost mid-stream", Cut(), Cause.PROVIDER, "stream disconnected", "ECONNRESET"),
        fault("stream that ends early", EndsEarly(), Cause.PROVIDER, "stream disconnected", "API Error: "),
        fault("malformed events", Malformed(), Cause.PROVIDER, "stream disconnected", "API Error: "),
        fault("error in a 200 response", ErrorEvent(), Cause.PROVIDER, "", "API Error: 500"),
        fault("context overflow", ContextOverflow(), Cause.AGENT, "ran out of room", "Prompt is too long"),
    ],
)
def test_a_fault_of_the_model_is_reported_with_its_cause(
    backend: Backend, ticket: Ticket, reply: Reply, cause: Cause, words: dict[str, str]
) -> None:
    with backend.answering(lambda _: reply) as requests:
        coded = backend.project.run("code", TICKET)
    assert requests
    ticket.failed(coded, cause, words[backend.name])


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(NoAnswer(), id="NoAnswer", marks=pytest.mark.behaviour("no answer at all")),
        pytest.param(Stall(), id="Stall", marks=pytest.mark.behaviour("stall mid-stream")),
    ],
)
def test_a_model_that_says_no_more_is_given_up_and_uses_up_no_attempt(backend: Backend, reply: Reply) -> None:
    backend.project.configure(timeouts={"no_output": 15})
    ticket = Ticket(backend.project)
    with backend.answering(lambda _: reply) as requests:
        coded = backend.project.run("code", TICKET)
    assert requests
    ticket.failed(coded, Cause.PROVIDER)


@pytest.mark.behaviour("connection refused")
def test_a_model_that_nobody_serves_uses_up_no_attempt(backend: Backend, ticket: Ticket) -> None:
    with backend.refused():
        coded = backend.project.run("code", TICKET)
    ticket.failed(coded, Cause.PROVIDER)


@pytest.mark.behaviour("failure in the middle of the work")
@pytest.mark.parametrize("reply", [Fault(500), Fault(429), Cut(), Malformed()], ids=repr)
def test_a_model_that_fails_amid_the_work_costs_no_attempt_and_no_work(
    backend: Backend, ticket: Ticket, reply: Reply
) -> None:
    with backend.answering(lambda asked: reply if asked.turn else WORK):
        coded = backend.project.run("code", TICKET)
    ticket.failed(coded, Cause.RATE_LIMIT if reply == Fault(429) else Cause.PROVIDER)
    assert backend.project.git("show", f"{BRANCH}:greeting.txt") == "Hello, world"


@pytest.mark.behaviour("no answer in the middle of the work")
def test_a_model_that_stops_answering_amid_the_work_is_given_up(backend: Backend) -> None:
    backend.project.configure(timeouts={"no_output": 20})
    ticket = Ticket(backend.project)
    with backend.answering(lambda asked: NoAnswer() if asked.turn else WORK):
        coded = backend.project.run("code", TICKET)
    # codex waits forever in silence, as for a model that thinks; claude waits half as long by configuration
    cause, words = (Cause.PROVIDER, "timed out") if isinstance(backend, Claude) else (Cause.SILENCE, "20 seconds")
    ticket.failed(coded, cause, words)
    assert backend.project.git("show", f"{BRANCH}:greeting.txt") == "Hello, world"


@pytest.mark.behaviour("a rejecting backend cools down")
def test_a_usage_limit_cools_the_backend_down_for_the_next_ticket_too(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    with backend.answering(lambda _: Fault(429)) as requests:
        ticket.failed(project.run("code", TICKET), Cause.RATE_LIMIT, LIMITED)
        asked = len(requests)
        project.ticket("0002-other")
        project.run("assign")
        project.run("assign")
        before = project.git("rev-parse", PLAN)
        next_one = project.run("code", "0002-other")
    assert (next_one.code, next_one.out) == (75, "")
    assert f"backend '{backend.name}' cools down until " in next_one.err
    assert (len(requests), project.git("rev-parse", PLAN)) == (asked, before)


def test_a_failure_that_passes_is_ridden_out_by_claude_itself(claude: Claude) -> None:
    ticket = Ticket(claude.project)
    seen: list[Request] = []

    def shaky(asked: Request) -> Reply:
        seen.append(asked)
        return Fault(529) if len(seen) % 2 else steps(asked, WORK, submit("It greets"), Text("Done."))

    with claude.answering(shaky):
        claude.monkeypatch.delenv("CLAUDE_CODE_MAX_RETRIES")  # as a user configures it
        coded = claude.project.run("code", TICKET)
    assert (coded.code, coded.out, len(seen)) == (0, f"{TICKET}\n", 6), coded.err
    assert ticket.surroundings() == ticket.others


# -- agents ---------------------------------------------------------------------------------------------


@every
@pytest.mark.behaviour("never submits")
def test_an_agent_that_never_submits_costs_an_attempt_but_no_work(backend: Backend, ticket: Ticket) -> None:
    with backend.answering(lambda asked: steps(asked, WORK, Text("That will do."))):
        coded = backend.project.run("code", TICKET)
    ticket.failed(coded, Cause.NO_SUBMIT, "The agent ended without submitting")
    assert backend.project.git("show", f"{BRANCH}:greeting.txt") == "Hello, world"


@every
@pytest.mark.behaviour("submits an empty diff")
def test_a_submit_without_a_change_is_refused_to_the_agent_itself(backend: Backend, ticket: Ticket) -> None:
    with backend.answering(lambda asked: steps(asked, submit("Nothing"), Text("Oh."))) as requests:
        coded = backend.project.run("code", TICKET)
    [answer] = requests[-1].tool_outputs.values()
    assert "there is no change to submit" in answer
    ticket.failed(coded, Cause.NO_SUBMIT)


@every
@pytest.mark.behaviour("submits twice")
def test_a_second_submit_changes_nothing_and_says_so(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    said: list[Item] = [WORK, submit("It greets"), submit("It greets again"), Text("Done.")]
    with backend.answering(lambda asked: steps(asked, *said)) as requests:
        coded = project.run("code", TICKET)
    assert (coded.code, coded.out) == (0, f"{TICKET}\n"), coded.err
    first, second = list(requests[-1].tool_outputs.values())[1:]
    assert f"ticket {TICKET} is queued to be merged" in first
    assert f"ticket {TICKET} is submitted already" in second
    assert len(project.git("rev-list", f"{ticket.plan}..{PLAN}").splitlines()) == 1
    assert ticket.surroundings() == ticket.others
    assert project.run("merge").out == f"{TICKET}\tlanded\n"


@every
@pytest.mark.behaviour("submits for another ticket")
def test_a_submit_that_names_another_ticket_counts_for_its_own_run_only(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    project.ticket("0002-other")
    project.run("assign")
    foreign = Tool("mcp__scriptorium", "submit_pr", {"summary": "Ticket 0002-other is done", "ticket": "0002-other"})
    with backend.answering(lambda asked: steps(asked, WORK, foreign, Text("Done."))):
        coded = project.run("code", TICKET)
    assert (coded.code, coded.out) == (0, f"{TICKET}\n"), coded.err
    queue = [name for name in project.plan_files() if name.startswith("queue/merge/pending/0")]
    assert [name.partition("-")[2] for name in queue] == [f"{TICKET}.md"]
    assert "tickets/in-progress/0002-other.md" in project.plan_files()


@every
@pytest.mark.behaviour("a tool call is rejected")
def test_an_unknown_tool_is_refused_to_the_model_and_the_run_goes_on(backend: Backend, ticket: Ticket) -> None:
    said: list[Item] = [Tool("", "launch_rockets", {}), WORK, submit("It greets"), Text("Done.")]
    with backend.answering(lambda asked: steps(asked, *said)) as requests:
        coded = backend.project.run("code", TICKET)
    assert (coded.code, coded.out) == (0, f"{TICKET}\n"), coded.err
    assert "launch_rockets" in next(iter(requests[-1].tool_outputs.values()))
    assert ticket.surroundings() == ticket.others


def test_a_file_outside_the_worktree_is_refused_by_claude_and_logged(claude: Claude, tmp_path: Path) -> None:
    ticket, stray = Ticket(claude.project), tmp_path / "stray"
    with claude.answering(lambda asked: steps(asked, Write(str(stray), "x"), Text("No?"))):
        coded = claude.project.run("code", TICKET)
    assert not stray.exists()
    ticket.failed(coded, Cause.NO_SUBMIT, f"Write {stray}")


@pytest.mark.behaviour("falls silent while a command runs")
def test_an_agent_that_falls_silent_is_ended_with_all_its_commands(backend: Backend, tmp_path: Path) -> None:
    backend.project.configure(timeouts={"no_output": 15})
    ticket = Ticket(backend.project)
    mark = f"{tmp_path}/sleeper"
    sleep = f"python3 -c 'import time; time.sleep(600)' {mark}"
    # codex reports a slow command to the model, and leaves it running
    with (
        backend.answering(lambda asked: NoAnswer() if asked.turn else Shell(f"setsid {sleep} & {sleep}")),
        backend.project.running("code", TICKET) as coding,
    ):
        until(lambda: len(started(mark)) >= 2 or coding.process.poll() is not None)
        coded = coding.end(0)
    ticket.failed(coded, Cause.SILENCE, "ended after 15 seconds without output")
    assert started(mark) == []


def started(mark: str) -> list[str]:
    """Return the processes with a mark in their command line, without zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            found += [path.parent.name] if mark in path.read_text(errors="replace") else []
    return found


@pytest.mark.behaviour("MCP server missing")
def test_an_agent_without_the_submit_tool_uses_up_no_attempt(
    backend: Backend, ticket: Ticket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken" / "mcp").mkdir(parents=True)
    (tmp_path / "broken" / "mcp" / "__init__.py").write_text("raise ImportError('broken on purpose')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}:{CHECKOUT}")
    monkeypatch.setenv("MCP_TIMEOUT", "3000")  # the limit of claude; codex waits half a minute
    with backend.answering(lambda asked: steps(asked, WORK, submit("It greets"), Text("Done."))):
        coded = backend.project.run("code", TICKET)
    ticket.failed(coded, Cause.INFRASTRUCTURE, "could not start its work", "MCP server", "scriptorium")
