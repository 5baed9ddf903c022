"""scriptorium plan: one request or a session, which edits only spec.md."""

from __future__ import annotations

import pytest

from tests.commands.plan_cases import ANSWER, DIFF, WRITES, hint, interrupt, prompt, refs, shell, worktree
from tests.support import PLAN, Project, kept, until

pytestmark = pytest.mark.slow


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a plan branch."""
    project.init()
    return project


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
