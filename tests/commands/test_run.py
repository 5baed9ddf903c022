"""scriptorium run: the whole flow, with failures, signals and edits in between."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from scriptorium.project.workspace import Workspace
from scriptorium.scheduler import backoff, driver, watch
from scriptorium.scheduler.driver import Driver
from scriptorium.system import watchdog
from scriptorium.worktrees.tickets import TicketWorktree
from tests.support import Project, Started, until, write_script

pytestmark = pytest.mark.slow

LINE = re.compile(r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\] \[(DEBUG|INFO|WARN|ERROR)\] .")
WAITING = "[INFO] WAITING: no spec — run 'scriptorium plan'"
SPEC = "# Tool\n\n- core: the core\n- extra: the extras\n"

# A spec is a list of "- <area>: <text>". Every run is recorded in a file. A run that finds a file
# hold-<role> hangs, with a child, until it is terminated.
AGENT = """\
base=$(dirname "$0")
echo "$SCRIPTORIUM_ROLE $SCRIPTORIUM_AREA $SCRIPTORIUM_TICKET" | xargs >> "$base/runs"
if [ -e "$base/hold-$SCRIPTORIUM_ROLE" ]; then
    rm "$base/hold-$SCRIPTORIUM_ROLE"
    sleep 1000 & echo $! $$ > "$base/draft"
    mv "$base/draft" "$base/held"
    sleep 1000
fi
case $SCRIPTORIUM_ROLE in
architect)
    sed -n 's/^- \\([a-z]*\\): .*/\\1/p' spec.md | while read area; do
        sed -n "s/^- $area: /# /p" spec.md > areas/$area.md
    done ;;
manager)
    printf '# Make %s\\n\\n%s\\n' $SCRIPTORIUM_AREA "$(cat areas/$SCRIPTORIUM_AREA.md)" > tickets/open/make.md ;;
coding)
    cat > "made-$SCRIPTORIUM_TICKET.txt"
    scriptorium submit-pr "Make it" ;;
esac
"""

# `scriptorium run` with a hundredth of the delays; it records each pass in a file
HASTY = """
import sys
import time
from scriptorium import main
from scriptorium.scheduler import backoff, driver, watch
passes = sys.argv.pop(1)
watch.POLL_INTERVAL, driver.IDLE_SLEEP, backoff.RETRY_DELAY = 0.005, (0.01, 0.01), (0.01, 0.05)
take = driver.Driver.pass_once
def pass_once(self):
    moved = take(self)
    with open(passes, "a") as file:
        file.write(".")
    return moved
driver.Driver.pass_once = pass_once
main.main()
"""


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch and an agent, but no spec."""
    equip(project)
    return project


def equip(project: Project) -> None:
    project.init()
    project.configure(endpoints={"local": "http://127.0.0.1:0"})
    project.agent(AGENT)


def runs(project: Project) -> list[str]:
    """Return the role and the subject of each run of the agent."""
    file = project.root.parent / "runs"
    return file.read_text().splitlines() if file.exists() else []


def tickets(project: Project) -> dict[str, list[str]]:
    """Return the names of the tickets by state, without empty states."""
    found: dict[str, list[str]] = {}
    for path in project.plan_files():
        if match := re.fullmatch(r"tickets/([^/]+)/(.+)\.md", path):
            found.setdefault(match[1], []).append(match[2])
    return found


@contextmanager
def hasty(project: Project, **env: str) -> Iterator[Started]:
    """Run a daemon with short delays for the length of a block."""
    passes = project.root.parent / "passes"
    passes.unlink(missing_ok=True)
    with project.running(str(passes), "run", python=("-c", HASTY), **env) as daemon:
        until(passes.exists)
        yield daemon


def turns(project: Project, number: int) -> None:
    """Wait until the hasty daemon has made that many more passes."""
    passes = project.root.parent / "passes"
    seen = passes.stat().st_size
    until(lambda: passes.stat().st_size >= seen + number)


def log_file(project: Project) -> Path:
    """Return the only session log."""
    (file,) = (project.root.parent / "root" / project.root.name).iterdir()
    return file


# -- the flow -------------------------------------------------------------------------------------------


