"""The sandboxes of the real codex and the real Claude Code: what an agent does outside its worktree fails."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scriptorium import agent as agents
from tests.scripted_model import (
    Item,
    Reply,
    Request,
    ScriptedModel,
    Shell,
    Text,
    Tool,
    Write,
    claude_environment,
    codex_config,
)
from tests.support import PLAN, Project, Result

MODELS = {"codex": "gpt-5.5", "claude-code": "claude-opus-5-5"}
PROGRAMS = {"codex": "codex", "claude-code": "claude"}
SUBMIT = Tool("mcp__scriptorium", "submit_pr", {"summary": "The work is there"})
NO_NAMESPACES = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'


@pytest.fixture(params=MODELS)
def backend(request: pytest.FixtureRequest, project: Project) -> str:
    """Each backend that has a sandbox, for the coding role of a project with its plan branch made."""
    name = str(request.param)
    assert shutil.which(PROGRAMS[name]), f"'{PROGRAMS[name]}' is not on PATH\nhint: make integration-test"
    project.init()
    project.configure(models={"coding": MODELS[name]})
    return name


class Agent:
    """A backend's program with a script for a model; ``code`` lets it work on a ticket."""

    def __init__(self, project: Project, backend: str) -> None:
        self.project, self.backend = project, backend
        self.home = project.root.parent / "agent-home"
        self.home.mkdir()
        self.answers: list[str] = []
        """What the agent's tools told it."""
        self.environment: dict[str, str] = {}

    @contextmanager
    def doing(self, *items: Item) -> Iterator[None]:
        """Let the model ask for one item after the other, then hand in."""
        todo = [*items, SUBMIT, Text("Done.")]

        def script(request: Request) -> Reply:
            self.answers = list(request.tool_outputs.values())
            return todo[min(request.turn, len(todo) - 1)]

        with ScriptedModel(script) as model:
            if self.backend == "codex":
                (self.home / "config.toml").write_text(codex_config(model.url))
                self.environment = {"CODEX_HOME": str(self.home)}
            else:
                self.environment = claude_environment(model.root, str(self.home))
            yield

    def code(self, ticket: str, wrapper: tuple[str, ...] = ()) -> Result:
        """Run `scriptorium code`, in what a wrapper makes of the host."""
        argv = [*wrapper, sys.executable, "-m", "scriptorium", "code", ticket]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(argv, cwd=self.project.root, env=environment, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def agent(project: Project, backend: str) -> Agent:
    return Agent(project, backend)


def everything(project: Project) -> dict[str, bytes]:
    """Return what an agent must leave alone: the files of the checkout, and those of git that no submit writes."""
    names = [str(path.relative_to(project.root)) for path in project.root.rglob("*") if path.is_file()]
    moving = tuple(f".git/{name}" for name in ("objects/", "logs/", "worktrees/", "index", "refs/heads/scriptorium/"))
    files = {name: (project.root / name).read_bytes() for name in names if not name.startswith(moving)}
    if not files.get(".git/config.worktree", b"-"):
        del files[".git/config.worktree"]  # claude mounts something there, and leaves it empty
    return files


def test_nothing_outside_the_worktree_can_be_written(agent: Agent, project: Project) -> None:
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
    with agent.doing(
        *one_by_one,
        *(writes if agent.backend == "claude-code" else ()),
        Shell("echo mine >file; echo TMPDIR=$TMPDIR; touch $TMPDIR/mine && echo WROTE"),
    ):
        coded = agent.code(name)

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "scriptorium: sandbox: workspace-write\n" in coded.err
    assert len(agent.answers) == len(attempts) + len(writes) * (agent.backend == "claude-code") + 2
    assert [line for answer in agent.answers for line in answer.splitlines() if line.startswith("DID")] == []
    assert "WROTE" in agent.answers[-2]
    assert everything(project) == before
    assert {**project.refs(), **moved(refs, name)} == refs
    assert not list(root.parent.glob("**/stray"))
    assert not in_tmp.exists()
    assert not Path(agent.answers[-2].partition("TMPDIR=")[2].split()[0]).exists()
    assert project.git("show", "scriptorium/ticket-0001:file") == "mine"
    assert project.git("diff", "--name-only", "master", "scriptorium/ticket-0001") == "file"
    assert project.run("merge").out == f"{name}\tlanded\n"


def moved(refs: dict[str, str], ticket: str) -> dict[str, str]:
    """Return the refs that a submit moves, as they were."""
    return {ref: refs[ref] for ref in (f"refs/heads/{PLAN}", f"refs/heads/scriptorium/ticket-{ticket[:4]}")}


def test_without_the_sandbox_an_agent_works_all_the_same_and_it_is_said(agent: Agent, project: Project) -> None:
    project.configure(sandbox="off")
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    with agent.doing(Shell(f"echo mine >file; git add file; git commit -qm Mine; echo x >{project.root.parent}/stray")):
        coded = agent.code(name)

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "scriptorium: sandbox: none (switched off in 'scriptorium.json')\n" in coded.err
    assert project.git("log", "-1", "--format=%s", "scriptorium/ticket-0001") == "Mine"
    assert (project.root.parent / "stray").exists()
    assert f"Sandbox: {agent.backend}: none (switched off in 'scriptorium.json')\n" in project.run("status").out


def test_without_user_namespaces_an_agent_works_all_the_same_and_it_is_said(agent: Agent, project: Project) -> None:
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    with agent.doing(Shell("echo mine >file; git add file; git commit -qm Mine")):
        coded = agent.code(name, ("unshare", "--user", "--map-root-user", "sh", "-c", NO_NAMESPACES, "sh"))

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "scriptorium: sandbox: none (bwrap: " in coded.err
    assert project.git("log", "-1", "--format=%s", "scriptorium/ticket-0001") == "Mine"
    [(backend, found)] = json.loads(project.run("status", "--json").out)["sandbox"].items()
    assert (backend, found["name"]) == (agent.backend, "")
    assert found["reason"].startswith("bwrap: ")


def test_a_conflict_with_master_is_resolved_within_the_sandbox(agent: Agent, project: Project) -> None:
    project.commit({"file": "first\n"})
    name = project.ticket("0001")
    assert project.run("assign").code == 0
    with agent.doing(Shell("echo ours >file")):
        assert agent.code(name).code == 0
    project.commit({"file": "theirs\n"})
    assert project.run("merge").out == f"{name}\treopened\n"
    assert project.run("assign").code == 0

    with agent.doing(Shell("cat file"), Shell("echo both >file")):
        coded = agent.code(name)

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    assert "<<<<<<< " in agent.answers[-3]
    assert project.run("merge").out == f"{name}\tlanded\n"
    assert project.git("show", "master:file") == "both"


def test_a_read_only_run_writes_nothing(agent: Agent, project: Project) -> None:
    before = everything(project)
    workspace = project.workspace
    harness, task = agents.task(workspace, "coding", "Look around", project.root, "ask")
    write = (
        Write(str(project.root / "stray"), "x") if agent.backend == "claude-code" else Shell("echo x >$TMPDIR/stray")
    )
    with agent.doing(Shell("echo x >stray"), write, Text("I have seen all.")):
        task = replace(task, env={**task.env, **agent.environment}, read_only=True)
        outcome = agents.run(workspace, harness, task)

    assert (outcome.finished.ok, outcome.report.message) == (True, "I have seen all.")
    assert len(agent.answers) == 2
    assert everything(project) == before
