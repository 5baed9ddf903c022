"""scriptorium plan: one request or a session, which edits only spec.md."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from scriptorium.planning.conversation import Turn, render_turns
from tests.support import PLAN, Project, kept, until

ANSWER = "I wrote it."
WRITES = f'cat > ../prompt; echo "# Tool" > spec.md; echo "{ANSWER}"'
DIFF = """\
--- a/spec.md
+++ b/spec.md
@@ -1,3 +1 @@
-# Spec
-
-Nothing is planned yet: run `scriptorium plan` to write this file.
+# Tool
"""
PROMPT = "\x1b[?2004h"  # bracketed paste is on, so that the prompt waits for input
HELP = """\
/show  print the current spec.md
/new   begin another conversation
/help  list the commands
/quit  leave (so does the end of input)
anything else is a request to the Architect
"""


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


def refs(project: Project) -> list[str]:
    return project.git("for-each-ref", "--format=%(refname)").splitlines()


def worktree(project: Project) -> Path:
    return project.paths.plan_worktree


def interrupt(project: Project) -> Path:
    """Create the planning worktree as left by a killed run, and return its path."""
    path = worktree(project)
    project.paths.ensure(path.parent)
    project.git("worktree", "add", "--quiet", "--detach", str(path), PLAN)
    return path


def prompt(project: Project) -> str:
    return (worktree(project).parent / "prompt").read_text()


def hint(err: str) -> str:
    """Return the command that the last line of an error proposes."""
    last = err.splitlines()[-1]
    assert last.startswith("hint: ")
    return last.rpartition(": ")[2]


def shell(project: Project, command: str) -> str:
    return subprocess.run(
        ["sh", "-c", command], cwd=project.root, capture_output=True, text=True, check=True, env=os.environ
    ).stdout


# -- one request ----------------------------------------------------------------------------------------


def test_request_is_answered_and_the_spec_committed(project: Project) -> None:
    project.agent(WRITES)

    result = project.run("plan", "Write", "a tool")

    assert result == (0, f"{ANSWER}\n", f"scriptorium: spec.md is updated\n{DIFF}")
    assert project.plan_files()["spec.md"] == "# Tool\n"
    assert project.plan_log() == [
        "scriptorium: initialize plan branch",
        "scriptorium: update spec from architect",
    ]
    assert "Agent: script\n" in project.git("log", "-1", "--format=%b", PLAN)
    assert refs(project) == ["refs/heads/master", f"refs/heads/{PLAN}"]
    assert project.git("status", "--porcelain") == ""


def test_prompt_names_the_repository_the_request_and_the_spec(project: Project) -> None:
    project.agent(WRITES)
    project.commit_plan({"spec.md": "# Mine {{x}} $HOME ${y}\n"})

    assert project.run("plan", "Mind {{this}} $repo").code == 0

    text = prompt(project)
    assert f"the project in {project.root}," in text
    assert "--- request ---\nMind {{this}} $repo\n" in text
    assert "--- spec.md ---\n# Mine {{x}} $HOME ${y}\n" in text


def test_request_works_in_the_planning_worktree_as_the_architect(project: Project) -> None:
    project.agent('echo "$SCRIPTORIUM_ROLE $SCRIPTORIUM_REPO $(pwd -P)"; ls')
    result = project.run("plan", "Where?")
    assert result.code == 0
    assert result.out == "tickets\n"
    (log,) = worktree(project).parent.parent.glob("logs/plan/attempt-*.jsonl")
    assert log.read_text().splitlines()[0] == f"architect {project.root} {worktree(project)}"


def test_spec_left_as_it_is_makes_no_commit(project: Project) -> None:
    project.agent("echo 'What do you want?'")
    log = project.plan_log()
    assert project.run("plan", "Hm") == (0, "What do you want?\n", "scriptorium: spec.md is unchanged\n")
    assert project.plan_log() == log


def test_agent_that_says_nothing_is_no_failure(project: Project) -> None:
    project.agent("true")
    assert project.run("plan", "Hm").out == "(no answer)\n"


def test_empty_request_is_a_usage_error(project: Project) -> None:
    project.agent(WRITES)
    result = project.run("plan", "  ")
    assert result == (2, "", "scriptorium: the request is empty\nhint: describe what to plan\n")


# -- the write guard ------------------------------------------------------------------------------------


def test_any_other_edit_fails_the_command_and_keeps_the_spec(project: Project) -> None:
    project.agent(f"{WRITES}; echo x > areas/mine.md; rm decisions/.gitkeep")
    before = project.git("rev-parse", PLAN)

    result = project.run("plan", "Write a tool")

    assert (result.code, result.out) == (1, "")
    assert "scriptorium: the Architect edited 'areas/mine.md', 'decisions/.gitkeep'" in result.err
    assert project.git("rev-parse", PLAN) == before
    assert shell(project, hint(result.err)) == "# Tool\n"
    assert project.git("show", f"{kept(project)}:areas/mine.md") == "x"
    assert project.git("status", "--porcelain") == ""

    project.agent(WRITES)
    assert project.run("plan", "Again").code == 0
    assert project.plan_files()["spec.md"] == "# Tool\n"
    assert "areas/mine.md" not in project.plan_files()


def test_stray_edit_without_a_spec_is_kept_and_the_hint_works(project: Project) -> None:
    project.agent("echo x > areas/mine.md")
    result = project.run("plan", "Write a tool")
    assert (result.code, result.out) == (1, "")
    assert "areas/mine.md" in shell(project, hint(result.err))


def test_edits_that_the_agent_committed_itself_are_judged_alike(project: Project) -> None:
    project.agent(f"{WRITES}; git commit --quiet --all --message Mine; echo x > areas/mine.md")
    before = project.git("rev-parse", PLAN)
    result = project.run("plan", "Write a tool")
    assert result.code == 1
    assert project.git("rev-parse", PLAN) == before
    assert shell(project, hint(result.err)) == "# Tool\n"


def test_agent_that_checks_out_the_plan_branch_does_not_rewind_it(project: Project) -> None:
    # the user adds a ticket while the agent has the branch itself checked out
    project.agent(f"git checkout --quiet {PLAN}; {WRITES}; {commit_elsewhere(project, 'areas/core.md')}")

    assert project.run("plan", "Write a tool").code == 0

    assert project.plan_files()["spec.md"] == "# Tool\n"
    assert "areas/core.md" in project.plan_files()


def commit_elsewhere(project: Project, path: str) -> str:
    """Return a shell command that commits a file to the plan branch, as another user would."""
    return f"""\
{{ printf 'commit refs/heads/{PLAN}\\ncommitter Person <p@example.com> 1700000000 +0000\\ndata 4\\nMine\\n'
printf 'from refs/heads/{PLAN}^0\\nM 100644 inline {path}\\ndata 7\\n# Mine\\n\\n'
}} | git -C {project.root} fast-import --quiet"""


def test_spec_changed_by_a_person_meanwhile_stays_and_the_edit_is_kept(project: Project) -> None:
    project.agent(f"{WRITES}; {commit_elsewhere(project, 'spec.md')}")

    result = project.run("plan", "Write a tool")

    assert (result.code, result.out) == (1, "")
    assert "scriptorium: 'spec.md' was changed meanwhile\n" in result.err
    assert project.plan_files()["spec.md"] == "# Mine\n"
    assert "+# Tool" in shell(project, hint(result.err))


def test_other_changes_of_the_plan_meanwhile_do_not_matter(project: Project) -> None:
    project.agent(f"{WRITES}; {commit_elsewhere(project, 'areas/core.md')}")
    assert project.run("plan", "Write a tool").code == 0
    assert project.plan_files()["spec.md"] == "# Tool\n"
    assert project.plan_files()["areas/core.md"] == "# Mine\n"


def test_removed_spec_is_not_taken(project: Project) -> None:
    project.agent("rm spec.md")
    before = project.git("rev-parse", PLAN)
    result = project.run("plan", "Forget it")
    assert (result.code, result.out) == (1, "")
    assert "scriptorium: the Architect removed 'spec.md'\n" in result.err
    assert project.git("rev-parse", PLAN) == before


def test_edits_of_an_agent_that_fails_are_kept(project: Project) -> None:
    project.agent(f"{WRITES}; echo broken pipe >&2; exit 3")
    before = project.git("rev-parse", PLAN)

    result = project.run("plan", "Write a tool")

    assert (result.code, result.out) == (1, "")
    assert "scriptorium: plan: the agent ended with exit code 3\nhint: see '" in result.err
    assert project.git("rev-parse", PLAN) == before
    assert project.git("show", f"{kept(project)}:spec.md") == "# Tool"
    assert f"kept as '{kept(project)}'" in result.err


# -- one at a time --------------------------------------------------------------------------------------


def test_second_planner_leaves_at_once_with_exit_code_75(project: Project) -> None:
    project.agent(f"touch {project.root.parent}/busy; while [ -e {project.root.parent}/busy ]; do sleep 0.02; done")
    project.commit_plan({"areas/core.md": "# Core\n", "spec.md": "# Tool\n"})
    with project.running("plan", "Slowly") as first:
        until((project.root.parent / "busy").exists)
        refused = (
            75,
            "",
            "scriptorium: another process is at work on 'the plan'\n"
            "hint: wait for it, or look with 'scriptorium status'\n",
        )
        assert project.run("plan", "Me too") == refused
        assert project.run("architect") == refused
        assert project.run("manager") == refused
        (project.root.parent / "busy").unlink()
        assert first.end().code == 0


# -- leftovers in the planning worktree -----------------------------------------------------------------


def test_files_that_somebody_put_into_the_planning_worktree_are_kept(project: Project) -> None:
    project.agent(WRITES)
    assert project.run("plan", "Write a tool").code == 0
    (interrupt(project) / "notes.txt").write_text("precious\n")
    (worktree(project) / "spec.md").write_text("# Half a thought\n")

    result = project.run("plan", "Again")

    assert result.code == 0
    assert f"kept as '{kept(project)}'" in result.err
    assert project.git("show", f"{kept(project)}:notes.txt") == "precious"
    assert project.git("show", f"{kept(project)}:spec.md") == "# Half a thought"
    assert project.plan_files()["spec.md"] == "# Tool\n"


def test_commits_that_somebody_made_in_the_planning_worktree_are_kept(project: Project) -> None:
    project.agent(WRITES)
    assert project.run("plan", "Write a tool").code == 0
    (interrupt(project) / "notes.txt").write_text("precious\n")
    project.git("add", "--all", cwd=worktree(project))
    project.git("commit", "--quiet", "--message", "Mine", cwd=worktree(project))

    assert project.run("plan", "Again").code == 0

    assert project.git("show", f"{kept(project)}:notes.txt") == "precious"


@pytest.mark.parametrize("times", [1, 2])
def test_broken_planning_worktree_is_moved_aside(project: Project, times: int) -> None:
    project.agent("echo done")
    assert project.run("plan", "Write a tool").code == 0
    for number in range(times):
        (interrupt(project) / ".git").unlink()
        (worktree(project) / "notes.txt").write_text(f"precious {number}\n")
        assert project.run("plan", "--new", "Again") == (0, "done\n", "scriptorium: spec.md is unchanged\n")
    found = worktree(project).parent.glob("plan.found-*/notes.txt")
    assert sorted(file.read_text() for file in found) == [f"precious {number}\n" for number in range(times)]


def test_file_in_the_place_of_the_planning_worktree_is_moved_aside(project: Project) -> None:
    project.agent("echo done")
    assert project.run("plan", "Write a tool").code == 0
    path = worktree(project)
    path.write_text("precious\n")
    assert project.run("plan", "--new", "Again") == (0, "done\n", "scriptorium: spec.md is unchanged\n")
    assert [file.read_text() for file in path.parent.glob("plan.found-*")] == ["precious\n"]


@pytest.mark.parametrize("to", ["nowhere", "mine"])
def test_link_in_place_of_the_planning_worktree_is_renamed(project: Project, to: str) -> None:
    mine = project.root.parent / "mine"
    project.git("worktree", "add", "--quiet", "--detach", str(mine), PLAN)
    (mine / "notes").write_text("precious\n")
    project.agent("echo done")
    path = project.paths.plan_worktree
    project.paths.ensure(path.parent)
    path.symlink_to(project.root.parent / to)

    assert project.run("plan", "Write a tool").code == 0

    assert [link.is_symlink() for link in path.parent.glob("plan.found-*")] == [True]
    assert project.git("status", "--porcelain", cwd=mine) == "?? notes"


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


# -- on a terminal --------------------------------------------------------------------------------------


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


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, project: Project, *argv: str, **env: str) -> None:
        self._main, other = pty.openpty()
        os.set_blocking(self._main, False)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, sys.executable, "-m", "scriptorium", *argv],
            cwd=project.root,
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **env},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.seen = ""
        self._read = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)

    def _more(self) -> None:
        try:
            self.seen += os.read(self._main, 65536).decode()
        except OSError:  # no output yet, or the other end is closed
            return

    def expect(self, text: str) -> None:
        """Wait until a text appears after the previous one."""

        deadline = time.monotonic() + 20
        while text not in self.seen[self._read :] and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
            self._more()
        assert text in self.seen[self._read :], repr(self.seen)
        self._read = self.seen.index(text, self._read) + len(text)

    def settings(self) -> list[object]:
        """Return the settings of the terminal, such as its echo."""
        return termios.tcgetattr(self._main)

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def type(self, text: str, end: str = "\r") -> None:
        os.write(self._main, f"{text}{end}".encode())

    def code(self) -> int:
        """Wait for the end and return the exit code."""

        def over() -> bool:
            self._more()
            return self._process.poll() is not None

        until(over)
        return self._process.wait()


# makes the terminal the controlling one, so that Ctrl-C is a signal
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