def test_a_spec_becomes_areas_tickets_and_commits_on_master(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC}, "Write the spec")

    result = project.run("run", "--until-idle")

    assert (result.code, result.err) == (0, "")
    assert runs(project) == [
        "architect",
        "manager core",
        "manager extra",
        "coding core 0001-make",
        "coding extra 0002-make",
    ]
    assert tickets(project) == {"done": ["0001-make", "0002-make"]}
    assert project.plan_log() == [
        "scriptorium: initialize plan branch",
        "Write the spec",
        "scriptorium: update areas from spec",
        "scriptorium: create tickets from area core",
        "scriptorium: create tickets from area extra",
        "scriptorium: assign ticket 0001-make",
        "scriptorium: enqueue ticket 0001-make",
        "scriptorium: complete ticket 0001-make",
        "scriptorium: assign ticket 0002-make",
        "scriptorium: enqueue ticket 0002-make",
        "scriptorium: complete ticket 0002-make",
    ]
    assert project.git("ls-tree", "--name-only", "master").splitlines() == [
        "Makefile",
        "made-0001-make.txt",
        "made-0002-make.txt",
    ]
    assert project.git("status", "--porcelain") == ""
    assert project.git("for-each-ref", "--format=%(refname)").splitlines() == [
        "refs/heads/master",
        "refs/heads/scriptorium/plan",
    ]


def test_log_lines_go_to_stdout_and_to_a_file_of_the_session(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})

    lines = project.run("run", "--until-idle").out.splitlines()

    assert all(LINE.match(line) for line in lines)
    assert re.fullmatch(r"\[.{20}\] \[INFO\] orchestrator listening on http://127\.0\.0\.1:[1-9]\d*", lines[0])
    file = log_file(project)
    assert re.fullmatch(r"run_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.log", file.name)
    whole = file.read_text().splitlines()
    assert [line for line in whole if "[DEBUG]" not in line] == lines
    assert {line.partition("[DEBUG] ")[2] for line in whole} == {"", "sandbox: none ('script' has no sandbox)"}
    told = [re.sub(r"after \d+ seconds$", "after a while", line.partition("] [INFO] ")[2]) for line in lines]
    assert told[1:] == [
        f"repo: {project.root}",
        f"log file: {file}",
        "gate: 'make test' runs on master",
        "gate: green after a while",
        "architect: areas updated: core, extra",
        "manager: tickets created for area 'core': 0001-make",
        "manager: tickets created for area 'extra': 0002-make",
        "ticket '0001-make': attempt 1 begins",
        "coding agent called submit_pr, summary=Make it",
        "gate: 'make test' runs on ticket '0001-make'",
        "gate: green after a while",
        "merge queue: ticket '0001-make' landed",
        "ticket '0002-make': attempt 1 begins",
        "coding agent called submit_pr, summary=Make it",
        "gate: 'make test' runs on ticket '0002-make'",
        "gate: green after a while",
        "merge queue: ticket '0002-make' landed",
    ]


def test_log_level_of_the_environment_beats_the_configuration(project: Project) -> None:
    project.configure(logLevel="DEBUG")
    assert project.run("run", "--until-idle", env={"SCRIPTORIUM_LOG_LEVEL": "warn"}) == (0, "", "")
    assert WAITING in project.run("run", "--until-idle", env={"SCRIPTORIUM_LOG_LEVEL": "nonsense"}).out


def test_log_level_holds_for_stdout_and_file_each(project: Project) -> None:
    project.configure(logLevel="ERROR", fileLogLevel="WARN")

    result = project.run("run", "--until-idle")

    assert result == (0, "", "")
    assert log_file(project).read_text() == ""


def test_once_takes_each_step_once_and_leaves(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})

    first = project.run("run", "--once")
    assert (first.code, first.err) == (0, "")
    assert tickets(project) == {"done": ["0001-make"], "open": ["0002-make"]}

    assert project.run("run", "--once").code == 0
    assert tickets(project) == {"done": ["0001-make", "0002-make"]}

    log = project.plan_log()
    assert project.run("run", "--once").code == 0
    assert project.plan_log() == log
    assert len(runs(project)) == 5


def test_once_without_a_spec_leaves_at_once(project: Project) -> None:
    result = project.run("run", "--once")
    assert result.code == 0
    assert result.out.splitlines()[-1].endswith(WAITING)


def test_once_and_until_idle_exclude_each_other(project: Project) -> None:
    result = project.run("run", "--once", "--until-idle")
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith("hint: see 'scriptorium run --help'\n")


# -- waiting --------------------------------------------------------------------------------------------


def test_a_missing_spec_is_logged_once_and_a_commit_of_it_ends_the_wait(project: Project) -> None:
    with hasty(project) as daemon:
        daemon.says(WAITING)
        turns(project, 10)
        assert daemon.out.count("WAITING") == 1
        assert runs(project) == []

        project.commit_plan({"spec.md": SPEC})

        until(lambda: tickets(project) == {"done": ["0001-make", "0002-make"]})
        result = daemon.end(signal.SIGTERM)
    assert (result.code, result.err, result.out.count("WAITING")) == (143, "", 1)


