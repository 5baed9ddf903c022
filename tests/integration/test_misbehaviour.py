"""Agents that write outside their worktree, with each real agent program and no sandbox.

The tool reports every other change and leaves it in place; the ticket, the plan and the merge queue go on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scriptorium.coding.attempt import AttemptOutcome as Coded
from scriptorium.coding.attempt import run_attempt
from scriptorium.plan.cause import Cause
from scriptorium.system import process
from tests.integration.conftest import Backend
from tests.integration.test_faults import BRANCH, OPEN, TICKET, WORK, Ticket
from tests.integration.test_flow import steps, submit
from tests.scripted_model import Item, NoAnswer, Shell, Text
from tests.support import CHECKOUT, PLAN, Result, is_alive

MASTER, PLAN_REF = "refs/heads/master", f"refs/heads/{PLAN}"
DONE = Text("Done.")


@pytest.fixture
def ticket(backend: Backend) -> Ticket:
    backend.project.configure(sandbox="off")
    return Ticket(backend.project)


def run(backend: Backend, *items: Item) -> tuple[Result, list[str]]:
    """Run the agent on the ticket; return the result, and the outputs of its calls that the model got."""
    with backend.answering(lambda asked: steps(asked, *items)) as requests:
        coded = backend.project.run("code", TICKET)
    return coded, list(requests[-1].tool_outputs.values())


def warning(coded: Result) -> str:
    """Return the warning about unexpected changes, '' for none."""
    lines = [line for line in coded.err.splitlines() if f"while the agent of ticket '{TICKET}' ran" in line]
    assert len(lines) <= 1
    return "".join(lines)


def submitted(coded: Result) -> None:
    assert (coded.code, coded.out) == (0, f"{TICKET}\n"), coded.err


# -- processes ------------------------------------------------------------------------------------------


@pytest.mark.behaviour("a command prints a gigabyte")
def test_a_command_that_prints_a_gigabyte_fills_no_log(backend: Backend, ticket: Ticket) -> None:
    coded, _ = run(backend, Shell("head -c 1073741824 /dev/zero | tr '\\0' x"), WORK, submit("It greets"), DONE)
    submitted(coded)
    logs = list((backend.project.paths.attempts / TICKET).iterdir())
    assert sum(file.stat().st_size for file in logs) < 16 * 2**20
    assert ticket.surroundings() == ticket.others


@pytest.mark.behaviour("prints gigabytes")
def test_an_agent_that_prints_without_end_is_ended(
    backend: Backend, ticket: Ticket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "scriptorium")
    monkeypatch.setattr(process, "MAX_OUTPUT", 1024 * 1024)
    talk: list[Item] = [Text("x" * 3 * 1024 * 1024), Shell("python3 -c 'import time; time.sleep(600)'")]
    with backend.answering(lambda _: talk):
        assert run_attempt(backend.project.workspace, TICKET).result is Coded.FAILED
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "attempt failed: The agent was ended after 1 MiB of output" in said
    assert f"Attempt 1 failed: {Cause.AGENT}" in backend.project.plan_files()[OPEN]
    assert ticket.surroundings() == ticket.others


@pytest.mark.behaviour("forks a daemon")
def test_a_daemon_that_an_agent_starts_ends_with_it(backend: Backend, ticket: Ticket, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    daemon = f"trap '' INT TERM HUP; echo $$ >>{pids}; while :; do sleep 600; done"
    start = f'(setsid sh -c "{daemon.replace("$", chr(92) + "$")}" </dev/null >/dev/null 2>&1 &)'
    wait = f"until test -s {pids}; do sleep 0.1; done"
    coded, _ = run(backend, Shell(f"{start}; {wait}"), WORK, submit("It greets"), DONE)
    submitted(coded)
    assert [pid for pid in map(int, pids.read_text().split()) if is_alive(pid)] == []
    assert ticket.surroundings() == ticket.others


@pytest.mark.behaviour("ignores SIGINT")
def test_a_command_that_ignores_signals_is_ended_all_the_same(backend: Backend, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    backend.project.configure(sandbox="off", timeouts={"no_output": 15})
    ticket = Ticket(backend.project)
    ignore = "import os,signal,time; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]"
    call = Shell(f'python3 -c \'{ignore}; print(os.getpid(), file=open("{pids}", "w")); time.sleep(600)\'')
    # a program may detach a slow command, and ask the model for the next step
    with backend.answering(lambda asked: NoAnswer() if asked.turn else call):
        coded = backend.project.run("code", TICKET)
    ticket.failed(coded, Cause.SILENCE, "without output")
    assert [pid for pid in map(int, pids.read_text().split()) if is_alive(pid)] == []


# -- files and refs -------------------------------------------------------------------------------------


@pytest.mark.behaviour("writes outside its worktree")
def test_files_written_outside_the_worktree_land_nowhere(backend: Backend, ticket: Ticket, tmp_path: Path) -> None:
    project = backend.project
    stray = f'echo x >{tmp_path}/stray; echo y >"$SCRIPTORIUM_REPO/stray"; echo z >>"$SCRIPTORIUM_REPO/Makefile"'
    coded, _ = run(backend, Shell(stray), WORK, submit("It greets"), DONE)
    submitted(coded)
    assert warning(coded) == ""
    assert (tmp_path / "stray").exists()
    before = project.git("status", "--porcelain")
    assert before == " M Makefile\n?? stray"
    assert project.run("merge").out == f"{TICKET}\tlanded\n"
    assert project.git("diff", "--name-only", "HEAD~1") == "Makefile\ngreeting.txt"
    assert project.git("status", "--porcelain") == before


@pytest.mark.behaviour("moves HEAD: detaches it")
def test_work_on_a_detached_head_is_kept_and_named_in_the_note(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    coded, _ = run(backend, Shell("git checkout -q --detach; echo lost >file; git add file; git commit -qm Lost"), DONE)
    assert (coded.code, coded.out) == (1, "")
    assert f"'{project.worktree(TICKET)}' (not on '{BRANCH}')" in warning(coded)
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    assert (
        f"Attempt 1 failed: no-submit\n\nThe agent ended without submitting; its work is kept as '{rescue}'"
        in (project.plan_files()[OPEN])
    )
    assert project.git("show", f"{rescue}:file") == "lost"
    assert project.git("rev-parse", "--abbrev-ref", "HEAD", cwd=project.worktree(TICKET)) == BRANCH


@pytest.mark.behaviour("moves HEAD: switches to a branch of its own")
def test_a_submit_from_another_branch_is_refused_until_it_is_on_its_own(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    back = Shell(f"git switch -q {BRANCH}; git merge -q mine; git branch -qD mine")
    items: list[Item] = [
        Shell("git switch -q -c mine; echo 'Hello' >file; git add file; git commit -qm Mine"),
        submit("Done"),
    ]
    coded, heard = run(backend, *items, back, submit("Done"), DONE)
    submitted(coded)
    assert f"is not on branch '{BRANCH}'" in heard[1]
    assert f"check out '{BRANCH}' in '{project.worktree(TICKET)}'" in heard[1]
    assert warning(coded) == ""
    assert project.run("merge").out == f"{TICKET}\tlanded\n"
    assert ticket.surroundings() != ticket.others
    assert project.git("show", "master:file") == "Hello"


@pytest.mark.behaviour("commits to master")
def test_a_commit_on_master_is_reported_and_the_ticket_lands_on_top(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    old = project.git("rev-parse", "master")
    coded, _ = run(
        backend, Shell('git -C "$SCRIPTORIUM_REPO" commit -q --allow-empty -m Stray'), WORK, submit("x"), DONE
    )
    submitted(coded)
    new = project.git("rev-parse", "master")
    assert f"these moved: '{MASTER}' {old[:12]} -> {new[:12]}; " in warning(coded)
    assert project.run("merge").out == f"{TICKET}\tlanded\n"
    assert "Stray" in project.git("log", "--format=%s", "master")


@pytest.mark.behaviour("deletes its worktree")
def test_a_deleted_worktree_is_recreated_with_its_committed_work(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    gone = 'echo x >file; git add file; git commit -qm Kept; find "$SCRIPTORIUM_WORKTREE" -delete'  # codex refuses rm
    coded, _ = run(backend, Shell(gone), DONE)
    ticket.failed(coded, Cause.NO_SUBMIT)
    assert f"'{project.worktree(TICKET)}' (gone)" in warning(coded)
    project.run("assign")
    again, _ = run(backend, WORK, submit("It greets"), DONE)
    submitted(again)
    assert project.git("diff", "--name-only", "master", BRANCH) == "file\ngreeting.txt"


EDITS = {
    "calls its ticket done": (
        f"git read-tree {PLAN}; git rm -q --cached tickets/in-progress/{TICKET}.md;"
        f"git update-index --add --cacheinfo 100644,$(git rev-parse {PLAN}:tickets/in-progress/{TICKET}.md),"
        f"tickets/done/{TICKET}.md; git update-ref {PLAN_REF} $(git commit-tree -p {PLAN} -m Cheat $(git write-tree))",
        f"'{PLAN_REF}' by the commit ",
    ),
    "takes the plan back": (f"git update-ref {PLAN_REF} {PLAN}~1", f"'{PLAN_REF}' "),
}


@pytest.mark.behaviour("edits the plan branch")
@pytest.mark.parametrize("edit", EDITS)
def test_a_plan_that_the_agent_edits_stays_edited_and_is_reported(backend: Backend, ticket: Ticket, edit: str) -> None:
    project = backend.project
    script, words = EDITS[edit]
    edited = f'cd "$SCRIPTORIUM_REPO"; export GIT_INDEX_FILE=$PWD/.git/cheat; {script}; unlink .git/cheat'
    coded, heard = run(backend, Shell(edited), WORK, submit("It is done, I say"), DONE)
    assert (coded.code, coded.out) == (1, "")
    assert f"ticket '{TICKET}' is " in heard[2]
    assert "not in progress" in heard[2]
    assert words in warning(coded)
    assert not [name for name in project.plan_files() if name.startswith("queue/merge/pending/0")]
    assert ticket.surroundings() == ticket.others
    assert "cheat" not in " ".join(project.plan_log())
    assert project.git("show", f"{BRANCH}:greeting.txt") == "Hello, world"


@pytest.mark.behaviour("deletes the plan branch")
def test_a_plan_that_the_agent_deletes_can_be_had_back(backend: Backend, ticket: Ticket) -> None:
    project = backend.project
    coded, _ = run(backend, Shell(f'git -C "$SCRIPTORIUM_REPO" update-ref -d {PLAN_REF}'), DONE)
    assert (coded.code, coded.out) == (78, "")
    assert f"'{PLAN_REF}' {ticket.plan[:12]} -> none" in warning(coded)
    command = warning(coded).partition("(to restore it: ")[2].partition(")")[0]
    project.git(*command.split()[1:])
    assert project.git("rev-parse", PLAN) == ticket.plan
    again, _ = run(backend, WORK, submit("It greets"), DONE)
    submitted(again)


@pytest.mark.behaviour("submits with a made-up token")
def test_a_submit_with_another_token_reaches_no_run(backend: Backend, ticket: Ticket) -> None:
    guess = (
        "import os; from scriptorium.agents.tools.client import submit;"
        "submit(os.environ['SCRIPTORIUM_SOCKETS'], 'guess', 'submit_pr', {'summary': 'mine'})"
    )
    by_hand = (
        "import glob, json, os, socket; s = socket.socket(socket.AF_UNIX); os.chdir(os.environ['SCRIPTORIUM_SOCKETS']);"
        "s.connect(glob.glob('*.sock')[0]);"
        "s.sendall(json.dumps({'token': 'guess', 'tool': 'submit_pr', 'arguments': {}}).encode() + bytes([10]));"
        "print(s.recv(999).decode())"
    )
    coded, heard = run(
        backend,
        WORK,
        *(Shell(f'PYTHONPATH={CHECKOUT} {sys.executable} -c "{s}" 2>&1 || true') for s in (guess, by_hand)),
        DONE,
    )
    assert ["this run is over or its token is unknown" in answer for answer in heard] == [False, True, True]
    ticket.failed(coded, Cause.NO_SUBMIT)
