"""scriptorium code: the agent's run on a ticket, however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from scriptorium.coding.attempt import run_attempt
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.plan import store
from scriptorium.worktrees.tickets import MERGE_MARK
from tests.support import BUSY, PLAN, Project, busy_pids, is_alive, trailers, until, write_script

NAME = "0001-thing"
SUBMIT = "\nscriptorium submit-pr 'add a file'\n"


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()


def files(project: Project) -> dict[str, str]:
    """Return the tickets and queue items of the plan."""
    found = project.plan_files()
    return {path: text for path, text in found.items() if re.match(r"(tickets|queue/merge/pending)/.*\.md", path)}


def assert_reopened(project: Project, cause: str, note: str, name: str = NAME) -> None:
    """Assert that the ticket's first attempt failed and what the ticket says about it."""
    ((path, text),) = files(project).items()
    assert path == f"tickets/open/{name}.md"
    assert "\nattempts: 1\n" in text
    assert text.endswith(f"Do it.\n\n## Attempt 1 failed: {cause}\n\n{note}\n")
    assert project.plan_log()[-1] == f"scriptorium: reopen ticket {name}"


# -- handing in ---------------------------------------------------------------------------------------


def test_the_agent_gets_the_prompt_the_worktree_and_its_environment(project: Project, facts: Path) -> None:
    name = project.ticket("0001", area="parser", body="Mind the ${gap} {{x}}.", state="in-progress")
    script = 'cat >"$FACTS/prompt"; pwd >"$FACTS/pwd"; env >"$FACTS/env"; echo "$@" >"$FACTS/argv"; echo x >file'
    agent = project.agent(script + SUBMIT)
    project.configure(harnesses={"script": {"command": [str(agent), "--flag", "a b"], "env": {"K": "v"}}})

    assert project.run("code", name).code == 0

    environment = dict(line.split("=", 1) for line in (facts / "env").read_text().splitlines() if "=" in line)
    worktree = str(project.worktree(name))
    assert (facts / "pwd").read_text() == f"{worktree}\n"
    assert (facts / "argv").read_text() == "--flag a b\n"
    assert {
        "SCRIPTORIUM_ROLE": "coding",
        "SCRIPTORIUM_TICKET": name,
        "SCRIPTORIUM_AREA": "parser",
        "SCRIPTORIUM_REPO": str(project.root),
        "SCRIPTORIUM_WORKTREE": worktree,
        "K": "v",
    }.items() <= environment.items()
    prompt = (facts / "prompt").read_text()
    assert "Mind the ${gap} {{x}}." in prompt
    assert f"--- ticket {name} ---" in prompt
    assert "`make test`" in prompt
    assert "attempt" not in prompt.partition("--- ticket")[2]


