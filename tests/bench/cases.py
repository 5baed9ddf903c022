"""The figures, each with the bare commands that it needs at least."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from itertools import cycle, pairwise
from pathlib import Path

from scriptorium.agents.tools.server import SubmitServer
from scriptorium.git.repository import Repository
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import BRANCH, REF
from scriptorium.plan.store import PlanStore
from scriptorium.plan.ticket import State, ticket_path
from tests.bench.measure import Row, Usage, alternate, call, compare, milliseconds
from tests.bench.projects import MANY, git_processes, logs, name, project
from tests.support import DATE, Project, submit_pr

SCRIPTORIUM = (sys.executable, "-m", "scriptorium")
PYTHON = (sys.executable, "-c", "pass")
PLUMBUM = (sys.executable, "-c", "from plumbum import cli, local")

TRANSITIONS = 30
STARTS = 20
BATCHES, TICKETS = 5, 10
COUNTED = 10
REST = 20.0


def move(old: str, new: str) -> bytes:
    """Return the least fast-import stream that moves a file of the plan."""
    head = f"feature done\ncommit {REF}\ncommitter P <p@example.com> {DATE}\ndata 4\nmove\n"
    return f"{head}from {REF}^0\nR {old} {new}\ndone\n".encode()


# -- a transition -------------------------------------------------------------------------------------


def transitions(scratch: Path) -> list[Row]:
    """One ticket moved by the store of the daemon, and one by fast-import."""
    ten, many = project(scratch / "ten", 10), project(scratch / "many", 10, MANY)
    return [
        _transition(ten, 1, State.IN_PROGRESS, "a transition, 10 tickets"),
        _transition(many, 1, State.IN_PROGRESS, f"a transition, {MANY:,} tickets done"),
        _transition(many, 3, State.DONE, f"a transition to the {MANY:,} done"),
    ]


def _transition(of: Project, first: int, there: State, what: str) -> Row:
    store = PlanStore(Repository.discover(of.root))

    def ways(number: int) -> cycle[tuple[str, str]]:
        """Return the moves of a ticket, forth and back."""
        ends = ticket_path(State.OPEN, name(number)), ticket_path(there, name(number))
        return cycle([ends, ends[::-1]])

    ours, bare = ways(first), ways(first + 1)

    def by_store() -> None:
        old, new = next(ours)
        store.transact(lambda _: PlanChange("move", "ticket", moves={old: new}))

    def by_git() -> None:
        call("git", "fast-import", "--quiet", "--done", cwd=of.root, data=move(*next(bare)))()

    times, bare_times = alternate(TRANSITIONS, by_store, by_git)
    return compare(what, times, bare_times, "one fast-import", "2")


# -- whole processes ----------------------------------------------------------------------------------


def starts(scratch: Path) -> list[Row]:
    """The interactive commands, compared with a Python that does nothing."""
    many = project(scratch / "starts", 1, MANY)
    many.run("hooks", "install")
    many.git("switch", "--quiet", "--create", "a-branch")  # a commit for which the hook does nothing
    sockets = scratch / "sockets"
    sockets.mkdir()
    with SubmitServer(sockets, submit_pr(lambda summary: summary)) as server:
        known = {"SCRIPTORIUM_TOKEN": server.token, "SCRIPTORIUM_SOCKETS": str(sockets)}
        python, plumbum, status, version, submit, shell, hook = alternate(
            STARTS,
            call(*PYTHON, cwd=many.root),
            call(*PLUMBUM, cwd=many.root),
            call(*SCRIPTORIUM, "status", cwd=many.root),
            call(*SCRIPTORIUM, "--version", cwd=many.root),
            call(*SCRIPTORIUM, "submit-pr", "It works", cwd=many.root, env=known),
            call("sh", "-c", ":", cwd=many.root),
            call(".git/hooks/post-commit", cwd=many.root),
        )
    return [
        Row("bare Python", milliseconds(python)),
        compare(f"`status`, {MANY:,} tickets done", status, plumbum, "Python that imports plumbum", "200 ms"),
        compare("`--version`", version, python, "bare Python"),
        compare("`submit-pr`", submit, python, "bare Python", "a few tens of ms"),
        compare("a hook with nothing to do", hook, shell, "a shell", "10 ms"),
    ]


# -- a whole ticket -----------------------------------------------------------------------------------


def tickets(scratch: Path) -> list[Row]:
    """Tickets from open to landed, one at a time, with and without many finished tickets."""
    few, bare_few, much, bare_much = [list[float]() for _ in range(4)]
    for turn in range(BATCHES):
        for done, ours, bare in ((0, few, bare_few), (MANY, much, bare_much)):
            bare += _bare_tickets(project(scratch / f"bare-{turn}-{done}", TICKETS, done))
            ours += _tickets(project(scratch / f"run-{turn}-{done}", TICKETS, done))
    return [
        compare("a whole ticket", few, bare_few, "bare git, make and agent", "3"),
        compare(f"a whole ticket, {MANY:,} done", much, bare_much, "bare git, make and agent"),
        compare(f"a whole ticket, {MANY:,} done", much, few, "with none done", "2"),
        *_counts(scratch),
    ]


def _tickets(of: Project, trace: Path | int = 0) -> list[float]:
    """Land all tickets in one run; return the seconds between the starts of consecutive agents."""
    result = of.run("run", "--until-idle", env={"GIT_TRACE2_EVENT": str(trace)})
    assert result.code == 0, result
    begun = sorted(file.stat().st_mtime for file in logs(of, "[0-9]*/attempt-01.prompt.md"))
    return [later - earlier for earlier, later in pairwise(begun)]


def _bare_tickets(of: Project) -> list[float]:
    """Run by hand the commands that tickets need at least; return the seconds for each ticket."""
    worktree = of.root.parent / f"{of.root.name}-worktree"
    times = []
    for number in range(1, TICKETS + 1):
        started = time.perf_counter()
        _bare_ticket(of.root, worktree, name(number))
        times.append(time.perf_counter() - started)
    return times


def _bare_ticket(root: Path, worktree: Path, ticket: str) -> None:
    def run(*argv: str, cwd: Path = root, data: bytes = b"") -> None:
        call(*argv, cwd=cwd, data=data)()

    def plan(old: str, new: str) -> None:
        run("git", "fast-import", "--quiet", "--done", data=move(old, new))

    work, item = ticket_path(State.IN_PROGRESS, ticket), f"queue/{ticket}.md"
    plan(ticket_path(State.OPEN, ticket), work)
    run("git", "worktree", "add", "--quiet", "-b", ticket, str(worktree), "master")
    (worktree / f"{ticket}.txt").write_text("work\n")
    run("git", "add", "--all", cwd=worktree)
    run("git", "commit", "--quiet", "--message", "work", cwd=worktree)
    plan(work, item)
    run("git", "merge", "--quiet", "master", cwd=worktree)
    run("make", "test", cwd=worktree)
    run("git", "merge", "--quiet", "--ff-only", ticket)
    plan(item, ticket_path(State.DONE, ticket))
    run("git", "worktree", "remove", "--force", str(worktree))
    run("git", "branch", "--quiet", "-D", ticket)


def _counts(scratch: Path) -> list[Row]:
    """Figures that are equal on all machines: the difference between runs with and without tickets."""
    none, some = project(scratch / "none"), project(scratch / "some", COUNTED)
    commits = -int(some.git("rev-list", "--count", BRANCH))
    _tickets(none, scratch / "none.trace")
    _tickets(some, scratch / "some.trace")
    commits += int(some.git("rev-list", "--count", BRANCH))
    processes = git_processes(scratch / "some.trace") - git_processes(scratch / "none.trace")
    each = {kind: number / COUNTED for kind, number in sorted(processes.items())}
    started = {kind: number for kind, number in each.items() if "/" not in kind}
    below = {kind: number for kind, number in each.items() if "/" in kind}
    gates = len(logs(some, "[0-9]*/gate-*.log"))

    def listed(counts: dict[str, float]) -> str:
        return ", ".join(f"{number:g} {kind}" for kind, number in counts.items())

    return [
        Row(
            "git processes a ticket, the agent's two included", f"{sum(started.values()):g}", listed(started), "", "15"
        ),
        Row("processes that those start", f"{sum(below.values()):g}", listed(below)),
        Row("plan commits a ticket", f"{commits / COUNTED:g}", "", "", "3"),
        Row("gate runs a ticket", f"{gates / COUNTED:g}", "", "", "1"),
    ]


# -- at rest ------------------------------------------------------------------------------------------


def idle(scratch: Path) -> list[Row]:
    """An idle run that has landed a ticket, before and after a call of its endpoint."""
    many, trace = project(scratch / "idle", 1, MANY), scratch / "idle.trace"
    argv = ["env", f"GIT_TRACE2_EVENT={trace}", *SCRIPTORIUM, "run"]
    with subprocess.Popen(argv, cwd=many.root, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        address = daemon.stdout.readline().split()[-1]
        landed = any("landed" in line for line in daemon.stdout)
        assert landed
        time.sleep(1)  # the pass that finds no further work
        before = sum(git_processes(trace).values())
        share, resting = _idle(daemon.pid)
        started = sum(git_processes(trace).values()) - before
        seconds = _greet(address)
        share_serving, serving = _idle(daemon.pid)
        daemon.terminate()
        daemon.communicate()
    return [
        Row("CPU of an idle `run`", f"{share:.2%} of a core", "", "", "0.5%"),
        Row("the same with the MCP server up", f"{share_serving:.2%} of a core", "", "", "0.5%"),
        Row(f"git processes in {REST:g} idle seconds", str(started), "", "", f"{REST:g}"),
        Row("memory of `run`, children included", str(resting), "", "", "120 MB"),
        Row("the same with the MCP server up", str(serving), "", "", "120 MB"),
        Row("first answer of the MCP endpoint", milliseconds([seconds])),
    ]


def _idle(pid: int) -> tuple[float, Usage]:
    """Watch a process for a while; return the share of a core that it used, and its memory."""
    first, started = Usage.of(pid), time.perf_counter()
    time.sleep(REST)
    last = Usage.of(pid)
    return (last.seconds - first.seconds) / (time.perf_counter() - started), last


def _greet(address: str) -> float:
    """Initialize an MCP session at the endpoint; return the seconds until the answer."""
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    started = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/mcp", body, headers), timeout=60) as answer:
        assert b"scriptorium" in answer.read()
    return time.perf_counter() - started
