"""scriptorium code: attempts that fail, and runs that are interrupted or cannot start."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from scriptorium.coding.attempt import run_attempt
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan import store
from tests.commands.code_cases import SUBMIT, assert_reopened, files
from tests.support import BUSY, PLAN, Project, busy_pids, is_alive, trailers, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()


def test_a_run_without_a_submit_is_reopened_and_at_the_last_attempt_stuck(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.configure(max_attempts=2)
    project.agent('cat >"$FACTS/prompt"; echo half >>file; echo I am lost')

    result = project.run("code", name)

    reason = "The agent ended without submitting"
    assert result == (
        1,
        "",
        f"scriptorium: ticket '{name}': attempt 1 begins\nscriptorium: ticket '{name}': attempt failed: {reason}\n",
    )
    assert_reopened(project, "no-submit", f"{reason}\n\n  ```\n  I am lost\n  ```")
    assert trailers(project) == {
        "Ticket": name,
        "Move": "in-progress -> open",
        "Attempt": "1",
        "Cause": "no-submit",
        "Reason": reason,
        "Agent": "script",
    }

    assert project.run("assign").out.startswith(name)
    assert project.run("code").code == 1

    prompt = (facts / "prompt").read_text()
    assert "This is attempt 2." in prompt
    assert "## Attempt 1 failed: no-submit" in prompt
    assert list(files(project)) == [f"tickets/stuck/{name}.md"]
    assert project.plan_log()[-1] == f"scriptorium: park ticket {name}"
    assert project.git("show", "scriptorium/ticket-0001:file") == "half\nhalf"
    assert project.run("assign") == (0, "", "")


def test_an_empty_change_is_refused(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("git commit --allow-empty -qm nothing; scriptorium submit-pr x 2>$FACTS/reply")

    assert project.run("code", name)[:2] == (1, "")

    assert (facts / "reply").read_text() == (
        "scriptorium: there is no change to submit\nhint: make the change first, then submit again\n"
    )
    assert_reopened(project, "agent", "The agent ended with exit code 1")


def test_a_failing_agent_leaves_the_tail_of_its_errors_without_secrets(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = project.ticket("0001", state="in-progress")
    agent = project.agent("seq 100 >&2; echo using $API_KEY and $MY_TOKEN and sk-abcdefghijklmnopqrst >&2; exit 3")
    program = {"command": [str(agent)], "env": {"MY_TOKEN": "configured-secret"}}
    project.configure(harnesses={"script": program}, environment=["API_KEY"])
    monkeypatch.setenv("API_KEY", "inherited-secret")

    assert project.run("code", name)[:2] == (1, "")

    shown = "\n".join([*map(str, range(82, 101)), "using [removed] and [removed] and [removed]"])
    quoted = f"```\n{shown}\n```"
    assert_reopened(project, "agent", f"The agent ended with exit code 3\n\n{indent(quoted, '  ')}")


@pytest.mark.parametrize(
    ("limit", "cause", "note"),
    [
        ("hard", "timeout", "The agent was ended at its limit of 2.5 seconds"),
        ("no_output", "silence", "The agent was ended after 2.5 seconds without output"),
        ("no_progress", "timeout", "The agent was ended after 2.5 seconds without progress"),
    ],
)
def test_an_agent_that_hangs_is_ended_at_its_limit_with_all_its_children(
    project: Project, facts: Path, limit: str, cause: str, note: str
) -> None:
    name = project.ticket("0001", state="in-progress")
    project.configure(timeouts={limit: 2.5})
    project.agent(BUSY)

    assert project.run("code", name)[:2] == (1, "")

    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []
    assert_reopened(project, cause, note)


def test_children_that_outlive_a_good_agent_are_ended(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file" + SUBMIT + BUSY.replace("exec sleep 600\n", ""))

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []


def test_a_ticket_whose_attempts_cannot_be_counted_is_stuck_at_once(project: Project) -> None:
    name = "0001-flow"
    project.commit_plan({f"tickets/in-progress/{name}.md": "---\n{area: core, priority: 1}\n---\n# Do it\n"})
    project.agent("true")

    assert project.run("code", name)[:2] == (1, "")

    ((path, text),) = files(project).items()
    assert path == f"tickets/stuck/{name}.md"
    assert text.endswith(
        "\n\nThe agent ended without submitting; 'attempts' cannot be set to '1' in its front matter\n"
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_agent_and_the_attempt_does_not_count(
    project: Project, facts: Path, signum: signal.Signals, code: int
) -> None:
    name = project.ticket("0001", state="in-progress")
    untouched = project.plan_files()[f"tickets/in-progress/{name}.md"]
    project.ticket("0002", state="in-progress")
    project.agent("echo half >file" + BUSY)
    process = project.start("code", name, "0002")
    running = busy_pids(facts)

    process.send_signal(signum)

    assert process.communicate()[0] == ""
    assert process.returncode == code
    assert [pid for pid in running if is_alive(pid)] == []
    assert files(project) == {
        f"tickets/open/{name}.md": untouched,
        "tickets/in-progress/0002-thing.md": untouched.replace("0001", "0002"),
    }
    assert trailers(project)["Cause"] == "stopped"
    assert (project.worktree(name) / "file").read_text() == "half\n"


def test_a_signal_as_the_agent_ends_keeps_the_next_one_from_starting(project: Project, facts: Path) -> None:
    names = [project.ticket(id, state="in-progress") for id in ("0001", "0002")]
    project.agent(
        'echo x >file; echo "$SCRIPTORIUM_TICKET" >>"$FACTS/ran"' + SUBMIT + 'kill -TERM "$(cat "$FACTS/pid")"'
    )
    process = project.start("code", *names)
    (facts / "pid").write_text(f"{process.pid}\n")

    process.communicate()

    assert process.returncode == 143
    assert (facts / "ran").read_text() == f"{names[0]}\n"
    assert project.plan_log()[-1] == f"scriptorium: enqueue ticket {names[0]}"


def test_a_killed_run_takes_its_agent_along_and_is_taken_up_again(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    agent = project.agent("echo half >file" + BUSY)
    process = project.start("code", name)
    running = busy_pids(facts)

    process.kill()

    process.communicate()
    until(lambda: not any(is_alive(pid) for pid in running))
    assert list(files(project)) == [f"tickets/in-progress/{name}.md"]

    assert agent == project.agent("echo whole >>file" + SUBMIT)
    assert project.run("code")[:2] == (0, f"{name}\n")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / "file").read_text() == "half\nwhole\n"
    assert [line for line in project.plan_log() if line.startswith("scriptorium: complete")] == [
        f"scriptorium: complete ticket {name}"
    ]
    assert project.run("code") == (0, "", "")


def test_an_agent_that_is_not_there_is_a_configuration_error(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.configure(models={"coding": "mine"}, harnesses={"mine": {"command": ["no-such-agent"]}})
    before = project.git("rev-parse", PLAN)

    assert project.run("code", name) == (
        78,
        "",
        "scriptorium: 'no-such-agent' is not on PATH\nhint: check 'harnesses.mine.command' in 'scriptorium.json'\n",
    )
    assert project.git("rev-parse", PLAN) == before


def test_an_agent_that_cannot_start_leaves_the_ticket_open_with_a_reason(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    agent = project.agent("")
    agent.write_text("echo hello\n")

    result = project.run("code", name)

    why = f"cannot start '{agent}': it is neither a script nor a program for this machine"
    assert (result.code, result.out) == (78, "")
    assert result.err.endswith(f"scriptorium: {why}\nhint: begin a script with a line such as '#!/bin/sh'\n")
    assert list(files(project)) == [f"tickets/open/{name}.md"]
    assert trailers(project)["Reason"] == f"The agent could not start its work: {why}"


def test_a_stale_lock_on_the_plan_is_a_failure_with_a_hint(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_TRIES", 3)
    name = project.ticket("0001", state="in-progress")
    project.agent("true")
    lock = project.root / ".git" / "refs" / "heads" / f"{PLAN}.lock"
    lock.touch()

    with pytest.raises(ScriptoriumError) as raised:
        run_attempt(project.workspace, name)

    assert (raised.value.code, raised.value.hint) == (ExitCode.FAILED, f"if no git is at work, remove '{lock}'")


def test_a_lock_that_a_killed_git_left_in_the_worktree_fails_no_attempt(project: Project, facts: Path) -> None:
    name = project.ticket("0001")
    lock = "$(git rev-parse --git-dir)/index.lock"
    project.agent(
        f'[ -e "$FACTS/once" ] || {{ touch "$FACTS/once" "{lock}"; echo 1 >one; exit 1; }}\nscriptorium submit-pr x'
    )
    project.run("assign")

    assert project.run("code").code == 1
    assert project.git("show", "scriptorium/ticket-0001:one") == "1"
    project.run("assign")
    (project.root / ".git" / "worktrees" / name / "index.lock").touch()
    assert project.run("code")[:2] == (0, f"{name}\n")


def test_work_that_the_system_cannot_submit_is_no_failed_attempt(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    # the file has the maximum size, and the object that git writes is larger
    project.agent("head -c 51200 /dev/urandom >work; scriptorium submit-pr 'It works'")

    limited = f"ulimit -f 100; exec {sys.executable} -m scriptorium code {name}"
    done = subprocess.run(["/bin/sh", "-c", limited], cwd=project.root, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "The work could not be submitted: 'git " in done.stderr
    assert "\nCause: infrastructure\n" in project.git("log", "-1", "--format=%B", PLAN)
    assert "attempts" not in project.plan_files()[f"tickets/open/{name}.md"]
    assert (project.worktree(name) / "work").stat().st_size == 51200
