"""scriptorium plan: one request or a session, and nothing but spec.md."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PLAN, Project, until

ANSWER = "I wrote it."
WRITES = f'cat > ../prompt; echo "# Tool" > spec.md; echo "{ANSWER}"'
HELP = """\
/show  print the current spec.md
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


def kept(project: Project) -> str:
    """Return the only rescue ref."""
    (ref,) = [ref for ref in refs(project) if ref.startswith("refs/scriptorium/rescue/")]
    return ref


def worktree(project: Project) -> Path:
    (path,) = (project.root.parent / "root").glob("*/worktrees/plan")
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

    assert result == (0, f"{ANSWER}\n", "scriptorium: spec.md is updated\n")
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
    assert result == (2, "", "scriptorium: the request is empty\nhint: say what should be planned\n")


# -- the write guard ------------------------------------------------------------------------------------


def test_any_other_edit_fails_the_command_and_the_spec_is_kept_for_the_user(project: Project) -> None:
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
    # a ticket is added by somebody else while the agent has the branch itself in its hands
    project.agent(f"git checkout --quiet {PLAN}; {WRITES}; {commit_elsewhere(project, 'areas/core.md')}")

    assert project.run("plan", "Write a tool").code == 0

    assert project.plan_files()["spec.md"] == "# Tool\n"
    assert "areas/core.md" in project.plan_files()


def commit_elsewhere(project: Project, path: str) -> str:
    """Return a shell command by which a person commits a file to the plan branch meanwhile."""
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


def test_agent_that_fails_is_told_and_its_edits_are_kept(project: Project) -> None:
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
        told = (
            75,
            "",
            "scriptorium: another process is at work on 'the plan'\n"
            "hint: wait for it, or look with 'scriptorium status'\n",
        )
        assert project.run("plan", "Me too") == told
        assert project.run("architect") == told
        assert project.run("manager") == told
        (project.root.parent / "busy").unlink()
        assert first.end().code == 0


# -- what is found in the planning worktree -------------------------------------------------------------


def test_files_that_somebody_put_into_the_planning_worktree_are_kept(project: Project) -> None:
    project.agent(WRITES)
    assert project.run("plan", "Write a tool").code == 0
    (worktree(project) / "notes.txt").write_text("precious\n")
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
    (worktree(project) / "notes.txt").write_text("precious\n")
    project.git("add", "--all", cwd=worktree(project))
    project.git("commit", "--quiet", "--message", "Mine", cwd=worktree(project))

    assert project.run("plan", "Again").code == 0

    assert project.git("show", f"{kept(project)}:notes.txt") == "precious"


@pytest.mark.parametrize("times", [1, 2])
def test_broken_planning_worktree_is_moved_aside(project: Project, times: int) -> None:
    project.agent("echo done")
    assert project.run("plan", "Write a tool").code == 0
    for number in range(times):
        (worktree(project) / ".git").unlink()
        (worktree(project) / "notes.txt").write_text(f"precious {number}\n")
        assert project.run("plan", "Again") == (0, "done\n", "scriptorium: spec.md is unchanged\n")
    found = worktree(project).parent.glob("plan.found-*/notes.txt")
    assert sorted(file.read_text() for file in found) == [f"precious {number}\n" for number in range(times)]


def test_file_in_the_place_of_the_planning_worktree_is_moved_aside(project: Project) -> None:
    project.agent("echo done")
    assert project.run("plan", "Write a tool").code == 0
    path = worktree(project)
    project.git("worktree", "remove", "--force", str(path))
    path.write_text("precious\n")
    assert project.run("plan", "Again") == (0, "done\n", "scriptorium: spec.md is unchanged\n")
    assert [file.read_text() for file in path.parent.glob("plan.found-*")] == ["precious\n"]


# -- a session ------------------------------------------------------------------------------------------


def test_session_reads_requests_and_commands_from_a_pipe(project: Project) -> None:
    project.agent('cat > ../prompt; echo "# Tool, again" >> spec.md; echo "Yes."')
    project.commit_plan({"spec.md": "# Tool\n"})

    result = project.run("plan", input="/help\nFirst\n\n  /show  \nSecond\n/nonsense\n/quit\nNever\n")

    assert result.code == 0
    assert result.out == (f"{HELP}Yes.\n# Tool\n# Tool, again\nYes.\n'/nonsense' is not a command; /help lists them\n")
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


def test_turn_that_fails_is_told_and_the_session_goes_on(project: Project) -> None:
    project.agent("grep -q Badly && exit 3; echo '# Tool' > spec.md; echo Yes.")

    result = project.run("plan", input="Badly\nWell\n")
    assert (result.code, result.out) == (0, "Yes.\n")
    assert "scriptorium: plan: the agent ended with exit code 3\nhint: see '" in result.err

    assert project.run("plan", input="Well\nBadly\n").code == 1


def test_session_on_a_terminal_has_a_prompt(project: Project) -> None:
    project.agent('echo "# Tool" > spec.md; echo "Yes."')
    with Terminal(project, "plan") as terminal:
        terminal.expect("planning session; /help lists the commands")
        terminal.expect("> ")
        terminal.type("Write a tool")
        terminal.expect("Yes.")
        terminal.expect("> ")
        terminal.type("/show")
        terminal.expect("# Tool")
        terminal.type("/quit")
        assert terminal.code() == 0
    assert project.plan_files()["spec.md"] == "# Tool\n"


def test_ctrl_c_at_the_prompt_and_in_a_turn_leaves_with_exit_code_130(project: Project) -> None:
    project.agent('echo "I think"; touch ../thinks; sleep 1000')
    with Terminal(project, "plan") as terminal:
        terminal.expect("> ")
        terminal.type("\x03", end="")
        assert terminal.code() == 130
    with Terminal(project, "plan") as terminal:
        terminal.expect("> ")
        terminal.type("Write a tool")
        until(lambda: list((project.root.parent / "root").glob("*/worktrees/thinks")))
        terminal.type("\x03", end="")
        assert terminal.code() == 130
        assert "Traceback" not in terminal.seen
    assert project.plan_log() == ["scriptorium: initialize plan branch"]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, project: Project, *argv: str) -> None:
        self._main, other = pty.openpty()
        os.set_blocking(self._main, False)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, sys.executable, "-m", "scriptorium", *argv],
            cwd=project.root,
            env={**os.environ, "TERM": "dumb"},
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
        except OSError:  # nothing yet, or nobody there any more
            return

    def expect(self, text: str) -> None:
        """Wait until a text is shown, after what was waited for before."""

        def shown() -> bool:
            self._more()
            return text in self.seen[self._read :] or self._process.poll() is not None

        until(shown)
        assert text in self.seen[self._read :], self.seen
        self._read = self.seen.index(text, self._read) + len(text)

    def type(self, text: str, end: str = "\n") -> None:
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
