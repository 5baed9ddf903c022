"""scriptorium plan: a session on a terminal."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.commands.plan_cases import (
    ANSWER,
    PROMPT,
    WRITES,
    Terminal,
    prompt,
)
from tests.support import Project, kept, until

pytestmark = pytest.mark.slow


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def test_session_on_a_terminal_has_a_prompt_and_a_coloured_diff(project: Project) -> None:
    project.agent('echo "# Tool" > spec.md; echo "Yes."')
    with Terminal(project, "plan") as terminal:
        terminal.expect("planning session; /help lists the commands")
        terminal.expect(PROMPT)
        terminal.type("Write a tool")
        terminal.expect("Yes.")
        terminal.expect("\x1b[31m-# Spec\x1b[0m")
        terminal.expect("\x1b[32m+# Tool\x1b[0m")
        terminal.expect(PROMPT)
        terminal.type("/show")
        terminal.expect("# Tool")
        terminal.type("/quit")
        assert terminal.code() == 0
    assert project.plan_files()["spec.md"] == "# Tool\n"


def test_no_color_is_heeded(project: Project) -> None:
    project.agent('echo "# Tool" > spec.md; echo "Yes."')
    with Terminal(project, "plan", NO_COLOR="1") as terminal:
        terminal.expect(PROMPT)
        terminal.type("Write a tool")
        terminal.expect("\r\n+# Tool\r\n")
        terminal.expect(PROMPT)
        terminal.type("\x04", end="")
        assert terminal.code() == 0


def test_what_the_agent_says_is_shown_as_it_comes(project: Project) -> None:
    go = project.root.parent / "go"
    project.agent(f"echo 'I look around.'; while ! [ -e {go} ]; do sleep 0.02; done; echo 'It is done.'")
    with Terminal(project, "plan") as terminal:
        terminal.expect(PROMPT)
        terminal.type("Write a tool")
        terminal.expect("I look around.\r\n")
        assert "It is done." not in terminal.seen
        go.touch()
        terminal.expect("It is done.\r\n")
        terminal.expect(PROMPT)
        terminal.type("/quit")
        assert terminal.code() == 0
        assert terminal.seen.count("It is done.") == 1


def test_ctrl_c_drops_the_line_or_ends_the_turn_and_ctrl_d_leaves(project: Project) -> None:
    project.agent('echo "# Tool" > spec.md; touch ../thinks; sleep 1000')
    with Terminal(project, "plan") as terminal:
        terminal.expect(PROMPT)
        terminal.type("Write a t\x03", end="")
        terminal.expect(PROMPT)
        terminal.type("Write a tool")
        until(lambda: list((project.root.parent / "root").glob("*/worktrees/thinks")))
        terminal.type("\x03", end="")
        terminal.expect("scriptorium: the turn is stopped\r\n")
        terminal.expect(PROMPT)
        project.agent(WRITES)
        terminal.type("Write it now")
        terminal.expect(ANSWER)
        terminal.expect(PROMPT)
        terminal.type("\x04", end="")
        assert terminal.code() == 0
        assert "Traceback" not in terminal.seen
    assert project.plan_log() == ["scriptorium: initialize plan branch", "scriptorium: update spec from architect"]
    history = "Engineer: Write a tool\n\nArchitect: (Nothing of this turn was committed: the engineer stopped it)\n"
    assert history in prompt(project)
    assert project.git("show", f"{kept(project)}:spec.md") == "# Tool"


def test_lines_of_earlier_sessions_come_back_by_the_arrow_key(project: Project) -> None:
    project.agent("cat > ../prompt; echo Yes.")
    for typed in ("First", "\x1b[A\x1b[A, again"):  # the newest line is /quit
        with Terminal(project, "plan") as terminal:
            terminal.expect(PROMPT)
            terminal.type(typed)
            terminal.expect("Yes.")
            terminal.expect(PROMPT)
            terminal.type("/quit")
            assert terminal.code() == 0
    assert "--- request ---\nFirst, again\n" in prompt(project)


def test_a_request_may_have_several_lines_typed_or_pasted(project: Project) -> None:
    project.agent("cat > ../prompt; echo Yes.")
    with Terminal(project, "plan") as terminal:
        terminal.expect(PROMPT)
        terminal.type("One\x1b\rtwo")
        terminal.expect("Yes.")
        assert "--- request ---\nOne\ntwo\n" in prompt(project)
        terminal.expect(PROMPT)
        terminal.type("\x1b[200~/three\nfour\x1b[201~")
        terminal.expect("Yes.")
        assert "--- request ---\n/three\nfour\n" in prompt(project)
        terminal.expect(PROMPT)
        terminal.type("/quit")
        assert terminal.code() == 0


def test_sigterm_at_the_prompt_leaves_the_terminal_as_it_was(project: Project) -> None:
    with Terminal(project, "plan") as terminal:
        before = terminal.settings()
        terminal.expect(PROMPT)
        until(lambda: terminal.settings() != before)
        terminal.signal(signal.SIGTERM)
        assert terminal.code() == 143
        assert terminal.settings() == before
        assert "Traceback" not in terminal.seen


def test_through_a_pipe_ctrl_c_leaves_with_exit_code_130(project: Project) -> None:
    project.agent(f"touch {project.root.parent}/busy; sleep 1000")
    session = project.start("plan", stdin=subprocess.PIPE)
    assert session.stdin is not None
    session.stdin.write("Write a tool\n")
    session.stdin.flush()
    until((project.root.parent / "busy").exists)
    session.send_signal(signal.SIGINT)
    assert session.wait(60) == 130