def test_an_unwritable_directory_is_logged_once_and_the_daemon_recovers(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})
    gates = project.workspace.paths.ensure(project.paths.home) / "gates"
    gates.write_text("in the way\n")
    with hasty(project) as daemon:
        daemon.says(f"[ERROR] health: '{gates}': file exists")
        turns(project, 10)
        assert daemon.out.count("ERROR") == 1

        gates.unlink()

        until(lambda: tickets(project) == {"done": ["0001-make", "0002-make"]})
        assert daemon.end(signal.SIGTERM).code == 143


def test_deleted_spec_file_counts_as_no_spec(project: Project) -> None:
    project.commit_plan({"spec.md": None})
    result = project.run("run", "--until-idle")
    assert (result.code, result.out.count(WAITING)) == (0, 1)


def test_red_master_halts_everything_and_green_resumes_it(project: Project) -> None:
    project.gate("test ! -e broken")
    project.commit({"broken": ""})
    project.commit_plan({"spec.md": SPEC})
    project.ticket("0001")
    log = project.plan_log()
    with hasty(project) as daemon:
        daemon.says("[WARN] master is red at ")
        turns(project, 10)
        assert daemon.out.count("master is red") == 1
        assert project.plan_log() == log
        assert runs(project) == []

        project.git("rm", "--quiet", "broken")
        project.git("commit", "--quiet", "--message", "Repair the gate")

        daemon.says("[INFO] master is green again at ")
        until(lambda: len(tickets(project).get("done", [])) == 3)
        assert daemon.end(signal.SIGINT).code == 130
    assert daemon.out.count("master is") == 2


def test_red_master_ends_until_idle_with_exit_code_3(project: Project) -> None:
    project.gate("echo no; exit 7")
    project.commit_plan({"spec.md": SPEC})
    log = project.plan_log()

    result = project.run("run", "--until-idle")

    assert (result.code, result.err) == (3, "")
    red = [line for line in result.out.splitlines() if "master is red at" in line]
    assert len(red) == 1
    assert "everything halts until it is green (`make test` failed with exit code 2; see '" in red[0]
    assert project.plan_log() == log
    assert project.run("run", "--once").code == 3


def test_ticket_marked_repair_is_worked_on_while_master_is_red(project: Project) -> None:
    project.gate("test -e made-0002-repair.txt")
    project.commit_plan({"spec.md": "# Tool\n"})
    project.ticket("0001")
    project.commit_plan({"tickets/open/0002-repair.md": "---\narea: core\nrepair: true\n---\n# Repair\n"})

    result = project.run("run", "--until-idle")

    assert (result.code, result.err) == (0, "")
    assert tickets(project) == {"done": ["0001-thing", "0002-repair"]}
    assert [run for run in runs(project) if run.startswith("coding")] == [
        "coding core 0002-repair",
        "coding core 0001-thing",
    ]


def test_stuck_ticket_ends_until_idle_with_exit_code_1(project: Project) -> None:
    project.configure(max_attempts=2)
    project.commit_plan({"spec.md": "# Tool\n"})
    project.agent('echo "$SCRIPTORIUM_ROLE" >> "$(dirname "$0")/runs"')
    project.ticket("0001")

    result = project.run("run", "--until-idle")

    assert (result.code, result.err) == (1, "")
    assert tickets(project) == {"stuck": ["0001-thing"]}
    assert runs(project) == ["architect", "coding", "coding"]