def test_committed_work_is_queued(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file; git add file; git commit -qm 'Add a file'" + SUBMIT)

    result = project.run("code", "1")

    assert (result.code, result.out) == (0, f"{name}\n")
    assert result.err == (
        f"scriptorium: ticket '{name}': attempt 1 begins\n"
        "scriptorium: coding agent called submit_pr, summary=add a file\n"
    )
    assert list(files(project)) == [f"queue/merge/pending/0001-{name}.md", f"tickets/in-progress/{name}.md"]
    assert files(project)[f"queue/merge/pending/0001-{name}.md"].splitlines()[2:] == [
        f"**Ticket:** tickets/in-progress/{name}.md",
        "**Ticket ID:** 0001",
        "**Branch:** scriptorium/ticket-0001",
        f"**Worktree:** {project.worktree(name)}",
        f"**Head:** {project.git('rev-parse', 'scriptorium/ticket-0001')}",
        "**Summary:** add a file",
    ]
    assert trailers(project, "Head") == {"Ticket": name, "Attempt": "1"}
    assert project.git("log", "--format=%an %s", "master..scriptorium/ticket-0001") == "Person Add a file"


def test_uncommitted_and_untracked_work_is_committed_for_the_agent(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.commit({"old": "1\n", "gone": "1\n", ".gitignore": "*.o\n"})
    project.agent('echo 2 >old; rm gone; mkdir -p "a b"; echo x >"a b/ü"; echo x >junk.o' + SUBMIT)

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert project.git("log", "--format=%B", "master..scriptorium/ticket-0001") == f"{name}\n\nadd a file"
    assert project.git("diff", "-z", "--name-status", "master", "scriptorium/ticket-0001").split("\0")[:-1] == [
        *("A", "a b/ü"),
        *("D", "gone"),
        *("M", "old"),
    ]
    assert project.git("status", "--porcelain", cwd=project.worktree(name)) == ""


def test_submitting_twice_queues_once(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file" + SUBMIT + "scriptorium submit-pr again 2>$FACTS/reply")

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert (facts / "reply").read_text() == f"ticket {name} is submitted already; there is nothing left to do\n"
    assert project.plan_log()[-1:] == [f"scriptorium: enqueue ticket {name}"]
    assert sorted(files(project)) == [f"queue/merge/pending/0001-{name}.md", f"tickets/in-progress/{name}.md"]


def test_commits_made_after_the_submit_do_not_land_and_are_kept(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file" + SUBMIT + "echo later >late; git add late; git commit -qm Later; echo loose >loose")

    result = project.run("code", name)

    assert result[:2] == (0, f"{name}\n")
    [rescue] = project.refs("refs/scriptorium/rescue/")
    assert f"scriptorium: ticket '{name}' got commits after it was submitted: kept as '{rescue}'\n" in result.err
    assert project.git("ls-tree", "--name-only", rescue).split() == ["Makefile", "file", "late", "loose"]
    assert project.git("ls-tree", "--name-only", "scriptorium/ticket-0001").split() == ["Makefile", "file"]
    assert project.run("merge").out == f"{name}\tlanded\n"


def test_commits_after_the_submit_are_undone_even_off_the_branch(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    later = "echo later >late; git add late; git commit -qm Later; git checkout -q --detach"
    project.agent("echo x >file" + SUBMIT + later)

    result = project.run("code", name)

    assert result[:2] == (0, f"{name}\n")
    [rescue] = project.refs("refs/scriptorium/rescue/")
    assert project.git("ls-tree", "--name-only", rescue).split() == ["Makefile", "file", "late"]
    assert project.git("ls-tree", "--name-only", "scriptorium/ticket-0001").split() == ["Makefile", "file"]


@pytest.mark.parametrize("junk", ["\\377\\376", "gitdir: a\\000b"])
def test_junk_in_the_worktrees_git_file_is_no_internal_error(project: Project, junk: str) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent(f"echo x >file; printf '{junk}' >.git")

    result = project.run("code", name)

    assert result[:2] == (1, "")
    assert "bug" not in result.err
    assert list(files(project)) == [f"tickets/open/{name}.md"]
    project.agent("echo y >file" + SUBMIT)
    assert project.run("assign").code == 0
    assert project.run("code", name)[:2] == (0, f"{name}\n")
    [moved] = project.worktree(name).parent.glob(f"{name}.found-*")
    assert (moved / "file").read_text() == "x\n"


def test_an_agent_that_talks_on_stderr_gets_on(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.configure(timeouts={"no_progress": 1.5})
    project.agent("for n in 1 2 3 4 5 6 7 8 9; do echo $n >&2; sleep 0.4; done; echo x >file" + SUBMIT)

    assert project.run("code", name)[:2] == (0, f"{name}\n")


def test_an_agent_that_fails_after_its_submit_has_submitted(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file" + SUBMIT + "exit 7")

    assert project.run("code", name)[:2] == (0, f"{name}\n")
    assert project.plan_log()[-1] == f"scriptorium: enqueue ticket {name}"


# -- attempts that fail -------------------------------------------------------------------------------


def test_a_run_without_a_submit_is_reopened_and_at_the_last_attempt_stuck(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.configure(max_attempts=2)
    project.agent('cat >"$FACTS/prompt"; echo half >>file; echo I am lost')

    result = project.run("code", name)

    reason = "The agent ended without handing in"
    assert result == (
        1,
        "",
        f"scriptorium: ticket '{name}': attempt 1 begins\nscriptorium: ticket '{name}': attempt failed: {reason}\n",
    )
    assert_reopened(project, "no-submit", f"{reason}\n\n  ```\n  I am lost\n  ```")
    assert trailers(project) == {
        "Ticket": name,
        "Move": "in-progress -> open",
        "Attempt": "1",
        "Cause": "no-submit",
        "Reason": reason,
        "Agent": "script",
    }

    assert project.run("assign").out.startswith(name)
    assert project.run("code").code == 1

    prompt = (facts / "prompt").read_text()
    assert "This is attempt 2." in prompt
    assert "## Attempt 1 failed: no-submit" in prompt
    assert list(files(project)) == [f"tickets/stuck/{name}.md"]
    assert project.plan_log()[-1] == f"scriptorium: park ticket {name}"
    assert project.git("show", "scriptorium/ticket-0001:file") == "half\nhalf"
    assert project.run("assign") == (0, "", "")


def test_an_empty_change_is_refused(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("git commit --allow-empty -qm nothing; scriptorium submit-pr x 2>$FACTS/reply")

    assert project.run("code", name)[:2] == (1, "")

    assert (facts / "reply").read_text() == (
        "scriptorium: there is no change to submit\nhint: make the change first, then submit again\n"
    )
    assert_reopened(project, "agent", "The agent ended with exit code 1")


def test_a_failing_agent_leaves_the_tail_of_its_errors_without_secrets(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = project.ticket("0001", state="in-progress")
    agent = project.agent("seq 100 >&2; echo using $API_KEY and $MY_TOKEN and sk-abcdefghijklmnopqrst >&2; exit 3")
    program = {"command": [str(agent)], "env": {"MY_TOKEN": "configured-secret"}}
    project.configure(harnesses={"script": program}, environment=["API_KEY"])
    monkeypatch.setenv("API_KEY", "inherited-secret")

    assert project.run("code", name)[:2] == (1, "")

    shown = "\n".join([*map(str, range(82, 101)), "using [removed] and [removed] and [removed]"])
    quoted = f"```\n{shown}\n```"
    assert_reopened(project, "agent", f"The agent ended with exit code 3\n\n{indent(quoted, '  ')}")


@pytest.mark.parametrize(
    ("limit", "cause", "note"),
    [
        ("hard", "timeout", "The agent was ended at its limit of 2.5 seconds"),
        ("no_output", "silence", "The agent was ended after 2.5 seconds without output"),
        ("no_progress", "timeout", "The agent was ended after 2.5 seconds without progress"),
    ],
)
def test_an_agent_that_hangs_is_ended_at_its_limit_with_all_its_children(
    project: Project, facts: Path, limit: str, cause: str, note: str
) -> None:
    name = project.ticket("0001", state="in-progress")
    project.configure(timeouts={limit: 2.5})
    project.agent(BUSY)

    assert project.run("code", name)[:2] == (1, "")

    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []
    assert_reopened(project, cause, note)


def test_children_that_outlive_a_good_agent_are_ended(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file" + SUBMIT + BUSY.replace("exec sleep 600\n", ""))

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []


def test_a_ticket_whose_attempts_cannot_be_counted_is_stuck_at_once(project: Project) -> None:
    name = "0001-flow"
    project.commit_plan({f"tickets/in-progress/{name}.md": "---\n{area: core, priority: 1}\n---\n# Do it\n"})
    project.agent("true")

    assert project.run("code", name)[:2] == (1, "")

    ((path, text),) = files(project).items()
    assert path == f"tickets/stuck/{name}.md"
    assert text.endswith(
        "\n\nThe agent ended without handing in; 'attempts' cannot be set to '1' in its front matter\n"
    )


# -- agents that wreck their worktree -----------------------------------------------------------------


def test_commits_on_a_detached_head_are_kept_and_the_branch_is_next(project: Project) -> None:
    name = project.ticket("0001-with a space", state="in-progress")
    project.agent("git checkout -q --detach; echo lost >file; git add file; git commit -qm Lost; echo dirty >other")

    result = project.run("code", name)
    assert (result.code, result.out) == (1, "")
    where = f"the worktree '{project.worktree(name)}' is not on branch 'scriptorium/ticket-0001'"
    assert f"scriptorium: ticket '{name}': 'git status' failed: error: {where}\n" in result.err
    (rescue,) = project.refs("refs/scriptorium/rescue/")
    note = f"The agent ended without handing in; its work is kept as '{rescue}'"
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
    (project.worktree(name) / "theirs").write_text("te")  # git was at the first file of master's
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


# -- signals and crashes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_agent_and_the_attempt_does_not_count(
    project: Project, facts: Path, signum: signal.Signals, code: int
) -> None:
    name = project.ticket("0001", state="in-progress")
    untouched = project.plan_files()[f"tickets/in-progress/{name}.md"]
    project.ticket("0002", state="in-progress")
    project.agent("echo half >file" + BUSY)
    process = project.start("code", name, "0002")
    running = busy_pids(facts)

    process.send_signal(signum)

    assert process.communicate()[0] == ""
    assert process.returncode == code
    assert [pid for pid in running if is_alive(pid)] == []
    assert files(project) == {
        f"tickets/open/{name}.md": untouched,
        "tickets/in-progress/0002-thing.md": untouched.replace("0001", "0002"),
    }
    assert trailers(project)["Cause"] == "stopped"
    assert (project.worktree(name) / "file").read_text() == "half\n"


def test_a_signal_as_the_agent_ends_keeps_the_next_one_from_starting(project: Project, facts: Path) -> None:
    names = [project.ticket(id, state="in-progress") for id in ("0001", "0002")]
    project.agent(
        'echo x >file; echo "$SCRIPTORIUM_TICKET" >>"$FACTS/ran"' + SUBMIT + 'kill -TERM "$(cat "$FACTS/pid")"'
    )
    process = project.start("code", *names)
    (facts / "pid").write_text(f"{process.pid}\n")

    process.communicate()

    assert process.returncode == 143
    assert (facts / "ran").read_text() == f"{names[0]}\n"
    assert project.plan_log()[-1] == f"scriptorium: enqueue ticket {names[0]}"


def test_a_killed_run_takes_its_agent_along_and_is_taken_up_again(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    agent = project.agent("echo half >file" + BUSY)
    process = project.start("code", name)
    running = busy_pids(facts)

    process.kill()

    process.communicate()
    until(lambda: not any(is_alive(pid) for pid in running))
    assert list(files(project)) == [f"tickets/in-progress/{name}.md"]

    assert agent == project.agent("echo whole >>file" + SUBMIT)
    assert project.run("code")[:2] == (0, f"{name}\n")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / "file").read_text() == "half\nwhole\n"
    assert [line for line in project.plan_log() if line.startswith("scriptorium: complete")] == [
        f"scriptorium: complete ticket {name}"
    ]
    assert project.run("code") == (0, "", "")


# -- which tickets ------------------------------------------------------------------------------------


def test_a_ticket_that_cannot_be_worked_on_is_an_error_with_a_hint(project: Project) -> None:
    project.ticket("0001")
    project.queued("0002")
    before = project.git("rev-parse", PLAN)

    assert project.run("code", "0009") == (
        1,
        "",
        "scriptorium: there is no ticket '0009'\nhint: see 'scriptorium status --json'\n",
    )
    assert project.run("code", "1") == (
        1,
        "",
        "scriptorium: ticket '0001-thing' is open, not in progress\nhint: run 'scriptorium assign' first\n",
    )
    assert project.run("code", "0002-thing") == (
        1,
        "",
        "scriptorium: ticket '0002-thing' is submitted already\nhint: run 'scriptorium merge'\n",
    )
    assert project.git("rev-parse", PLAN) == before


def test_an_agent_that_is_not_there_is_a_configuration_error(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.configure(models={"coding": "mine"}, harnesses={"mine": {"command": ["no-such-agent"]}})
    before = project.git("rev-parse", PLAN)

    assert project.run("code", name) == (
        78,
        "",
        "scriptorium: 'no-such-agent' is not on PATH\nhint: check 'harnesses.mine.command' in 'scriptorium.json'\n",
    )
    assert project.git("rev-parse", PLAN) == before


def test_an_agent_that_cannot_start_leaves_the_ticket_open_with_a_reason(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    agent = project.agent("")
    agent.write_text("echo hello\n")

    result = project.run("code", name)

    why = f"cannot start '{agent}': it is no program for this machine, nor a script"
    assert (result.code, result.out) == (78, "")
    assert result.err.endswith(f"scriptorium: {why}\nhint: begin a script with a line such as '#!/bin/sh'\n")
    assert list(files(project)) == [f"tickets/open/{name}.md"]
    assert trailers(project)["Reason"] == f"The agent could not be started: {why}"


def test_two_on_one_ticket_run_one_agent(project: Project, facts: Path) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent('echo run >>"$FACTS/runs"; until test -e "$FACTS/go"; do sleep 0.05; done; echo x >file' + SUBMIT)
    first = project.start("code", name)
    until(lambda: (facts / "runs").exists())

    assert project.run("code", name) == (0, "", f"scriptorium: another process is at work on '{name}'\n")
    assert project.run("code") == (0, "", "")

    (facts / "go").touch()
    assert first.communicate()[0] == f"{name}\n"
    assert (facts / "runs").read_text() == "run\n"


def test_twelve_at_once_have_twelve_worktrees(project: Project) -> None:
    names = [f"{n:04d}-x" for n in range(1, 13)]
    project.commit_plan({f"tickets/in-progress/{name}.md": "---\narea: core\n---\n" for name in names})
    project.agent('echo "$SCRIPTORIUM_TICKET" >"$SCRIPTORIUM_TICKET"' + SUBMIT)

    outs = [process.communicate()[0] for process in [project.start("code", name) for name in names]]

    assert outs == [f"{name}\n" for name in names]
    assert [process.returncode for process in project.started] == [0] * 12
    assert len(project.git("worktree", "list").splitlines()) == 13
    for name in names:
        branch = f"scriptorium/ticket-{name[:4]}"
        assert project.git("diff", "--name-only", "master", branch) == name
    items = [path.removeprefix("queue/merge/pending/")[:-3] for path in files(project) if path.startswith("queue/")]
    assert [item[:4] for item in items] == [name[:4] for name in names]
    assert sorted(item[5:] for item in items) == names


def test_an_agent_that_commits_on_master_is_reported(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent(
        f'cd "$SCRIPTORIUM_REPO"; echo x >stray; git add stray; git commit -qm stray; cd - >"{project.root}.cd"'
    )

    result = project.run("code", name)

    commit = project.git("rev-parse", "master")
    assert result.code == 1
    assert f"while the agent of ticket '{name}' ran, these moved: 'refs/heads/master' " in result.err
    assert f" -> {commit[:12]}, '.git/index'; " in result.err
    assert project.git("log", "-1", "--format=%s", "master") == "stray"


def test_a_stale_lock_on_the_plan_is_a_failure_with_a_hint(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_TRIES", 3)
    name = project.ticket("0001", state="in-progress")
    project.agent("true")
    lock = project.root / ".git" / "refs" / "heads" / f"{PLAN}.lock"
    lock.touch()

    with pytest.raises(ScriptoriumError) as raised:
        run_attempt(project.workspace, name)

    assert (raised.value.code, raised.value.hint) == (ExitCode.FAILED, f"if no git is at work, remove '{lock}'")


def test_a_lock_that_a_killed_git_left_in_the_worktree_fails_no_attempt(project: Project, facts: Path) -> None:
    name = project.ticket("0001")
    lock = "$(git rev-parse --git-dir)/index.lock"
    project.agent(
        f'[ -e "$FACTS/once" ] || {{ touch "$FACTS/once" "{lock}"; echo 1 >one; exit 1; }}\nscriptorium submit-pr x'
    )
    project.run("assign")

    assert project.run("code").code == 1
    assert project.git("show", "scriptorium/ticket-0001:one") == "1"
    project.run("assign")
    (project.root / ".git" / "worktrees" / name / "index.lock").touch()
    assert project.run("code")[:2] == (0, f"{name}\n")


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
        f"The agent ended without handing in; its submission was refused: {refusal}\n\n  ```\n  I handed it in\n  ```"
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


def test_a_ticket_without_a_worktree_holds_up_no_other(project: Project) -> None:
    project.agent("echo x >$SCRIPTORIUM_TICKET; scriptorium submit-pr 'done'")
    for id in ("0001", "0002"):
        project.ticket(id, state="in-progress")
    project.git("branch", "scriptorium/ticket-0001/in-the-way")
    result = project.run("code")
    assert (result.code, result.out) == (ExitCode.FAILED, "0002-thing\n")
    assert result.err.startswith(
        "scriptorium: ticket '0001-thing': cannot create its worktree: 'git worktree' failed: fatal: "
    )


def test_work_that_the_system_cannot_submit_is_no_failed_attempt(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    # the file is as long as a file may be, and what git makes of it is longer
    project.agent("head -c 51200 /dev/urandom >work; scriptorium submit-pr 'It works'")

    limited = f"ulimit -f 100; exec {sys.executable} -m scriptorium code {name}"
    done = subprocess.run(["/bin/sh", "-c", limited], cwd=project.root, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "The work could not be submitted: 'git " in done.stderr
    assert "\nCause: infrastructure\n" in project.git("log", "-1", "--format=%B", PLAN)
    assert "attempts" not in project.plan_files()[f"tickets/open/{name}.md"]
    assert (project.worktree(name) / "work").stat().st_size == 51200
