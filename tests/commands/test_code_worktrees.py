"""scriptorium code: agents that damage their worktree, and agents that resolve a merge in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.worktrees.tickets import MERGE_MARK
from tests.commands.code_cases import SUBMIT, assert_reopened, files
from tests.support import Project, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()


def test_commits_on_a_detached_head_are_kept_and_the_branch_is_next(project: Project) -> None:
    name = project.ticket("0001-with a space", state="in-progress")
    project.agent("git checkout -q --detach; echo lost >file; git add file; git commit -qm Lost; echo dirty >other")

    result = project.run("code", name)
    assert (result.code, result.out) == (1, "")
    where = f"the worktree '{project.worktree(name)}' is not on branch 'scriptorium/ticket-0001'"
    assert f"scriptorium: ticket '{name}': 'git status' failed: error: {where}\n" in result.err
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    note = f"The agent ended without submitting; its work is kept as '{rescue}'"
    assert_reopened(project, "no-submit", note, name)

    project.agent("echo found >file" + SUBMIT)
    assert project.run("assign").out == f"{name}\t{project.worktree(name)}\n"
    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert [*project.refs("refs/scriptorium/rescue/")] == [rescue]
    assert project.git("show", f"{rescue}:file") == "lost"
    assert project.git("show", f"{rescue}:other") == "dirty"
    assert project.git("show", "scriptorium/ticket-0001:file") == "found"


@pytest.mark.parametrize("end", ["exit 1", "scriptorium submit-pr x", 'touch "$FACTS/ready"; exec sleep 60'])
@pytest.mark.parametrize("command", ["rebase", "merge"])
def test_what_git_puts_by_in_a_ticket_is_kept_and_never_in_the_users_stash(
    project: Project, facts: Path, command: str, end: str
) -> None:
    project.git("config", f"{command}.autoStash", "true")
    project.commit({"a": "1\n", "b": "1\n"})
    name = project.ticket("0001", state="in-progress")
    project.agent(
        "echo 2 >a; git commit -qam Mine; cd $SCRIPTORIUM_REPO; echo 3 >a; git commit -qam Theirs;"
        f"cd $SCRIPTORIUM_WORKTREE; echo precious >b; git {command} master || true; echo both >a; git add a; {end}"
    )
    coding = project.start("code", name)
    if "sleep" in end:
        until((facts / "ready").exists)
        coding.kill()
    coding.wait()
    project.agent("echo both >a; scriptorium submit-pr x")
    project.run("assign")
    project.run("code", name)
    project.run("merge")

    assert "precious" in [project.git("show", f"{ref}:b") for ref in project.refs("refs/scriptorium/rescue/")]
    assert project.git("stash", "list") == ""


def test_what_git_puts_by_outlives_a_worktree_that_was_deleted(project: Project) -> None:
    project.git("config", "rebase.autoStash", "true")
    project.commit({"a": "1\n", "b": "1\n"})
    name = project.ticket("0001", state="in-progress")
    project.agent(
        "echo 2 >a; git commit -qam Mine; cd $SCRIPTORIUM_REPO; echo 3 >a; git commit -qam Theirs; cd -;"
        "echo precious >b; git rebase master || true; rm -rf $SCRIPTORIUM_WORKTREE"
    )

    project.run("code", name)

    assert "precious" in [project.git("show", f"{ref}:b") for ref in project.refs("refs/scriptorium/rescue/")]


def test_a_link_that_an_agent_puts_in_place_of_its_worktree_is_renamed(project: Project, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    project.git("worktree", "add", "-q", "-b", "mine", str(mine))
    (mine / "notes").write_text("precious\n")
    name = project.ticket("0001", state="in-progress")
    project.agent(f'cd /; rm -rf "$SCRIPTORIUM_WORKTREE"; ln -s {mine} "$SCRIPTORIUM_WORKTREE"')
    assert project.run("code", name).code == 1

    assert project.git("status", "--porcelain", cwd=mine) == "?? notes"
    assert project.git("log", "--format=%s", "master..mine") == ""
    project.agent("echo x >file" + SUBMIT)
    assert project.run("assign").code == 0
    assert project.run("code", name)[:2] == (0, f"{name}\n")


def test_a_submit_from_a_detached_head_is_refused_with_a_hint(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file; git checkout -q --detach; scriptorium submit-pr x 2>$FACTS/reply")

    assert project.run("code", name)[:2] == (1, "")

    assert (facts / "reply").read_text().splitlines()[-1] == (
        f"hint: check out 'scriptorium/ticket-0001' in '{project.worktree(name)}'"
    )
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    assert project.git("show", f"{rescue}:file") == "x"
    assert_reopened(project, "agent", f"The agent ended with exit code 1; its work is kept as '{rescue}'")


@pytest.mark.parametrize("how", ['rm -rf "$SCRIPTORIUM_WORKTREE"', "rm .git"])
def test_an_agent_that_destroys_its_worktree_hurts_nobody_else(project: Project, how: str) -> None:
    name = project.ticket("0001", state="in-progress")
    before = project.git("rev-parse", "HEAD")
    project.agent(f"echo x >file; git add file; git commit -qm Kept; {how}; git add -A; git commit -qm Astray")

    assert project.run("code", name)[:2] == (1, "")
    assert list(files(project)) == [f"tickets/open/{name}.md"]
    assert (project.git("rev-parse", "HEAD"), project.git("status", "--porcelain")) == (before, "")

    project.agent("echo y >other" + SUBMIT)
    assert project.run("assign").code == 0
    assert project.run("code", name)[:2] == (0, f"{name}\n")
    assert project.git("diff", "--name-only", "master", "scriptorium/ticket-0001") == "file\nother"


def test_after_a_conflict_the_agent_finds_a_merge_and_only_resolves_it(project: Project, facts: Path) -> None:
    name = project.queued("0001", "echo agent >file")
    project.commit({"file": "person\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    project.agent(
        'cat >"$FACTS/prompt"; cp file "$FACTS/file"; scriptorium submit-pr early 2>"$FACTS/refused" || true;'
        'printf "person\nagent\n" >file' + SUBMIT
    )
    assert project.run("assign").code == 0

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert "These files hold conflict markers: `file`." in (facts / "prompt").read_text()
    assert "<<<<<<< HEAD\nagent\n=======\nperson\n>>>>>>> " in (facts / "file").read_text()
    assert (facts / "refused").read_text() == (
        "scriptorium: 'file' still has conflict markers\nhint: resolve the conflict, then submit again\n"
    )
    assert project.git("show", "scriptorium/ticket-0001:file") == "person\nagent"
    assert project.git("merge-base", "--is-ancestor", "master", "scriptorium/ticket-0001") == ""
    assert project.run("merge").out == f"{name}\tlanded\n"
    assert project.refs("refs/scriptorium/rescue/") == {}


def test_a_merge_killed_as_it_began_does_not_pass_for_the_agents_work(project: Project) -> None:
    name = project.queued("0001", "echo agent >file")
    project.commit({"file": "person\n", "theirs": "text\n", "more": "text\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    assert project.run("assign").code == 0
    (project.worktree(name) / "theirs").write_text("te")  # git was writing the first file of master
    (project.root / ".git" / "worktrees" / name / MERGE_MARK).touch()
    project.agent("echo both >file" + SUBMIT)

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert project.run("merge").out == f"{name}\tlanded\n"
    assert [project.git("show", f"master:{file}") for file in ("file", "theirs", "more")] == ["both", "text", "text"]
    assert not (project.root / ".git" / "worktrees" / name).exists()


def test_a_merge_that_is_resolved_to_one_side_is_concluded(project: Project) -> None:
    name = project.queued("0001", "echo agent >file; echo more >other")
    project.commit({"file": "person\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    project.agent("git checkout --ours file; git add file" + SUBMIT)
    assert project.run("assign").code == 0

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert project.run("merge").out == f"{name}\tlanded\n"
    assert project.git("show", "master:file") == "agent"


def test_a_merge_left_with_conflicts_is_kept_and_undone(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent(
        "echo mine >file; git add file; git commit -qm Mine; git checkout -q -b other HEAD~; echo theirs >file;"
        "git add file; git commit -qm Theirs; git checkout -q scriptorium/ticket-0001; git merge other || true"
    )

    result = project.run("code", name)

    assert (result.code, result.out) == (1, "")
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    assert f"scriptorium: ticket '{name}' left a merge with conflicts: kept as '{rescue}'\n" in result.err
    assert "<<<<<<< HEAD" in project.git("show", f"{rescue}:file")
    assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""
    assert project.git("show", "scriptorium/ticket-0001:file") == "mine"


def test_conflicts_without_markers_stay_unresolved_after_a_failed_attempt(project: Project) -> None:
    project.commit({"binary": "\0base\n", "gone": "1\n"})
    name = project.queued("0001", "printf '\\0ticket\\n' >binary; echo 2 >gone")
    project.git("rm", "--quiet", "gone")
    project.commit({"binary": "\0person\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    project.agent("exit 1")
    project.run("assign")

    result = project.run("code", name)

    (rescue,) = project.refs("refs/scriptorium/rescue/")
    assert f"scriptorium: ticket '{name}' left a merge with conflicts: kept as '{rescue}'\n" in result.err
    assert project.git("log", "-1", "--format=%s", "scriptorium/ticket-0001") == name
    assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""


def test_conflict_markers_of_any_size_are_not_submitted(project: Project, facts: Path) -> None:
    project.commit({"doc": "1\n", ".gitattributes": "doc conflict-marker-size=32\n"})
    name = project.queued("0001", "echo ticket >doc")
    project.commit({"doc": "person\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    project.agent('echo 1 >x; scriptorium submit-pr x 2>"$FACTS/refused"')
    project.run("assign")

    assert project.run("code", name).out == ""

    assert (facts / "refused").read_text().startswith("scriptorium: 'doc' still has conflict markers\n")
