"""The sandboxes of the real codex and the real Claude Code: writes outside the worktree fail."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scriptorium.agents.run import make_task, run_agent
from tests.integration.conftest import Backend
from tests.scripted_model import Item, Reply, Request, Shell, Text, Tool, Write
from tests.support import PLAN, Project, Result

SUBMIT = Tool("mcp__scriptorium", "submit_pr", {"summary": "The work is there"})
NO_NAMESPACES = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'


@contextmanager
def doing(backend: Backend, *items: Item) -> Iterator[list[str]]:
    """Make the model request one item after the other; returns a list that collects the answers of the tools."""
    answers: list[str] = []

    def script(request: Request) -> Reply:
        answers[:] = request.tool_outputs.values()
        return items[min(request.turn, len(items) - 1)]

    with backend.answering(script):
        yield answers


def code(project: Project, ticket: str, wrapper: tuple[str, ...] = ()) -> Result:
    """Run `scriptorium code` through a wrapper that changes its view of the host."""
    argv = [*wrapper, sys.executable, "-m", "scriptorium", "code", ticket]
    done = subprocess.run(argv, cwd=project.root, capture_output=True, text=True, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def everything(project: Project) -> dict[str, bytes]:
    """Return the files that an agent must not change: the checkout, and git files that no submission writes."""
    names = [str(path.relative_to(project.root)) for path in project.root.rglob("*") if path.is_file()]
    moving = tuple(f".git/{name}" for name in ("objects/", "logs/", "worktrees/", "index", "refs/heads/scriptorium/"))
    files = {name: (project.root / name).read_bytes() for name in names if not name.startswith(moving)}
    if not files.get(".git/config.worktree", b"-"):
        del files[".git/config.worktree"]  # claude mounts a file there, and leaves it empty
    return files


@pytest.mark.behaviour("its sandbox blocks 18 ways out of the worktree")
def test_nothing_outside_the_worktree_can_be_written(backend: Backend, project: Project) -> None:
    project.commit({"precious": "kept\n"})
    other = project.ticket("0002")
    name = project.ticket("0001")
    assert [project.run("assign").code for _ in range(2)] == [0, 0]
    root, git = project.root, project.root / ".git"
    in_tmp = Path("/tmp", f"stray-{secrets.token_hex(8)}")
    before, refs = everything(project), project.refs()
    attempts = {
        "outside": f"echo x >{root.parent}/stray",
        "home": "echo x >$HOME/stray",
        "tmp": f"echo x >{in_tmp}",
        "checkout": f"rm {root}/precious",
        "worktree": f"echo x >{project.worktree(other)}/stray",
        "locks": f"rm {project.paths.ticket_lock(name)}",
        "commit": f"git -C {root} commit --allow-empty -m Mine",
        "master": "git update-ref refs/heads/master $(git commit-tree -m x HEAD^{tree})",
        "plan": f"git update-ref refs/heads/{PLAN} HEAD",
        "planfile": f"rm {git}/refs/heads/{PLAN}",
        "ticket": "git update-ref refs/heads/scriptorium/ticket-0002 HEAD~1",
        "branch": "git branch mine",
        "config": "git config alias.x y",
        "configfile": f"echo x >>{git}/config",
        "hook": f"echo x >{git}/hooks/post-commit",
        "head": f"echo x >{git}/HEAD",
        "objects": f"find {git}/objects -delete",
        "link": "echo x >.git",
    }
    done = "{ %s; } >/dev/null 2>&1 && echo DID '%s'"
    one_by_one = [Shell(f"{done % (command, what)}; true") for what, command in attempts.items()]
    writes = [Write(str(root / "stray"), "x"), Write(str(git / "hooks" / "pre-commit"), "x")]
    with doing(
        backend,
        *one_by_one,
        *(writes if backend.name == "claude-code" else ()),
        Shell("echo mine >file; echo TMPDIR=$TMPDIR; touch $TMPDIR/mine && echo WROTE"),
        SUBMIT,
        Text("Done."),
    ) as answers:
        coded = code(project, name)

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "scriptorium: sandbox: workspace-write\n" in coded.err
    assert len(answers) == len(attempts) + len(writes) * (backend.name == "claude-code") + 2
    assert [line for answer in answers for line in answer.splitlines() if line.startswith("DID")] == []
    assert "WROTE" in answers[-2]
    assert everything(project) == before
    assert {**project.refs(), **moved(refs, name)} == refs
    assert not list(root.parent.glob("**/stray"))
    assert not in_tmp.exists()
    assert not Path(answers[-2].partition("TMPDIR=")[2].split()[0]).exists()
    assert project.git("show", "scriptorium/ticket-0001:file") == "mine"
    assert project.git("diff", "--name-only", "master", "scriptorium/ticket-0001") == "file"
    assert project.run("merge").out == f"{name}\tlanded\n"


def moved(refs: dict[str, str], ticket: str) -> dict[str, str]:
    """Return the previous refs that a submission moves."""
    return {ref: refs[ref] for ref in (f"refs/heads/{PLAN}", f"refs/heads/scriptorium/ticket-{ticket[:4]}")}


@pytest.mark.behaviour("works with the sandbox off")
def test_without_the_sandbox_an_agent_works_all_the_same_and_it_is_said(backend: Backend, project: Project) -> None:
    project.configure(sandbox="off")
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    with doing(
        backend,
        Shell(f"echo mine >file; git add file; git commit -qm Mine; echo x >{project.root.parent}/stray"),
        SUBMIT,
        Text("Done."),
    ):
        coded = code(project, name)

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "scriptorium: sandbox: none (switched off in 'scriptorium.json')\n" in coded.err
    assert project.git("log", "-1", "--format=%s", "scriptorium/ticket-0001") == "Mine"
    assert (project.root.parent / "stray").exists()
    assert f"Sandbox: {backend.name}: none (switched off in 'scriptorium.json')\n" in project.run("status").out


@pytest.mark.behaviour("works on a host without a sandbox")
def test_without_user_namespaces_an_agent_works_and_a_line_is_logged(backend: Backend, project: Project) -> None:
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    with doing(backend, Shell("echo mine >file; git add file; git commit -qm Mine"), SUBMIT, Text("Done.")):
        coded = code(project, name, ("unshare", "--user", "--map-root-user", "sh", "-c", NO_NAMESPACES, "sh"))

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "scriptorium: sandbox: none (bwrap: " in coded.err
    assert project.git("log", "-1", "--format=%s", "scriptorium/ticket-0001") == "Mine"
    found = json.loads(project.run("status", "--json").out)["sandbox"]
    assert {name: one["name"] for name, one in found.items()} == {backend.name: ""}
    assert found[backend.name]["reason"].startswith("bwrap: ")


@pytest.mark.behaviour("resolves a conflict within the sandbox")
def test_a_conflict_with_master_is_resolved_within_the_sandbox(backend: Backend, project: Project) -> None:
    project.commit({"file": "first\n"})
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    with doing(backend, Shell("echo ours >file"), SUBMIT, Text("Done.")) as answers:
        assert code(project, name).code == 0
    project.commit({"file": "theirs\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    assert project.run("assign").code == 0

    with doing(backend, Shell("cat file"), Shell("echo both >file"), SUBMIT, Text("Done.")) as answers:
        coded = code(project, name)

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "<<<<<<< " in answers[-3]
    assert project.run("merge").out == f"{name}\tlanded\n"
    assert project.git("show", "master:file") == "both"


@pytest.mark.behaviour("a read-only run writes nothing")
def test_a_read_only_run_writes_nothing(backend: Backend, project: Project) -> None:
    before = everything(project)
    workspace = project.workspace
    write = Write(str(project.root / "stray"), "x") if backend.name == "claude-code" else Shell("echo x >$TMPDIR/stray")
    with doing(backend, Shell("echo x >stray"), write, Text("I have seen all.")) as answers:
        harness, task = make_task(workspace, "coding", "Look around", project.root, "ask")
        outcome = run_agent(workspace, harness, replace(task, read_only=True))

    assert (outcome.finished.ok, outcome.report.message) == (True, "I have seen all.")
    assert len(answers) == 2
    assert everything(project) == before
