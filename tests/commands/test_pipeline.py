"""The steps as a shell pipeline, record by record."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import PLAN, Project, Result

pytestmark = pytest.mark.slow

PIPELINE = "scriptorium assign | scriptorium code | scriptorium merge"


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: None) -> None:
    project.init()
    project.agent('echo "$SCRIPTORIUM_TICKET" >>"$SCRIPTORIUM_TICKET"; scriptorium submit-pr done')


def sh(project: Project, script: str, cwd: str = ".") -> Result:
    """Run a shell line as the user would, and return the exit code of its last step."""
    done = subprocess.run(["sh", "-c", script], cwd=project.root / cwd, capture_output=True, text=True, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def stages(project: Project) -> str:
    """Return the pipeline for bash, with the exit codes of all steps as its last line."""
    return f"{PIPELINE}; echo ${{PIPESTATUS[*]}}"


def test_a_ticket_goes_from_open_to_landed(project: Project) -> None:
    name = project.ticket("0001-with a ü 'quote'")
    project.ticket("0002")

    result = sh(project, PIPELINE)

    assert result == (
        0,
        f"{name}\tlanded\n",
        f"scriptorium: ticket '{name}': attempt 1 begins\n"
        "scriptorium: coding agent called submit_pr, summary=done\n"
        f"scriptorium: merge queue: ticket '{name}' landed\n",
    )
    assert (project.root / name).read_text() == f"{name}\n"
    assert project.plan_log()[-3:] == [
        f"scriptorium: {verb} ticket {name}" for verb in ("assign", "enqueue", "complete")
    ]
    assert project.git("status", "--porcelain") == ""


def test_with_nothing_to_do_it_prints_nothing_and_exits_0(project: Project) -> None:
    before = project.git("rev-parse", PLAN)

    assert sh(project, PIPELINE) == (0, "", "")
    assert project.git("rev-parse", PLAN) == before


def test_each_pass_lands_the_next_ticket_in_dependency_order(project: Project) -> None:
    project.ticket("0001", depends=["0003"])
    project.ticket("0002", depends=["0001"])
    project.ticket("0003")

    result = sh(project, f"for i in 1 2 3 4; do {PIPELINE}; done")

    assert result[:2] == (0, "0003-thing\tlanded\n0001-thing\tlanded\n0002-thing\tlanded\n")


def test_several_records_at_once_are_worked_off(project: Project) -> None:
    names = [project.ticket(id) for id in ("0001", "0002", "0003")]

    result = sh(project, "for i in 1 2 3; do scriptorium assign; done | scriptorium code | scriptorium merge")

    assert result[:2] == (0, "".join(f"{name}\tlanded\n" for name in names))


def test_an_agent_that_fails_breaks_only_its_own_step(project: Project) -> None:
    name = project.ticket("0001")
    project.agent("exit 1")

    result = subprocess.run(
        ["bash", "-c", stages(project)], cwd=project.root, capture_output=True, text=True, check=False
    )

    assert result.stdout == "0 1 0\n"
    assert f"scriptorium: ticket '{name}': attempt failed: The agent ended with exit code 1\n" in result.stderr
    assert f"tickets/open/{name}.md" in project.plan_files()


def test_a_red_gate_is_a_record_and_the_next_pass_tries_again(project: Project) -> None:
    project.gate("test ! -e 0001-thing || test $$(wc -l <0001-thing) -gt 1")
    name = project.ticket("0001")

    assert sh(project, PIPELINE)[:2] == (0, f"{name}\treopened\n")
    assert sh(project, PIPELINE)[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / name).read_text() == f"{name}\n{name}\n"


def test_two_pipelines_at_once_do_nothing_twice_and_lose_nothing(project: Project) -> None:
    names = [project.ticket(id) for id in ("0001", "0002", "0003", "0004")]

    both = [subprocess.Popen(["sh", "-c", PIPELINE], cwd=project.root, stderr=subprocess.DEVNULL) for _ in range(2)]
    for pipeline in both:
        pipeline.wait()
    result = sh(project, f"scriptorium merge; for i in 1 2 3 4; do {PIPELINE}; done; scriptorium merge")

    assert result.code == 0
    assert sorted(path for path in project.plan_files() if path.startswith("tickets/done/0")) == [
        f"tickets/done/{name}.md" for name in names
    ]
    log = project.plan_log()
    assert [log.count(f"scriptorium: complete ticket {name}") for name in names] == [1] * 4
    assert [(project.root / name).read_text() for name in names] == [f"{name}\n" for name in names]


def test_it_works_from_a_sub_directory_and_from_a_linked_worktree(project: Project) -> None:
    project.commit({"deep/down/file": "x\n"})
    project.git("worktree", "add", "--quiet", "linked", "-b", "side")
    (project.root / ".git" / "info" / "exclude").open("a").write("linked\n")
    first, second = project.ticket("0001"), project.ticket("0002")

    assert sh(project, PIPELINE, "deep/down")[:2] == (0, f"{first}\tlanded\n")
    assert sh(project, PIPELINE, "linked")[:2] == (0, f"{second}\tlanded\n")

    assert [path.name for path in project.paths.root.iterdir()] == [project.paths.key]
    assert (project.root / second).exists()
    assert not (project.root / "linked" / second).exists()


def test_a_reader_that_is_gone_is_no_bug(project: Project) -> None:
    name = project.ticket("0001")
    reader, writer = os.pipe()
    os.close(reader)

    argv = [sys.executable, "-m", "scriptorium", "assign"]
    done = subprocess.run(argv, cwd=project.root, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)

    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"tickets/in-progress/{name}.md" in project.plan_files()


def test_a_ticket_that_gets_its_number_in_the_pipeline_lands_in_it(project: Project) -> None:
    project.commit_plan({"tickets/open/mend the build.md": "---\narea: core\n---\n# Mend it\n"})
    project.agent("sleep 1; echo x >file; scriptorium submit-pr 'Mend it'")  # merge has started long before

    done = subprocess.run(
        "scriptorium assign | scriptorium code | scriptorium merge",
        shell=True, cwd=project.root, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "0001-mend-the-build\tlanded\n"), done.stderr
