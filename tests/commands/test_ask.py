"""scriptorium ask: an answer on stdout, and no change."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scriptorium.system import locks
from tests.support import PLAN, Project, busy_pids, is_alive, kept, until


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan, an edit by the user, and a file on master."""
    project.init()
    project.commit({"source.txt": "ink\n"})
    (project.root / "source.txt").write_text("edited\n")
    return project


def state(project: Project) -> tuple[dict[str, str], str, str, str]:
    """Return all refs, HEAD, the changes of the user's checkout and the worktrees."""
    return (
        project.refs(),
        (project.root / ".git" / "HEAD").read_text(),
        project.git("status", "--porcelain"),
        project.git("worktree", "list"),
    )


def test_question_is_answered_from_a_checkout_of_master_and_nothing_moves(project: Project) -> None:
    before = state(project)
    project.agent("echo 'I look around.'; git status --porcelain; cat source.txt")

    result = project.run("ask", "What is", "in the source?")

    assert result == (0, "ink\n", "I look around.\n")
    assert state(project) == before
    assert list(project.paths.ask_directory("x").parent.iterdir()) == []
    assert list(project.paths.ask_lock("x").parent.iterdir()) == []


def test_prompt_tells_spec_areas_tickets_and_the_question(project: Project, facts: Path) -> None:
    project.commit_plan({"spec.md": "# Tool $x\n", "areas/core.md": "# The core\n"})
    project.ticket("0001", state="done")
    project.ticket("0002")
    project.agent('cat >"$FACTS/prompt"; test -f ../plan/tickets/open/0002-thing.md; cat ../plan/spec.md')

    assert project.run("ask", "Why {{so}}?").out == "# Tool $x\n"

    text = (facts / "prompt").read_text()
    assert f"the project in {project.root}." in text
    assert "--- spec.md ---\n# Tool $x\n" in text
    assert "--- areas ---\ncore: # The core\n" in text
    assert "--- tickets ---\n0002-thing (open)\n0001-thing (done)\n" in text
    assert text.endswith("--- question ---\nWhy {{so}}?\n")


def test_before_there_is_a_spec_and_while_master_is_red_it_answers(project: Project, facts: Path) -> None:
    project.gate("false")
    assert project.run("health").code == 3
    project.agent('cat >"$FACTS/prompt"; echo Yes.')
    assert project.run("ask", "Are you there?") == (0, "Yes.\n", "")
    assert (
        "--- spec.md ---\nnone yet\n\n--- areas ---\nnone\n\n--- tickets ---\nnone\n" in (facts / "prompt").read_text()
    )


@pytest.mark.parametrize("argv", [("ask",), ("ask", " ")])
def test_without_a_question_it_is_a_usage_error(project: Project, argv: tuple[str, ...]) -> None:
    hint = 'hint: scriptorium ask "what you want to know"'
    assert project.run(*argv) == (2, "", f"scriptorium: the question is empty\n{hint}\n")


def test_it_can_be_asked_while_a_planner_is_at_work_and_twice_at_once(project: Project, facts: Path) -> None:
    project.paths.ensure(project.paths.lock("repo").parent)
    project.agent('touch "$FACTS/$$"; while ! [ -e "$FACTS/go" ]; do sleep 0.02; done; cat source.txt')
    with locks.hold(project.paths.lock("repo"), "the plan"), project.running("ask", "One?") as one:
        until(lambda: len(list(facts.iterdir())) == 1)
        with project.running("ask", "Two?") as two:
            until(lambda: len(list(facts.iterdir())) == 2)
            (facts / "go").touch()
            assert (one.end().out, two.end().out) == ("ink\n", "ink\n")
    asked = [file.read_text().splitlines()[-1] for file in project.paths.attempts.glob("ask/*.prompt.md")]
    assert sorted(asked) == ["One?", "Two?"]


