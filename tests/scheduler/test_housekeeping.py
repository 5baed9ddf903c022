"""Housekeeping: old output and loose objects go, and everything in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.gate.results import Colour, recall_verdict, record_verdict
from scriptorium.scheduler import driver, housekeeping
from scriptorium.scheduler.driver import Driver
from scriptorium.system import log
from tests.support import Project, until

pytestmark = pytest.mark.slow

LONG = housekeeping.KEPT_SECONDS + 3600


def age(*files: Path) -> None:
    """Make files too old to be kept."""
    then = time.time() - LONG
    for file in files:
        os.utime(file, (then, then))


def logs(project: Project, subject: str, *names: str) -> list[Path]:
    """Write output files of a ticket, or of the health check."""
    directory = project.workspace.paths.ensure(project.paths.attempts / subject)
    files = [directory / name for name in names]
    for file in files:
        file.write_text("said\n")
    return files


def test_output_of_done_tickets_is_removed_after_two_weeks(project: Project) -> None:
    project.init()
    for number, state in enumerate(("done", "open", "in-progress", "stuck"), 1):
        project.ticket(f"000{number}", state=state)
        age(*logs(project, f"000{number}-thing", "attempt-01.jsonl", "gate-01.log"))
    age(*logs(project, "removed-by-hand", "attempt-01.jsonl"))

    housekeeping.clean_up(project.workspace)

    left = sorted(path.name for path in project.paths.attempts.iterdir())
    assert left == ["0002-thing", "0003-thing", "0004-thing"]
    assert all(len(list(path.iterdir())) == 2 for path in project.paths.attempts.iterdir())


def test_output_stays_whole_while_a_part_of_it_is_young(project: Project) -> None:
    project.init()
    project.ticket("0001", state="done")
    old, _ = logs(project, "0001-thing", "attempt-01.jsonl", "attempt-02.jsonl")
    age(old)

    housekeeping.clean_up(project.workspace)

    assert old.exists()


def test_of_master_s_gate_only_old_output_goes(project: Project) -> None:
    project.init()
    old, young = logs(project, "health", "gate-01.log", "gate-02.log")
    age(old)

    housekeeping.clean_up(project.workspace)

    assert (old.exists(), young.exists()) == (False, True)


def test_old_answers_of_the_gate_go_but_master_s(project: Project) -> None:
    project.init()
    workspace = project.workspace
    master, other = workspace.repository.tree_of(workspace.master_commit()), "1" * 40
    for tree in (master, other):
        record_verdict(workspace, tree, green=True)
    age(*project.paths.gates.iterdir())

    housekeeping.clean_up(workspace)

    assert (recall_verdict(workspace, master), recall_verdict(workspace, other)) == (Colour.GREEN, Colour.UNKNOWN)


def test_old_session_logs_go_but_one_that_is_in_use(project: Project) -> None:
    project.init()
    directory = project.workspace.paths.ensure(project.paths.sessions)
    old, used = log.session_file(directory), log.session_file(directory)
    with (directory / "stream").open("w") as stream:
        log.start(stream, "INFO", used)
        age(old, used)

        housekeeping.clean_up(project.workspace)
    assert (old.exists(), used.exists()) == (False, True)


def test_loose_objects_are_packed_when_git_finds_them_too_many(project: Project) -> None:
    project.init()
    project.git("config", "gc.auto", "300")
    project.commit({f"files/{number}": f"{number}\n" for number in range(1000)})

    housekeeping.clean_up(project.workspace)

    def loose() -> int:
        return int(project.git("count-objects").split()[0])

    until(lambda: loose() == 0 and not (project.root / ".git" / "gc.pid").exists())
    assert project.git("fsck", "--strict") == ""


def test_objects_are_left_alone_where_the_user_has_said_so(project: Project) -> None:
    project.init()
    project.git("config", "gc.auto", "0")
    project.commit({f"files/{number}": f"{number}\n" for number in range(8000)})

    housekeeping.clean_up(project.workspace)

    assert project.git("count-objects").split()[0] > "8000"


def test_the_driver_tidies_when_it_starts_and_then_once_in_a_while(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.init()
    rounds: list[object] = []
    monkeypatch.setattr(housekeeping, "clean_up", rounds.append)
    with Endpoint("127.0.0.1", 0, project.workspace.paths.ensure(project.paths.sockets)) as endpoint:
        driving = Driver(project.workspace, endpoint)
        driving.pass_once()
        driving.pass_once()
        assert len(rounds) == 1

        monkeypatch.setattr(driver, "HOUSEKEEPING_INTERVAL", 0.0)
        driving.pass_once()

    assert len(rounds) == 2
