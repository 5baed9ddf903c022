"""scriptorium code: changes that an agent must not submit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.code_cases import assert_reopened
from tests.support import Project, write_script

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()


@pytest.mark.parametrize("hidden", [False, True])
def test_a_repository_inside_the_worktree_is_not_submitted_as_a_gitlink(
    project: Project, facts: Path, hidden: bool
) -> None:
    name = project.ticket("0001", state="in-progress")
    if hidden:
        project.git("config", "diff.ignoreSubmodules", "all")
        project.commit({".gitattributes": "* -diff\n"})
    project.agent(
        "git init -q part; echo 1 >part/one; git -C part add one; git -C part commit -q -m One\n"
        'scriptorium submit-pr x 2>"$FACTS/said" && exit 1\n'
        "git rm -q --cached part; rm -r part/.git; scriptorium submit-pr x"
    )

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert (facts / "said").read_text() == (
        "scriptorium: 'part' is a git repository of its own, so its files would be lost\n"
        "hint: run 'git rm --cached part' and remove its '.git', or make it a submodule\n"
    )
    assert project.git("show", "scriptorium/ticket-0001:part/one") == "1"


def test_a_configuration_in_a_commit_without_a_parent_is_not_submitted(project: Project, facts: Path) -> None:
    project.git("config", "log.showRoot", "false")
    name = project.ticket("0001", state="in-progress")
    project.agent(
        "git checkout -q --orphan other; git rm -rqf .; echo '{}' >scriptorium.json; git add -f scriptorium.json;"
        "git commit -qm Root; git checkout -q scriptorium/ticket-0001; git merge -q --allow-unrelated-histories other\n"
        'echo 1 >file; scriptorium submit-pr x 2>"$FACTS/said"'
    )

    assert project.run("code", name).out == ""

    assert (facts / "said").read_text().startswith("scriptorium: refusing to change 'scriptorium.json': ")


@pytest.mark.parametrize("name", ["scriptorium.json", "Scriptorium.json"])
def test_a_change_of_the_configuration_is_not_submitted(project: Project, facts: Path, name: str) -> None:
    ticket = project.ticket("0001", state="in-progress")
    project.agent(
        f"echo 1 >file; echo '{{}}' >{name}; git add -A --force; git commit -qm Both\n"
        'scriptorium submit-pr x 2>"$FACTS/said" && exit 1\n'
        f"git rm -q --cached {name}; rm {name}; scriptorium submit-pr x"
    )

    assert project.run("code", ticket)[:2] == (0, f"{ticket}\n")

    assert (facts / "said").read_text() == (
        f"scriptorium: refusing to change '{name}': it names programs that run outside the sandbox\n"
        "hint: remove the change, describe it in the summary, then submit again\n"
    )
    assert project.git("diff", "--name-only", "master", "scriptorium/ticket-0001") == "file"


def test_the_note_states_why_the_submission_was_refused(project: Project) -> None:
    ticket = project.ticket("0001", state="in-progress")
    project.agent(
        "scriptorium submit-pr early || true\necho '{}' >scriptorium.json; git add -f scriptorium.json\n"
        "scriptorium submit-pr x || true; echo 'I handed it in'"
    )

    assert project.run("code", ticket)[:2] == (1, "")

    refusal = "refusing to change 'scriptorium.json': it names programs that run outside the sandbox"
    note = (
        f"The agent ended without submitting; its submission was refused: {refusal}\n\n  ```\n  I handed it in\n  ```"
    )
    assert_reopened(project, "no-submit", note)


@pytest.mark.parametrize("command", [["./tools/link"], ["sh", "{root}/tools/agent"]])
def test_a_change_of_a_program_that_runs_as_agent_is_not_submitted(
    project: Project, facts: Path, command: list[str]
) -> None:
    (project.root / "tools").mkdir()
    write_script(
        project.root / "tools" / "agent",
        "echo 1 >file; echo 'touch $FACTS/ran' >tools/agent\n"
        'scriptorium submit-pr x 2>"$FACTS/said" && exit 1\n'
        "git checkout -q master tools/agent; scriptorium submit-pr x",
    )
    (project.root / "tools" / "link").symlink_to("agent")
    project.git("add", "tools")
    project.git("commit", "--quiet", "--message", "Have an agent")
    words = [word.format(root=project.root) for word in command]
    project.configure(models={"coding": "own"}, harnesses={"own": {"command": words}}, environment=["FACTS"])
    name = project.ticket("0001", state="in-progress")

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert (facts / "said").read_text().startswith("scriptorium: refusing to change 'tools/agent': ")
    assert project.git("diff", "--name-only", "master", "scriptorium/ticket-0001") == "file"


def test_a_submodule_that_a_ticket_adds_is_submitted(project: Project, tmp_path: Path) -> None:
    part = Project(tmp_path / "part")
    name = project.ticket("0001", state="in-progress")
    project.agent(
        f"git -c protocol.file.allow=always submodule --quiet add '{part.root}' 'my part'\nscriptorium submit-pr x"
    )

    assert project.run("code", name)[:2] == (0, f"{name}\n")


def test_a_submodule_with_commits_that_are_nowhere_else_is_not_submitted(
    project: Project, tmp_path: Path, facts: Path
) -> None:
    part = Project(tmp_path / "part")
    protocol = "-c protocol.file.allow=always"
    project.git(*protocol.split(), "submodule", "--quiet", "add", str(part.root), "part")
    project.git("commit", "--quiet", "-m", "Add a submodule")
    name = project.ticket("0001", state="in-progress")
    project.agent(
        f"git {protocol} submodule --quiet update --init; git -C part commit -q --allow-empty -m precious\n"
        'scriptorium submit-pr x 2>"$FACTS/said" && exit 1\n'
        "git -C part push -q origin HEAD:refs/heads/work; scriptorium submit-pr x"
    )

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert (facts / "said").read_text().startswith("scriptorium: submodule 'part' has commits that no remote has")
