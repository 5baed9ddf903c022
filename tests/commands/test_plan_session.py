"""scriptorium plan: a session of several requests, and a conversation that continues."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from scriptorium.planning.conversation import Turn, render_turns
from tests.commands.plan_cases import (
    ANSWER,
    DIFF,
    HELP,
    WRITES,
    prompt,
)
from tests.support import Project, until

pytestmark = pytest.mark.slow


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


# -- a session ------------------------------------------------------------------------------------------


def test_session_reads_requests_and_commands_from_a_pipe(project: Project) -> None:
    project.agent('cat > ../prompt; echo "# Tool, again" >> spec.md; echo "Yes."')
    project.commit_plan({"spec.md": "# Tool\n"})

    result = project.run("plan", input="/help\nFirst\n\n  /show  \nSecond\n/nonsense\n/quit\nNever\n")

    assert result.code == 0
    change = "--- a/spec.md\n+++ b/spec.md\n@@ -{} @@\n # Tool\n{}+# Tool, again\n"
    assert result.out == (
        f"{HELP}Yes.\n{change.format('1 +1,2', '')}# Tool\n# Tool, again\n"
        f"Yes.\n{change.format('1,2 +1,3', ' # Tool, again' + chr(10))}'/nonsense' is not a command; /help lists them\n"
    )
    assert result.err == "scriptorium: spec.md is updated\n" * 2
    assert project.plan_log()[-2:] == [
        "scriptorium: update spec from architect",
        "scriptorium: plan session turn 2",
    ]
    assert "--- the session so far ---\nEngineer: First\n\nArchitect: Yes.\n" in prompt(project)
    assert "--- request ---\nSecond\n" in prompt(project)


def test_end_of_input_leaves_the_session(project: Project) -> None:
    project.agent(WRITES)
    assert project.run("plan", input="") == (0, "", "")


def test_failed_turn_is_reported_and_the_session_continues(project: Project) -> None:
    project.agent("grep -qx Badly && exit 3; echo '# Tool' > spec.md; echo Yes.")

    result = project.run("plan", input="Badly\nWell\n")
    assert (result.code, result.out) == (0, f"Yes.\n{DIFF}")
    assert "scriptorium: plan: the agent ended with exit code 3\nhint: see '" in result.err

    assert project.run("plan", input="Well\nBadly\n").code == 1


def test_what_the_agent_says_meanwhile_is_no_part_of_the_answer(project: Project) -> None:
    project.agent("echo 'I look around.'; echo 'It is done.'")
    result = project.run("plan", "Write a tool")
    assert result == (0, "It is done.\n", "I look around.\nscriptorium: spec.md is unchanged\n")
    assert project.run("plan", input="Again\n").out == "I look around.\nIt is done.\n"


def test_what_the_terminal_has_no_letters_for_is_a_question_mark(project: Project) -> None:
    project.agent("echo 'T\u00fcr'; echo '# \u20ac' > spec.md; printf 'a\\033[2Jb\\302\\233c\\n'")
    result = project.run("plan", input="Write a tool\n/show\n", env={"PYTHONIOENCODING": "ascii"})
    assert result.code == 0
    assert result.out.startswith("T?r\nab?c\n---")
    assert result.out.endswith("+# ?\n# ?\n")


def test_last_words_of_an_agent_that_fails_are_shown(project: Project) -> None:
    project.agent("echo 'I cannot.'; exit 3")
    result = project.run("plan", "Write a tool")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("I cannot.\nscriptorium: plan: the agent ended with exit code 3\n")


# -- continuing a conversation --------------------------------------------------------------------------


def conversation(project: Project) -> Path:
    (file,) = (project.root.parent / "root").glob("*/conversation.jsonl")
    return file


def test_next_request_goes_on_with_the_conversation_and_new_begins_another(project: Project) -> None:
    project.agent(WRITES)
    assert project.run("plan", "First").code == 0

    second = project.run("plan", "Second")
    assert re.fullmatch(
        r"scriptorium: turn 2 of the conversation of \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ; --new begins another\n"
        r"scriptorium: spec.md is unchanged\n",
        second.err,
    )
    assert f"--- the session so far ---\nEngineer: First\n\nArchitect: {ANSWER}\n" in prompt(project)

    assert project.run("plan", "--new", "Third") == (0, f"{ANSWER}\n", "scriptorium: spec.md is unchanged\n")
    assert "Engineer:" not in prompt(project)
    assert project.run("plan", input="Fourth\n/new\nFifth\n").code == 0
    assert "Engineer:" not in prompt(project)
    assert project.run("plan", "Sixth").code == 0
    assert f"Engineer: Fifth\n\nArchitect: {ANSWER}\n" in prompt(project)
    assert "Fourth" not in prompt(project)


def test_conversation_is_kept_for_its_user_alone_and_without_secrets(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "inherited-secret")
    project.agent("echo inherited-secret; echo and inherited-secret, too")
    result = project.run("plan", "Tell me")
    assert result.out == "and [removed], too\n"
    assert "inherited-secret" not in result.err + conversation(project).read_text()
    assert conversation(project).stat().st_mode & 0o777 == 0o600


def test_killed_turn_is_reported_and_the_conversation_continues(project: Project) -> None:
    project.agent(f"cat > ../prompt; touch {project.root.parent}/busy; sleep 1000")
    with project.running("plan", "Slowly") as first:
        until((project.root.parent / "busy").exists)
        first.end(signal.SIGKILL)
    with conversation(project).open("a") as file:
        file.write('{"end": {"answer": "torn in the mid')
    project.agent(WRITES)

    result = project.run("plan", "Again")

    assert (result.code, result.out) == (0, f"{ANSWER}\n")
    assert "scriptorium: its last turn was interrupted: Slowly\n" in result.err
    assert "Engineer: Slowly\n\nArchitect: (This turn was interrupted)\n" in prompt(project)
    assert project.run("plan", "More").code == 0
    assert f"Engineer: Again\n\nArchitect: {ANSWER}\n" in prompt(project)


def test_agent_learns_that_a_turn_was_refused(project: Project) -> None:
    project.agent("echo x > areas/mine.md")
    assert project.run("plan", "Write").code == 1
    project.agent(WRITES)
    assert project.run("plan", "Again").code == 0
    why = "the Architect edited 'areas/mine.md' but may edit only 'spec.md': nothing is committed"
    assert f"Engineer: Write\n\nArchitect: (Nothing of this turn was committed: {why})\n" in prompt(project)


def test_of_a_long_conversation_the_prompt_has_the_end() -> None:
    text = render_turns("so far", [Turn("x" * 70_000), Turn("last", "yes")])
    assert len(text) < 61_000
    assert text.startswith("--- so far ---\n(…)\nxxx")
    assert text.endswith("Engineer: last\n\nArchitect: yes\n")
