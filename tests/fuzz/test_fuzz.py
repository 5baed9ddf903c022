"""Fuzzing of all outside input: each value gives a result or our error, and nothing is forged, escapes or hangs."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import strategies as st

from scriptorium.agents.failure import failure_of
from scriptorium.agents.harness.acp import Acp
from scriptorium.agents.harness.backends.claude_code import ClaudeCode
from scriptorium.agents.harness.backends.codex import Codex
from scriptorium.agents.harness.backends.typoi import Typoi
from scriptorium.agents.harness.base import Harness, Outcome, Report, Task
from scriptorium.agents.harness.choice import choose
from scriptorium.agents.harness.command import CommandHarness
from scriptorium.agents.harness.runner import sanitize_report
from scriptorium.agents.harness.usage import Usage
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.main import main
from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.change import PlanChange
from scriptorium.plan.front_matter import set_field
from scriptorium.plan.queue_item import format_item, parse_item
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, Ticket, TicketError, last_failure, parse_ticket
from scriptorium.planning import drafts
from scriptorium.project.config import Config, Price, Program, parse
from scriptorium.project.config_reader import ConfigError
from scriptorium.system.limits import Limits
from scriptorium.system.process import EndReason, Finished
from scriptorium.system.text import one_line, printable
from tests import fuzzing
from tests.fuzzing import NASTY, altered, fuzzed, mutated, texts, values
from tests.support import PLAN, Project, quote

STEERING = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")
"""Characters that control a terminal, end a line or cannot be encoded."""


@pytest.fixture(autouse=True, scope="module")
def _published() -> Iterator[None]:
    yield
    fuzzing.publish()


# -- tickets and the queue ------------------------------------------------------------------------------

TICKETS = (
    b"---\narea: core\ndepends: [0001, 0002]\npriority: 3\nattempts: 1\nrepair: false\n---\n# A title\n\nDo it.\n",
    b"---\narea: &a core\ndepends:\n  - 0001  # first\n  - 2\nother: {x: [*a, 1.5, 2001-01-01]}\n---\n# T\n",
    b"# Ticket 1\n\n**Area:** a1\n**Depends:** 0003, 0004\n**Attempts:** 2\n**Worktree:** /tmp/x\n\n## Agent Run\n",
)
QUEUE = b"# Merge Queue Item\n\n**Ticket:** tickets/in-progress/0001-a.md\n**Ticket ID:** 0001\n**Summary:** It works\n"
NAMES = st.one_of(st.sampled_from(("0001-a", "a", "0001")), texts())


def read(data: bytes, name: str = "0001-a") -> Ticket | None:
    """Return a ticket, or None if it cannot be parsed; the error must be one line."""
    try:
        return parse_ticket(name, State.IN_PROGRESS, data)
    except TicketError as error:
        why = error.why
    assert why == one_line(why) != ""
    return None


@fuzzed("tickets", 100, data=mutated(*TICKETS), name=NAMES)
def test_a_ticket_is_read_or_refused_in_words(data: bytes, name: str) -> None:
    ticket = read(data, name)
    if ticket is not None:
        os.fsencode(ticket.path)
        assert "/" not in ticket.name
        assert len(os.fsencode(ticket.name)) <= 200
        os.fsencode(ticket.area)
        assert "\0" not in ticket.area + ticket.title
        assert re.fullmatch(r"|\d{4,18}", ticket.id)
        item = parse_item("queue/merge/pending/0001-x.md", format_item(ticket, "/tmp/w", "0" * 40, "summary"))
        assert item is not None
        assert item.ticket == ticket.name


@fuzzed("fields set in tickets", 40, data=mutated(*TICKETS), number=st.integers(0, 99))
def test_a_field_is_set_and_no_other_or_it_is_refused(data: bytes, number: int) -> None:
    ticket = read(data)
    if ticket is not None:
        try:
            text = set_field(ticket.text, "attempts", number)
        except ValueError:
            return
        after = parse_ticket(ticket.name, ticket.state, text.encode(errors="surrogateescape"))
        assert after.attempts == number
        assert (after.area, after.depends, after.repair) == (ticket.area, ticket.depends, ticket.repair)


@fuzzed("queue items", 60, data=mutated(QUEUE, b"queue/merge/pending/0001-a.md\n"), name=texts())
def test_a_queue_item_names_a_ticket_or_is_none(data: bytes, name: str) -> None:
    item = parse_item(f"queue/merge/pending/{name}.md", data)
    if item is not None:
        assert isinstance(item.order[0], int)
        assert "/" not in item.ticket
        assert len(os.fsencode(item.ticket)) <= 200
        assert not re.search(r"[\0-\x1f]", item.ticket)


EMPTY_PLAN = cast(
    Plan,
    SimpleNamespace(
        ids={State.DONE: {"0001"}, State.OPEN: {"0002"}},
        blob=lambda _: "",
        dequeue=lambda *_: None,
        queue=list,
    ),
)
BATCH = [
    {"name": "a", "title": "A", "body": "Do it.", "depends": ["b", "0001"], "priority": 1},
    {"name": "b", "title": "B", "body": ""},
]


@fuzzed("drafts in files", 40, files=st.dictionaries(texts(), mutated(*TICKETS), max_size=3))
def test_drafts_are_numbered_or_refused(files: Mapping[str, bytes]) -> None:
    try:
        batch = [drafts.Draft.read(f"tickets/open/{name}.md", data, "core") for name, data in files.items()]
        numbered = drafts.number(EMPTY_PLAN, 7, batch)
    except TicketError:
        return
    assert all(re.fullmatch(r"\d{4}-[^\s/.\0]+", name) for name in numbered)


@fuzzed("drafts by the tool", 80, batch=altered(BATCH) | values())
def test_submitted_tickets_are_written_inside_or_refused(tmp_path: Path, batch: Any) -> None:
    worktree = tmp_path / "worktree"
    (worktree / "tickets" / "open").mkdir(parents=True, exist_ok=True)
    with suppress(ScriptoriumError):
        drafts.submit_tickets(EMPTY_PLAN, 7, worktree, "core", batch)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "worktree"}
    assert {path.name for path in worktree.iterdir()} == {"tickets"}


# -- the output of agents -------------------------------------------------------------------------------

STREAMS: dict[str, tuple[Harness, list[dict[str, Any]]]] = {
    "codex": (
        Codex(),
        [
            {"type": "thread.started", "thread_id": "t-1"},
            {"type": "item.completed", "item": {"type": "agent_message", "text": "done"}},
            {"type": "item.started", "item": {"type": "command_execution", "command": "ls"}},
            {"type": "item.completed", "item": {"type": "file_change", "changes": [{"path": "a", "kind": "add"}]}},
            {"type": "item.started", "item": {"type": "mcp_tool_call", "server": "s", "tool": "t"}},
            {"type": "item.completed", "item": {"type": "reasoning", "text": "hm"}},
            {"type": "item.completed", "item": {"type": "error", "message": "retry"}},
            {"type": "turn.completed", "usage": {"input_tokens": 5, "cached_input_tokens": 1, "output_tokens": 2}},
            {"type": "turn.failed", "error": {"message": "usage limit, try again in 5 s"}},
            {"type": "error", "message": "HTTP status 429"},
        ],
    ),
    "claude": (
        ClaudeCode(),
        [
            {
                "type": "system",
                "subtype": "init",
                "session_id": "s",
                "mcp_servers": [{"name": "scriptorium", "status": "failed"}],
            },
            {"type": "system", "subtype": "api_retry", "error_status": 529, "attempt": 1, "error": "overloaded"},
            {"type": "assistant", "message": {"content": [{"type": "text", "text": "hello"}], "model": "m"}},
            {
                "type": "assistant",
                "message": {"content": [{"type": "tool_use", "name": "Bash", "input": {"command": "ls"}}]},
            },
            {"type": "user", "message": {"content": [{"type": "tool_result"}]}, "parent_tool_use_id": "x"},
            {
                "type": "result",
                "result": "done",
                "usage": {"input_tokens": 5, "output_tokens": 2},
                "total_cost_usd": 0.1,
            },
            {"type": "result", "is_error": True, "result": "API Error: 500", "errors": ["x"], "api_error_status": 500},
            {"type": "result", "model_usage_since_last_result": {"m": {"inputTokens": 1, "costUSD": 0.5}}},
            {"type": "result", "permission_denials": [{"tool_name": "Edit", "tool_input": {"path": "x"}}]},
        ],
    ),
    "acp": (
        Acp("mine", Program(("./agent",), protocol="acp"), Path("/")),
        [
            {"type": "session", "id": "s"},
            {"type": "text", "text": "hello", "new": True},
            {"type": "text", "text": " you", "new": False},
            {"type": "plan", "text": "a"},
            {"type": "tool", "status": "completed", "title": "ls"},
            {"type": "permission", "title": "edit", "allowed": False},
            {"type": "cost", "usd": 0.5},
            {"type": "end", "stop": "end_turn", "usage": {"in": 1, "cached": 1, "out": 1, "reasoning": 0}},
            {"type": "error", "message": "quota", "code": -32000},
        ],
    ),
    "typoi": (
        Typoi("m", ()),
        [
            {"type": "text", "text": "hello"},
            {"type": "thinking", "text": "hm"},
            {"type": "tool", "name": "ls"},
            {"type": "usage", "input_tokens": 5, "cached_tokens": 1, "output_tokens": 2, "cost_usd": 0.25},
            {"type": "error", "message": "connection refused"},
        ],
    ),
    "command": (CommandHarness("mine", Program(("./agent",)), Path("/")), [{"anything": "at all"}]),
}


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """The name of a harness and possible output of its program."""
    name = draw(st.sampled_from(sorted(STREAMS)))
    events = STREAMS[name][1]
    line = st.one_of(
        altered(*events).map(lambda event: json.dumps(event).encode()),
        mutated(*(json.dumps(event).encode() for event in events)),
        st.binary(max_size=20),
        st.just(b"[" * 100_000),
    )
    return name, draw(st.lists(line, max_size=6))


def task(directory: Path) -> Task:
    price = Price(1.0, 0.1, 10.0)
    return Task("coding", "", directory, directory, "m", "", Limits(), price=price)


def trailers(message: bytes) -> list[tuple[str, str]]:
    """Return the trailers of a commit message, parsed by git."""
    argv = ["git", "interpret-trailers", "--parse", "--unfold"]
    out = subprocess.run(argv, input=message, capture_output=True, check=True).stdout.decode(errors="surrogateescape")
    return [cast(tuple[str, str], tuple(line.split(": ", 1))) for line in out.splitlines()]


@fuzzed(
    "agent streams",
    120,
    stream=streams(),
    end=st.sampled_from(EndReason),
    status=st.sampled_from((0, 1, -9)),
    body=mutated(*TICKETS),
)
def test_whatever_an_agent_prints_forges_nothing(
    tmp_path: Path, stream: tuple[str, list[bytes]], end: EndReason, status: int, body: bytes
) -> None:
    harness, report = STREAMS[stream[0]][0], Report()
    for said in stream[1]:
        for event in harness.read(said, report):
            assert not STEERING.search(printable(event.text))
    report = sanitize_report(report, task(tmp_path))
    outcome = Outcome(Finished(end, status, 1.0), report, tmp_path / "log", "agent")
    cause, reason = failure_of(outcome, task(tmp_path))
    json.dumps(outcome.trailers(), allow_nan=False)
    assert not STEERING.search(f"{reason} {report.error} {report.session}")
    assert not report.session.startswith("-")

    ticket = read(body) or parse_ticket("0001-a", State.IN_PROGRESS, TICKETS[2])
    change = transitions.reopen(EMPTY_PLAN, ticket, cause, reason, report.message, 99, outcome.trailers())
    _unforged(change, ticket, cause)


def _unforged(change: PlanChange, ticket: Ticket, cause: Cause) -> None:
    """Assert that a commit has the expected message and the ticket has its old fields."""
    message = change.message().decode(errors="surrogateescape")
    subject, empty, *lines = message.split("\n")
    assert (subject, empty, lines.pop()) == (f"scriptorium: {change.verb} ticket {ticket.name}", "", "")
    assert not STEERING.search("".join(lines))
    keys = [line.partition(": ")[0] for line in lines]
    assert keys == [*(key for key, value in change.trailers.items() if value not in ("", None)), "Transaction"]
    for path, data in change.writes.items():
        if path.startswith("tickets/"):
            after = parse_ticket(ticket.name, State.OPEN, data)
            assert after.attempts == ticket.attempts + 1 or change.verb == "park"
            facts = (after.area, after.depends, after.priority, after.repair, after.title)
            assert facts == (ticket.area, ticket.depends, ticket.priority, ticket.repair, ticket.title)
            assert last_failure(after.text) == cause


@fuzzed(
    "commit messages",
    100,
    subject=texts(),
    facts=st.dictionaries(st.sampled_from(("Ticket", "Move", "Reason", "Agent")), texts()),
)
def test_no_text_forges_a_trailer(subject: str, facts: dict[str, object]) -> None:
    message = PlanChange("note", subject, trailers=facts).message().decode(errors="surrogateescape")
    first, _, rest = message.partition("\n\n")
    assert "\n" not in first
    assert not STEERING.search(message.replace("\n", ""))
    given = [key for key, value in facts.items() if str(value).split()]
    assert [line.partition(":")[0] for line in rest.split("\n")[:-1]] == [*given, "Transaction"]


def test_git_reads_the_trailers_that_were_meant(project: Project) -> None:
    for number, text in enumerate(NASTY):
        message = PlanChange("note", text, trailers={"Ticket": "0001-a", "Reason": text}).message()
        found = dict(trailers(message))
        assert found.pop("Ticket") == "0001-a", number
        assert set(found) <= {"Reason", "Transaction"}
        assert re.fullmatch(r"[0-9a-f]{16}", found["Transaction"])


@fuzzed(
    "usage kept",
    50,
    kept=altered({"tokens_in": 1, "cost_usd": 0.5}) | values(),
    price=st.sampled_from((None, Price(1e9, 1e9, 1e9))),
)
def test_usage_is_never_more_than_can_be_written(kept: Any, price: Price | None) -> None:
    usage = (Usage.parse(kept) - Usage.parse(kept) | Usage.parse(kept)).priced(price)
    json.dumps(usage.trailers(), allow_nan=False)
    assert "inf" not in str(usage.trailers())


# -- the configuration ----------------------------------------------------------------------------------

SETTINGS = {
    "models": {"architect": "gpt-5", "coding": "mine"},
    "reasoning_effort": {"coding": "high"},
    "harnesses": {"mine": {"command": ["./agent"], "env": {"A": "b"}, "protocol": "acp", "model": "m", "mode": "n"}},
    "agents": {"manager": {"model": "claude-x", "harness": "claude-code"}},
    "environment": ["A*"],
    "prices": {"gpt-5": {"input": 1, "cached": 0.1, "output": 10}},
    "endpoints": {"local": "http://127.0.0.1:8097"},
    "sandbox": "auto",
    "branch": "master",
    "gate": "make test",
    "timeouts": {"gate": 5, "hard": 1, "no_output": 2, "no_progress": 3, "codingAgentHardTimeoutMs": 5},
    "max_attempts": 3,
    "concurrency": {"maxAgents": 1},
    "loop": {},
    "logLevel": "INFO",
    "fileLogLevel": "DEBUG",
}


def configured(text: str) -> Config | None:
    """Return a configuration, or None if it is refused; the error must be one line."""
    try:
        return parse(text)
    except ConfigError as error:
        caught = error
    assert caught.code is ExitCode.CONFIG
    assert caught.message == one_line(caught.message)
    return None


def used(config: Config) -> None:
    """Use a configuration like the first steps of a run."""
    for role in ("architect", "manager", "coding"):
        try:
            harness, model = choose(config, role, Path("/"))
        except ScriptoriumError:
            continue
        os.fsencode(harness.label(model))
        assert all(os.fsencode(word) and "\0" not in word for word in harness.argv(task(Path("/")), Path("/x")))
    os.fsencode(config.gate + config.branch)
    for number in (config.gate_timeout, config.limits.hard, config.limits.no_output, config.limits.no_progress):
        assert 0 <= number <= 1e12
        f"{number:g}"
    for environment in config.environments:
        for name, value in environment.items():
            assert os.fsencode(name)
            os.fsencode(value)
            assert not {"\0", "="} & {*name}
    for price in config.prices.values():
        Usage(10**15, 10**15, 10**15).priced(price).trailers()


@fuzzed("configurations", 80, settings=altered(SETTINGS))
def test_a_configuration_is_usable_or_refused(settings: Any) -> None:
    config = configured(json.dumps(settings))
    if config is not None:
        used(config)


@fuzzed(
    "configuration texts",
    60,
    data=mutated(json.dumps(SETTINGS, indent=1).encode(), b"{}", b'{"gate": "a", "gate": "b"}'),
)
def test_a_text_that_is_no_configuration_is_refused(data: bytes) -> None:
    config = configured(data.decode(errors="replace"))
    if config is not None:
        used(config)


# -- the plan branch as a whole -------------------------------------------------------------------------

MODES = ("100644", "100755", "120000", "160000", "040000")
PLACES = (
    "spec.md", "areas", "areas/core.md", "tickets", "tickets/open", "tickets/open/0001-a.md", "tickets/open/b.md",
    "tickets/in-progress/0002-c.md", "tickets/done/0003-d.md", "tickets/done/0003-D.md", "tickets/stuck/0004-e.md",
    "queue/merge", "queue/merge/pending/0001-0002-c.md", "queue/merge/active.md", "planned", "last-id", "format",
    "tickets/Open/0001-a.md", "areas/a\u2028b.md", "areas/caf\udce9.md",
)  # fmt: skip
DIRECTORIES = ("tickets/open", "tickets/in-progress", "areas", "queue/merge/pending", "tickets")
LINES = (b"queue/merge/pending/0001-0002-c.md\n", b"1\n", b"0" * 40 + b" spec.md\n", b"../../etc/passwd", b"")


def fit(text: str) -> str:
    """Return a text without characters that no argument or variable can contain."""
    return re.sub(r"[\0\ud800-\udc7f\udd00-\udfff]", "", text)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, tuple[str, bytes]]:
    """Paths of a plan with modes and contents; most paths are valid."""
    names = texts().map(lambda text: f"{fit(text).replace('/', '')}.md")
    odd = st.tuples(st.sampled_from(DIRECTORIES), names).map("/".join)
    content = st.tuples(st.sampled_from(MODES), mutated(*TICKETS, QUEUE, *LINES))
    return draw(st.dictionaries(st.one_of(st.sampled_from(PLACES), odd), content, min_size=1, max_size=5))


def committed(project: Project, files: Mapping[str, tuple[str, bytes]], base: str) -> None:
    """Add a commit with files of any mode to the plan branch."""
    stream = [b"feature done\ncommit refs/heads/scriptorium/plan\ncommitter P <p@e> 1700000000 +0000\ndata 1\nx\n"]
    stream.append(b"from %s\n" % base.encode())
    for path, (mode, data) in sorted(files.items(), key=lambda item: len(item[0])):
        quoted = quote(path).encode()
        if mode == "160000":
            stream.append(b"M 160000 %s %s\n" % (base.encode(), quoted))
        elif mode == "040000":
            stream.append(b"M 100644 inline %s\ndata 0\n\n" % quote(f"{path}/below").encode())
        else:
            stream.append(b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), quoted, len(data), data))
    argv = ["git", "fast-import", "--quiet", "--done", "--force"]
    subprocess.run(argv, cwd=project.root, input=b"".join([*stream, b"done\n"]), check=True, capture_output=True)


def ran(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Run a command in this process and return its exit code and output."""
    stdout = io.TextIOWrapper(printed := io.BytesIO(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["scriptorium", *argv])
        patch.setattr("sys.stdin", io.StringIO())
        patch.setattr("sys.stdout", stdout)
        with pytest.raises(SystemExit) as ended:
            main()
    stdout.flush()
    out, err = printed.getvalue().decode(errors="surrogateescape"), capsys.readouterr().err
    code = ended.value.code
    assert isinstance(code, int)
    assert code in set(ExitCode) - {ExitCode.BUG}, err
    assert "Traceback" not in err
    assert not STEERING.search(out + err)
    if code not in (0, 1):
        assert err.startswith("scriptorium: ")
    return code, out, err


@pytest.fixture
def planned(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a plan, agents that do nothing, and files around it that must not change."""
    project.init()
    project.agent("exit 0")
    project.configure(endpoints={"local": "http://127.0.0.1:0"})
    monkeypatch.chdir(project.root)
    (project.root.parent / "sentinel").mkdir()
    (project.root.parent / "sentinel" / "file").write_text("as it was")
    return project


def around(project: Project) -> dict[str, object]:
    """Return the state of everything outside the plan that its content must not change."""
    top = project.root.parent
    files = {str(path.relative_to(top)): path.read_bytes() for path in top.glob("sentinel/**/*") if path.is_file()}
    refs = {ref: oid for ref, oid in project.refs().items() if "scriptorium" not in ref}
    names = sorted(path.name for path in top.iterdir())
    return {"files": files, "refs": refs, "names": names, "status": project.git("status", "--porcelain")}


@fuzzed("plan branches", 15, files=plans())
def test_any_plan_branch_is_processed_or_refused(
    planned: Project, capsys: pytest.CaptureFixture[str], files: dict[str, tuple[str, bytes]]
) -> None:
    base = planned.git("rev-list", "--max-parents=0", PLAN)
    planned.git("update-ref", f"refs/heads/{PLAN}", base)
    committed(planned, files, base)
    (planned.root.parent / "root").mkdir(exist_ok=True)
    before = around(planned)
    steps = ("architect", "manager", "merge", "assign", "code", "code 2", "run --once")
    for verb in ("status", "fsck", "worktrees", *steps, "rescue list", "clean"):
        ran(capsys, *verb.split())
    assert around(planned) == before


@fuzzed("environments", 25, root=texts(), level=texts(), token=texts(), words=st.lists(texts(), max_size=3))
def test_any_environment_and_any_words_are_answered(
    planned: Project, capsys: pytest.CaptureFixture[str], root: str, level: str, token: str, words: list[str]
) -> None:
    before = planned.refs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPTORIUM_LOG_LEVEL", fit(level))
        patch.setenv("SCRIPTORIUM_TOKEN", fit(token))
        patch.setenv("SCRIPTORIUM_SOCKETS", fit(root))
        ran(capsys, "submit-pr", *map(fit, words))
        ran(capsys, "status", *map(fit, words))
        ran(capsys, "code", *map(fit, words) or ["x"])
        patch.setenv("SCRIPTORIUM_ROOT", str(planned.root.parent / "root" / fit(root).lstrip("/").replace("..", "")))
        ran(capsys, "status")
    assert planned.refs() == before