def test_attempts_that_fail_are_repeated_until_the_ticket_is_stuck(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n"})
    project.agent('echo "$SCRIPTORIUM_ROLE" >> "$(dirname "$0")/runs"')
    project.ticket("0001")

    with project.running("passes", "run", "--until-idle", python=("-c", HASTY)) as run:
        assert run.end().code == 1

    assert tickets(project) == {"stuck": ["0001-thing"]}
    assert runs(project) == ["architect", *["coding"] * 5]


def test_an_unreachable_model_uses_no_attempt_and_ends_until_idle(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n"})
    project.configure(models={"architect": "script", "manager": "script"})
    answer = '{"type": "error", "message": "no key"}'
    write_script(project.root.parent / "home" / "bin" / "codex", f"cat > /dev/null; echo '{answer}'; exit 1")
    name = project.ticket("0001")
    before = project.plan_files()[f"tickets/open/{name}.md"]

    assert project.run("run", "--until-idle").code == 1

    assert project.plan_files()[f"tickets/open/{name}.md"] == before
    assert project.plan_log().count(f"scriptorium: reopen ticket {name}") == driver.MAX_FAILURES


def test_a_ticket_that_is_never_ready_ends_until_idle_with_exit_code_1(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n"})
    project.ticket("0001", depends=["0009"])

    result = project.run("run", "--until-idle")

    assert (result.code, result.err) == (1, "")
    assert result.out.splitlines()[-1].endswith(
        "[WARN] ticket '0001-thing': it depends on '0009', which does not exist"
    )


def test_ticket_that_cannot_be_read_is_told_although_another_was_worked_on(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n", "tickets/open/0001-bare.md": "# Bare\n"})
    project.ticket("0002")

    result = project.run("run", "--once")

    assert (result.code, result.err) == (1, "")
    assert tickets(project) == {"done": ["0002-thing"], "open": ["0001-bare"]}
    assert result.out.count("[WARN] ticket '0001-bare': it names no area") == 1


# -- one at a time --------------------------------------------------------------------------------------


def test_ticket_in_progress_that_a_person_broke_holds_up_nobody(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n", "tickets/in-progress/0001-broken.md": "---\narea: [\n---\n# Broken\n"})
    project.ticket("0002")

    result = project.run("run", "--until-idle")

    assert result.code == 1
    assert result.out.count("[WARN] ticket '0001-broken': its front matter is not YAML") == 1
    assert "[INFO] merge queue: ticket '0002-thing' landed" in result.out


def test_lock_of_somebody_else_is_waited_for_and_counts_as_no_failure(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})
    (project.root.parent / "hold-architect").touch()
    with held_architect(project), hasty(project, SCRIPTORIUM_LOG_LEVEL="debug") as daemon:
        daemon.says("[DEBUG] architect: another process is at work on 'the plan'", times=driver.MAX_FAILURES + 1)
        assert daemon.process.poll() is None
        assert "[ERROR]" not in daemon.out


@contextmanager
def held_architect(project: Project) -> Iterator[None]:
    """Run `scriptorium architect` in another process for the length of a block."""
    with project.running("architect") as other:
        until((project.root.parent / "held").exists)
        yield
        other.end(signal.SIGTERM)


def test_second_run_leaves_with_exit_code_75(project: Project) -> None:
    with project.running("run") as daemon:
        daemon.says("WAITING")
        second = project.run("run")
        assert second == (
            75,
            "",
            "scriptorium: another process is at work on 'run'\nhint: wait for it, or look with 'scriptorium status'\n",
        )
        assert daemon.end(signal.SIGTERM).code == 143
    assert project.run("run", "--until-idle").code == 0


def test_port_in_use_is_one_line_and_a_hint(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        project.configure(endpoints={"local": f"http://127.0.0.1:{port}"})
        result = project.run("run")
    assert result == (
        1,
        "",
        f"scriptorium: cannot listen on '127.0.0.1:{port}': address already in use\n"
        "hint: end the program that listens there, or set 'endpoints.local' in 'scriptorium.json'\n",
    )


def test_repositories_of_the_same_name_do_not_collide(project: Project, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = Project(tmp_path / "elsewhere" / "project")
    equip(other)
    for one in (project, other):
        one.commit_plan({"spec.md": SPEC})
    with project.running("run", "--until-idle") as first, other.running("run", "--until-idle") as second:
        assert (first.end().code, second.end().code) == (0, 0)
    for one in (project, other):
        assert tickets(one) == {"done": ["0001-make", "0002-make"]}
        assert len(runs(one)) == 5
    assert len(list((tmp_path / "root" / "project").iterdir())) == 2


# -- signals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_ends_an_idle_daemon(project: Project, name: str, code: int) -> None:
    with project.running("run") as daemon:
        daemon.says("WAITING")
        result = daemon.end(signal.Signals[name])
    assert (result.code, result.err) == (code, "")
    assert result.out.splitlines()[-1].endswith(f"[INFO] stopped by {name}")
    assert json.loads(project.run("status", "--json").out)["running"] is False


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_while_an_agent_runs_reopens_its_ticket_without_counting(project: Project, name: str, code: int) -> None:
    project.commit_plan({"spec.md": "# Tool\n"})
    ticket = project.ticket("0001")
    before = project.plan_files()[f"tickets/open/{ticket}.md"]
    with held(project, "coding") as daemon:
        result = daemon.end(signal.Signals[name])
    assert (result.code, result.err) == (code, "")
    assert result.out.splitlines()[-1].endswith(f"[INFO] stopped by {name}")
    assert project.plan_log()[-1] == f"scriptorium: reopen ticket {ticket}"
    assert project.plan_files()[f"tickets/open/{ticket}.md"] == before
    assert alive(project) == set()

    assert project.run("run", "--until-idle").code == 0
    assert tickets(project) == {"done": [ticket]}


def test_signal_while_a_planner_runs_leaves_the_plan_alone(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})
    log = project.plan_log()
    with held(project, "architect") as daemon:
        result = daemon.end(signal.SIGTERM)
    assert (result.code, result.err) == (143, "")
    assert project.plan_log() == log
    assert alive(project) == set()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_while_the_gate_runs_leaves_the_ticket_in_the_queue(project: Project, name: str, code: int) -> None:
    hold_gate(project)
    project.commit_plan({"spec.md": "# Tool\n"})
    ticket = project.ticket("0001")
    master = project.git("rev-parse", "master")
    with held(project, "gate") as daemon:
        result = daemon.end(signal.Signals[name])
    assert (result.code, result.err) == (code, "")
    assert tickets(project) == {"in-progress": [ticket]}
    assert json.loads(project.run("status", "--json").out)["queue"] == [ticket]
    assert project.git("rev-parse", "master") == master
    assert alive(project) == set()

    assert project.run("run", "--until-idle").code == 0
    assert tickets(project) == {"done": [ticket]}
    assert runs(project) == ["architect", f"coding core {ticket}"]


@pytest.mark.parametrize("where", ["architect", "manager", "coding", "gate"])
def test_run_after_a_kill_ends_as_an_undisturbed_one_would(project: Project, tmp_path: Path, where: str) -> None:
    (tmp_path / "calm").mkdir()
    calm = Project(tmp_path / "calm" / "project")
    equip(calm)
    for one in (project, calm):
        hold_gate(one)
        one.commit_plan({"spec.md": SPEC})
    assert calm.run("run", "--until-idle").code == 0

    with held(project, where) as daemon:
        assert daemon.end(signal.SIGKILL).code == 137
        until(lambda: not alive(project))
    result = project.run("run", "--until-idle")

    assert (result.code, result.err) == (0, "")
    assert project.plan_files() == calm.plan_files()
    assert master_files(project) == master_files(calm)
    assert project.git("for-each-ref", "--format=%(refname)") == calm.git("for-each-ref", "--format=%(refname)")


def hold_gate(project: Project) -> None:
    """Configure a gate that hangs once, on the work of a ticket, if there is a file `hold-gate`."""
    base = project.root.parent
    script = f"""\
ls made-* > {base}/ls 2>&1 && [ -e {base}/hold-gate ] || exit 0
rm {base}/hold-gate
sleep 1000 & echo $! $$ > {base}/draft
mv {base}/draft {base}/held
sleep 1000"""
    project.gate(f"{write_script(base / 'gate', script.replace('/bin/sh', 'sh'))}")


def master_files(project: Project) -> dict[str, str]:
    """Return the files on master, without the path of the repository that prompts put into them."""
    names = project.git("ls-tree", "--name-only", "master").splitlines()
    base = str(project.root.parent)
    return {name: project.git("show", f"master:{name}").replace(base, "") for name in names}


@contextmanager
def held(project: Project, where: str) -> Iterator[Started]:
    """Run a daemon for the length of a block that begins once an agent or the gate hangs."""
    (project.root.parent / f"hold-{where}").touch()
    with project.running("run") as daemon:
        until(lambda: (project.root.parent / "held").exists() or daemon.process.poll() is not None)
        assert len(alive(project)) >= 2, daemon.out + daemon.err
        yield daemon


def alive(project: Project) -> set[int]:
    """Return the hanging processes and their descendants."""
    pids = [int(pid) for pid in (project.root.parent / "held").read_text().split()]
    return watchdog.members("NO=MARK", *pids)


def test_signal_ends_the_wait_for_a_neighbour_that_tests_master(project: Project) -> None:
    gate = project.root.parent / "gate"
    write_script(gate, 'touch "$(dirname "$0")/waits"; sleep 1000')
    project.gate(str(gate))
    project.commit_plan({"spec.md": "# Tool\n"})
    with project.running("health") as health:
        until((project.root.parent / "waits").exists)
        with project.running("run") as daemon:
            daemon.says("log file")
            assert daemon.end(signal.SIGTERM).code == 143
        assert health.process.poll() is None
        assert health.end(signal.SIGTERM).code == 143


def test_reader_of_the_log_that_leaves_is_no_traceback(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})
    shell = '"$1" -m scriptorium run --until-idle | head -n 1'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable], cwd=project.root, capture_output=True, text=True, check=False
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
    assert tickets(project) == {"done": ["0001-make", "0002-make"]}
    assert log_file(project).read_text().count("landed") == 2


# -- a changed spec -------------------------------------------------------------------------------------


def test_changed_area_gets_new_tickets_and_the_others_cost_no_agent(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})
    assert project.run("run", "--until-idle").code == 0
    before = runs(project)

    project.commit_plan({"spec.md": SPEC.replace("the extras", "more extras")}, "Want more")
    assert project.run("run", "--until-idle").code == 0

    assert runs(project)[len(before) :] == ["architect", "manager extra", "coding extra 0003-make"]
    assert tickets(project) == {"done": ["0001-make", "0002-make", "0003-make"]}


def test_area_that_is_removed_or_edited_by_a_person_is_planned_as_it_is(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})
    assert project.run("run", "--until-idle").code == 0
    before = runs(project)

    project.commit_plan({"areas/core.md": None, "areas/extra.md": "# By hand\n"})
    assert project.run("run", "--until-idle").code == 0

    assert runs(project)[len(before) :] == ["manager extra", "coding extra 0003-make"]


def test_finished_plan_costs_no_agent_run_however_many_turns(project: Project) -> None:
    project.commit_plan({"spec.md": SPEC})
    assert project.run("run", "--until-idle").code == 0
    before, log = runs(project), project.plan_log()
    with hasty(project) as daemon:
        turns(project, 20)
        assert daemon.end(signal.SIGTERM).code == 143
    assert runs(project) == before
    assert project.plan_log() == log


def test_an_agent_that_wrote_nothing_runs_again_only_after_a_change(project: Project) -> None:
    project.agent('echo "$SCRIPTORIUM_ROLE $SCRIPTORIUM_AREA" | xargs >> "$(dirname "$0")/runs"')
    project.commit_plan({"spec.md": SPEC, "areas/core.md": "# Core\n"})
    with hasty(project) as daemon:
        until(lambda: "manager core" in runs(project))
        turns(project, 20)
        assert runs(project) == ["architect", "manager core"]

        project.commit_plan({"areas/core.md": "# Core, again\n"})
        until(lambda: len(runs(project)) > 2)
        turns(project, 20)
        assert daemon.end(signal.SIGTERM).code == 143
    assert runs(project) == ["architect", "manager core", "manager core"]


def test_planner_that_fails_is_tried_again_and_told_once(project: Project) -> None:
    project.agent('echo "$SCRIPTORIUM_ROLE" >> "$(dirname "$0")/runs"; exit 9')
    project.commit_plan({"spec.md": SPEC})
    with hasty(project) as daemon:
        until(lambda: len(runs(project)) >= 4)
        assert daemon.out.count("[ERROR] architect: the agent ended with exit code 9") == 1
        assert daemon.out.count("ERROR") == 1

        project.agent(AGENT)
        until(lambda: tickets(project) == {"done": ["0001-make", "0002-make"]})
        assert daemon.end(signal.SIGTERM).code == 143
    assert daemon.out.count("ERROR") == 1


def test_planner_that_goes_on_failing_ends_until_idle_with_exit_code_1(project: Project) -> None:
    project.agent('echo "$SCRIPTORIUM_ROLE" >> "$(dirname "$0")/runs"; exit 9')
    project.commit_plan({"spec.md": SPEC})
    result = project.run("run", "--until-idle")
    assert (result.code, result.err) == (1, "")
    assert runs(project) == ["architect"] * driver.MAX_FAILURES


def test_area_that_fails_keeps_no_other_from_its_tickets_and_is_paused(project: Project) -> None:
    project.agent(AGENT.replace("manager)", "manager)\n    [ $SCRIPTORIUM_AREA != core ] || exit 9"))
    project.commit_plan({"spec.md": SPEC})
    result = project.run("run", "--until-idle")
    assert (result.code, result.err) == (1, "")
    assert tickets(project) == {"done": ["0001-make"]}
    tried = [run for run in runs(project) if run.startswith("manager")]
    assert tried == ["manager core", "manager extra", *["manager core"] * (driver.MAX_FAILURES - 1)]
    assert result.out.count("[ERROR] manager-core: the agent ended with exit code 9") == 1


# -- delays ---------------------------------------------------------------------------------------------


def test_idle_daemon_starts_no_git_and_writes_no_line(project: Project, tmp_path: Path) -> None:
    project.commit_plan({"spec.md": SPEC})
    assert project.run("run", "--until-idle").code == 0
    calls = tmp_path / "calls"
    (tmp_path / "recording").mkdir()
    write_script(tmp_path / "recording" / "git", f'echo "$@" >> {calls}\nexec {shutil.which("git")} "$@"')
    with hasty(project, PATH=f"{tmp_path / 'recording'}:{os.environ['PATH']}") as daemon:
        turns(project, 2)
        lines, started = daemon.out, calls.read_text()
        assert started
        turns(project, 30)
        assert calls.read_text() == started
        assert daemon.out == lines
        assert daemon.end(signal.SIGTERM).code == 143


class Clock:
    """Time that passes only while the driver sleeps, up to an end."""

    class Over(Exception):
        """The time is over."""

    def __init__(self, end: float) -> None:
        self.now, self.end = 0.0, end

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.end:
            raise self.Over


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for half an hour of the driver."""
    clock = Clock(1800)
    for module in (driver, backoff, watch):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(watch, "POLL_INTERVAL", 1.0)
    return clock


def in_process(project: Project) -> Driver:
    workspace = Workspace.open(project.root)
    sockets = workspace.paths.ensure(workspace.paths.sockets)
    return Driver(workspace, Endpoint.local(sockets))


def test_rest_grows_to_a_minute_while_nothing_moves(project: Project, clock: Clock) -> None:
    looks: list[float] = []

    class Watched(Driver):
        def pass_once(self) -> bool:
            looks.append(clock.now)
            return super().pass_once()

    with in_process(project).endpoint as endpoint, pytest.raises(Clock.Over):
        Watched(Workspace.open(project.root), endpoint).forever()

    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(looks)]
    assert gaps[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(gaps[8:]) == {60}


def test_pause_after_a_failure_doubles_up_to_ten_minutes(
    project: Project, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def fail(workspace: Workspace, endpoint: Endpoint) -> list[str]:
        tries.append(clock.now)
        raise ScriptoriumError("no luck")

    monkeypatch.setattr(driver, "update_areas", fail)
    monkeypatch.setattr(driver, "write_tickets", fail)
    clock.end = 4000
    project.commit_plan({"spec.md": SPEC})
    with in_process(project).endpoint as endpoint, pytest.raises(Clock.Over):
        Driver(Workspace.open(project.root), endpoint).forever()

    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(tries)]
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600]


def test_architect_and_manager_that_both_fail_are_paused_each_for_itself(
    project: Project, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: dict[str, int] = {"update_areas": 0, "write_tickets": 0}

    def failing(name: str) -> None:
        def fail(workspace: Workspace, endpoint: Endpoint) -> list[str]:
            tries[name] += 1
            raise ScriptoriumError("no luck")

        monkeypatch.setattr(driver, name, fail)

    failing("update_areas")
    failing("write_tickets")
    project.commit_plan({"spec.md": SPEC, "areas/core.md": "# Core\n"})
    with in_process(project).endpoint as endpoint, pytest.raises(Clock.Over):
        Driver(Workspace.open(project.root), endpoint).forever()

    # 1 + 2 + 4 + … seconds within half an hour
    assert tries == {"update_areas": 12, "write_tickets": 12}


# -- configuration --------------------------------------------------------------------------------------


def test_configuration_edited_meanwhile_is_in_force(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n"})
    with hasty(project) as daemon:
        turns(project, 2)
        project.configure(gate="false")
        daemon.says("[INFO] 'scriptorium.json' has changed and is in force")
        daemon.says("[WARN] master is red at ")
        project.configure(gate="true")
        daemon.says("[INFO] master is green again at ")
        assert daemon.end(signal.SIGTERM).code == 143


def test_edited_branch_is_where_work_lands(project: Project) -> None:
    project.git("branch", "develop")
    project.commit_plan({"spec.md": "# Tool\n"})
    with hasty(project) as daemon:
        turns(project, 2)
        project.configure(branch="develop")
        daemon.says("has changed and is in force")
        project.ticket("0001")
        until(lambda: tickets(project) == {"done": ["0001-thing"]})
        assert daemon.end(signal.SIGTERM).code == 143
    assert project.git("ls-tree", "--name-only", "develop").splitlines() == ["Makefile", "made-0001-thing.txt"]
    assert project.git("ls-tree", "--name-only", "master").splitlines() == ["Makefile"]


def test_configuration_broken_meanwhile_is_told_and_the_old_one_stands(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n"})
    file = project.root / "scriptorium.json"
    right = file.read_text()
    with hasty(project) as daemon:
        turns(project, 2)
        draft = file.with_suffix(".draft")
        draft.write_text("{\n  oops\n")
        draft.replace(file)  # atomically, or the daemon may see an empty file first
        daemon.says("[ERROR] 'scriptorium.json': line 2 is not JSON")
        turns(project, 10)
        assert daemon.out.count("ERROR") == 1
        project.ticket("0001")
        until(lambda: tickets(project) == {"done": ["0001-thing"]})

        file.write_text(right)
        daemon.says("'scriptorium.json' has changed and is in force")
        assert daemon.end(signal.SIGTERM).code == 143


def test_an_edited_configuration_ends_the_delay_of_a_failing_step(project: Project, clock: Clock) -> None:
    project.commit_plan({"spec.md": "# Tool\n"})
    project.agent("exit 1")
    asked: list[float] = []

    class Mended(Driver):
        def pass_once(self) -> bool:
            moved = super().pass_once()
            if clock.now > 300 and not asked:
                project.configure(harnesses={"script": {"command": ["true"]}})
                asked.append(clock.now)
            if asked and "scriptorium: update areas from spec" in project.plan_log():
                asked.append(clock.now)
                raise Clock.Over
            return moved

    with in_process(project).endpoint as endpoint, pytest.raises(Clock.Over):
        Mended(Workspace.open(project.root), endpoint).forever()

    assert len(asked) == 2
    assert asked[1] - asked[0] <= 60


def test_ticket_without_a_worktree_holds_up_no_other(project: Project) -> None:
    project.commit_plan({"spec.md": "A tool.\n", "areas/core.md": "# Core\n"})
    project.agent("test -z \"$SCRIPTORIUM_TICKET\" || { echo x >$SCRIPTORIUM_TICKET; scriptorium submit-pr 'done'; }")
    for id in ("0001", "0002", "0003"):
        project.ticket(id, state="open" if id == "0003" else "in-progress")
    project.git("branch", "scriptorium/ticket-0001/in-the-way")  # git can then make no branch of the name without it

    result = project.run("run", "--until-idle")

    assert result.code == ExitCode.FAILED
    assert result.out.count("ticket '0001-thing': cannot create its worktree: 'git worktree' failed: fatal: ") == 1
    done = {path for path in project.plan_files() if path.startswith("tickets/done/0")}
    assert done == {"tickets/done/0002-thing.md", "tickets/done/0003-thing.md"}
    project.git("branch", "-D", "scriptorium/ticket-0001/in-the-way")
    assert project.run("run", "--until-idle").code == ExitCode.OK
    assert "tickets/done/0001-thing.md" in project.plan_files()


def test_drafts_of_writers_that_were_killed_go_and_those_of_others_stay(project: Project) -> None:
    gates = project.paths.ensure(project.paths.gates)
    left = gates / ".0123abcd.draft", project.paths.home / ".0123abcd.draft"
    at_work = gates / ".4567abcd.draft"
    for draft in (*left, at_work):
        draft.write_text("gre")
    for draft in left:
        os.utime(draft, (0, 0))

    assert project.run("run", "--once").code == 0

    assert [draft.exists() for draft in (*left, at_work)] == [False, False, True]


@pytest.mark.parametrize(("age", "stays"), [(600, False), (30, True)])
def test_a_stale_lock_of_packed_refs_is_removed(project: Project, age: float, stays: bool) -> None:
    lock = project.root / ".git" / "packed-refs.lock"
    lock.touch()
    os.utime(lock, (time.time() - age, time.time() - age))

    assert project.run("run", "--once").code == 0

    assert lock.exists() == stays


@pytest.mark.parametrize("left", ["worktree and branch", "half a worktree", "git directory", "branch"])
def test_remains_of_an_interrupted_landing_are_removed_at_the_start(
    project: Project, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    name = project.queued()
    with monkeypatch.context() as patched:
        patched.setattr(TicketWorktree, "remove", lambda *_: None)
        assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    match left:
        case "half a worktree":
            (project.worktree(name) / ".git").unlink()
            (project.worktree(name) / "Makefile").unlink()
        case "git directory":
            shutil.rmtree(project.worktree(name))
        case "branch":
            project.git("worktree", "remove", str(project.worktree(name)))
    lock = project.root / ".git" / "refs" / "heads" / "scriptorium" / "ticket-0001.lock"
    lock.touch()
    os.utime(lock, (0, 0))

    assert project.run("run", "--once").code == 0

    assert not project.worktree(name).exists()
    assert name not in project.git("worktree", "list")
    assert project.refs("refs/heads/scriptorium/ticket-") == {}
    assert not lock.exists()