def test_files_and_commits_of_the_agent_are_kept_and_logged(project: Project) -> None:
    before = state(project)
    project.agent("echo x > file; git add file; git commit -qm Mine; echo y > other; echo Done.")

    result = project.run("ask", "Do it")

    assert (result.code, result.out) == (0, "Done.\n")
    assert result.err.endswith(f"the agent wrote files while it answered: kept as '{kept(project)}'\n")
    assert project.git("show", f"{kept(project)}:other") == "y"
    assert project.git("show", f"{kept(project)}:file") == "x"
    assert state(project)[1:] == before[1:]
    assert {ref: oid for ref, oid in project.refs().items() if ref != kept(project)} == before[0]


def test_repository_that_the_agent_made_is_kept_with_all_its_history(project: Project) -> None:
    project.agent("git init -q own; git -C own commit -q --allow-empty -m One; echo Done.")

    result = project.run("ask", "Do it")

    assert (result.code, result.out) == (0, "Done.\n")
    [aside] = project.paths.ask_directory("x").parent.glob("*/source.found-*")
    assert f"'own' is a repository of its own: kept in '{aside}'" in result.err
    assert project.git("log", "--format=%s", cwd=aside / "own") == "One"


def test_failure_of_an_agent_is_reported_with_its_last_words(project: Project) -> None:
    project.agent("echo 'I cannot.'; exit 3")
    result = project.run("ask", "Why?")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("I cannot.\nscriptorium: ask: the agent ended with exit code 3\nhint: see '")


def test_checkout_that_the_agent_broke_is_moved_aside(project: Project) -> None:
    project.agent("rm .git; echo x > precious; echo Done.")
    assert project.run("ask", "Break it").out == "Done.\n"
    (left,) = project.paths.ask_directory("x").parent.iterdir()
    assert (next(left.glob("source.found-*")) / "precious").read_text() == "x\n"
    project.agent("echo Yes.")
    assert project.run("ask", "Again?") == (0, "Yes.\n", "")
    assert left.exists()


def test_checkout_that_cannot_be_read_is_cleared_by_a_later_run(project: Project) -> None:
    project.agent("head -c 51200 /dev/urandom >notes; echo Done.")
    limited = f"ulimit -f 100; exec {sys.executable} -m scriptorium ask Why?"  # git's object for the file is longer
    done = subprocess.run(["/bin/sh", "-c", limited], cwd=project.root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Done.\n"), done.stderr
    assert "stays until the next run" in done.stderr
    (left,) = project.paths.ask_directory("x").parent.iterdir()
    assert [path.name for path in left.iterdir()] == ["source"]

    project.agent("echo Yes.")
    assert project.run("ask", "Again?")[:2] == (0, "Yes.\n")
    assert len(project.git("cat-file", "-s", f"{kept(project)}:notes")) == 5
    assert list(project.paths.ask_directory("x").parent.iterdir()) == []


def test_ctrl_c_ends_the_agent_and_removes_the_checkout(project: Project, facts: Path) -> None:
    before = state(project)
    project.agent('echo $$ >"$FACTS/new"; mv "$FACTS/new" "$FACTS/pids"; exec sleep 600')
    with project.running("ask", "Why?") as asking:
        pids = busy_pids(facts)
        assert asking.end(signal.SIGINT).code == 130
    assert not any(map(is_alive, pids))
    assert state(project) == before
    assert list(project.paths.ask_directory("x").parent.iterdir()) == []


def test_what_a_killed_command_left_is_cleared_by_the_next_and_kept(project: Project, facts: Path) -> None:
    project.agent('echo x > notes; echo $$ >"$FACTS/new"; mv "$FACTS/new" "$FACTS/pids"; exec sleep 600')
    with project.running("ask", "Why?") as asking:
        busy_pids(facts)
        asking.end(signal.SIGKILL)
    project.agent("echo Yes.")
    assert project.run("ask", "Again?")[:2] == (0, "Yes.\n")
    assert project.git("show", f"{kept(project)}:notes") == "x"
    assert list(project.paths.ask_directory("x").parent.iterdir()) == []
    assert list(project.paths.ask_lock("x").parent.iterdir()) == []


def test_without_a_plan_branch_it_says_what_to_run(tmp_path: Path) -> None:
    result = Project(tmp_path / "other").run("ask", "Why?")
    assert (result.code, result.out) == (78, "")
    assert f"there is no branch '{PLAN}'\nhint: run 'scriptorium --init' in this repository\n" in result.err
