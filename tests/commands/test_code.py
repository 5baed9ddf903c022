"""scriptorium code: the prompt, the submission, and the choice of tickets."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.errors import ExitCode
from tests.commands.code_cases import SUBMIT, files
from tests.support import PLAN, Project, trailers, until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()


# -- submitting ---------------------------------------------------------------------------------------


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
