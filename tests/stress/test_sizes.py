"""Very large repositories: a ticket costs little more than the checkouts that it needs."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from scriptorium.gate.results import record_verdict
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from tests import figures
from tests.neighbours.cases import in_order, lands, rescued, show, submitted
from tests.stress.extent import FULL
from tests.support import DATE, Project

FILES, HUGE = (100_000, 512 * 2**20) if FULL else (25_000, 128 * 2**20)


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def test_a_huge_file_lands_and_one_that_was_left_behind_is_kept(project: Project) -> None:
    project.git("config", "core.bigFileThreshold", "1m")
    name = submitted(project, f"truncate -s {HUGE} huge; echo 1 >file")
    os.truncate(project.worktree(name) / "huge", HUGE + 1)

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)

    in_order(project, name)
    assert (project.root / "huge").stat().st_size == HUGE
    (ref,) = rescued(project)
    assert project.git("cat-file", "-s", f"{ref}:huge") == str(HUGE + 1)


def many_files(project: Project, count: int) -> None:
    """Commit so many files by fast-import, without writing them to the disk one by one."""
    files = "".join(f"M 100644 :1 d{number % 100}/f{number}\n" for number in range(count))
    stream = f"blob\nmark :1\ndata 2\n1\n\ncommit refs/heads/many\ncommitter P <p@example.com> {DATE}\ndata 4\nMany\n"
    stream += f"from refs/heads/master^0\n{files}\n"
    subprocess.run(["git", "fast-import", "--quiet"], cwd=project.root, input=stream.encode(), check=True)
    project.git("update-ref", "HEAD", "many")
    project.git("symbolic-ref", "HEAD", "refs/heads/elsewhere")  # the checkout of the user is not part of the costs


def test_many_files_cost_a_ticket_little_more_than_their_checkout(project: Project) -> None:
    many_files(project, FILES)
    workspace = project.workspace
    record_verdict(workspace, workspace.repository.tree_of(workspace.master_commit()), green=True)
    began = time.monotonic()
    project.git("worktree", "add", "--quiet", "--detach", "../floor", "many")
    floor = time.monotonic() - began

    began = time.monotonic()
    lands(project, "echo 2 >d0/f0")
    ratio = (time.monotonic() - began) / floor

    assert ratio < 10  # a checkout, its removal, and a few comparisons
    assert show(project, "d0/f0") == "2"
    counts = [("files", FILES), ("a ticket costs, in checkouts of them", f"{ratio:.1f}")]
    figures.publish("sizes", [*counts, ("MiB of a file that lands", HUGE >> 20)], whole=FULL)
