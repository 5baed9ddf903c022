"""Too little free disk space: no new work begins, no ticket is blamed, and work goes on once there is space."""

from __future__ import annotations

import os
import signal

import pytest

from scriptorium.errors import ExitCode
from scriptorium.project import disk
from tests.support import Project, until

pytestmark = pytest.mark.slow

FULL = 10**8
"""More MiB than any disk has."""


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def complaint(project: Project) -> str:
    hint = "free some space, see 'scriptorium clean', or set 'disk_floor' in 'scriptorium.json'"
    words = f"the disk of '{project.root}' has less than {FULL} MiB left, so no new work begins"
    return f"scriptorium: {words}\nhint: {hint}\n"


def test_no_step_begins_new_work(project: Project) -> None:
    name = project.queued("0001")
    project.ticket("0002", state="in-progress")
    project.ticket("0003")
    before = project.refs()
    project.configure(disk_floor=FULL)
    for step in (["assign"], ["code", "0002"], ["merge"], ["health"], ["ask", "why?"], ["plan", "a tool"]):
        assert project.run(*step) == (ExitCode.FAILED, "", complaint(project)), step
    assert project.refs() == before

    project.configure(disk_floor=0)
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_a_run_says_it_once_and_goes_on_when_there_is_room(project: Project) -> None:
    project.commit_plan({"spec.md": "A tool.\n", "areas/core.md": "# Core\n"})
    project.agent("test -z \"$SCRIPTORIUM_TICKET\" || { echo x >x; scriptorium submit-pr 'done'; }")
    project.ticket("0001")
    project.configure(disk_floor=FULL, endpoints={"local": "http://127.0.0.1:0"})
    with project.running("run") as run:
        run.says("so no new work begins")
        project.configure(disk_floor=0)
        until(lambda: "tickets/done/0001-thing.md" in project.plan_files())
        assert run.end(signal.SIGINT).code == ExitCode.INTERRUPTED
    assert run.out.count("so no new work begins") == 1
    assert "attempts: 1" not in project.plan_files()["tickets/done/0001-thing.md"]


def test_each_disk_is_looked_at_once_wherever_its_directories_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(path, left)] = disk.free_space(project.workspace)  # the state directory will be on the same disk
    found = os.statvfs(project.root)
    assert path == project.root
    assert abs(left - found.f_bavail * found.f_frsize // 2**20) < 1024
    monkeypatch.setenv("SCRIPTORIUM_ROOT", "/dev/shm/nothing/there")
    assert [str(path) for path, _ in disk.free_space(project.workspace)] == [str(project.root), "/dev/shm"]
