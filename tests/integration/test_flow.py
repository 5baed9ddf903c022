"""The whole flow with each real agent program: plan, areas, tickets, code, submit_pr, gate, landing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.integration.conftest import Backend, every
from tests.scripted_model import Item, Reply, Request, Shell, Text, Tool

pytestmark = every

REQUEST = "The file greeting.txt at the top of the project holds one line: Hello, world"
GATE = "test ! -e greeting.txt || grep -qx 'Hello, world' greeting.txt"


def submit(summary: str) -> Tool:
    return Tool("mcp__scriptorium", "submit_pr", {"summary": summary})


def steps(request: Request, *items: Item) -> Item:
    """Return the next item of a conversation: each item except the last is a call with an output."""
    return items[min(request.turn, len(items) - 1)]


def team(request: Request) -> Reply:
    """Answer as the Architect, the Manager or the coding agent of the greeting program."""
    prompt = request.prompt
    if "in a planning session" in prompt:
        return steps(request, Shell(f"printf '# Spec\\n\\n{REQUEST}\\n' > spec.md"), Text("spec.md says so now."))
    if "You are the Architect" in prompt:
        return steps(request, Shell("echo 'The greeting file.' > areas/greeting.md"), Text("One area."))
    if "You are the Manager" in prompt:
        text = "---\\narea: greeting\\n---\\n# Write the greeting\\n"
        return steps(request, Shell(f"printf -- '{text}' > tickets/open/greeting.md"), Text("One ticket."))
    return steps(
        request,
        Shell("echo 'Hello, world' > greeting.txt; git add greeting.txt; git commit -qm 'Add the greeting'"),
        submit("The greeting is there"),
        Text("Done."),
    )


@pytest.mark.behaviour("a request becomes a tested commit on master")
def test_a_request_becomes_a_commit_on_master(backend: Backend) -> None:
    project = backend.project
    project.gate(GATE)
    with backend.answering(team) as requests:
        planned = project.run("plan", REQUEST)
        assert planned.code == 0, planned.err
        assert "Hello, world" in project.plan_files()["spec.md"]
        ran = project.run("run", "--until-idle")
    assert ran.code == 0, ran.out + ran.err
    assert (project.root / "greeting.txt").read_text() == "Hello, world\n"
    assert project.git("status", "--porcelain") == ""
    assert project.git("show", "master:greeting.txt") == "Hello, world"
    files = project.plan_files()
    assert not [name for name in files if name.startswith(("tickets/open/0", "tickets/in-progress/0"))]
    assert [name for name in files if name.startswith("tickets/done/0001")]
    trailers = project.git("log", "-1", "--format=%(trailers:only)", "--grep=complete ticket", "scriptorium/plan")
    assert "Tokens-In: " in trailers
    assert f"Agent: {backend.name}/" in trailers
    assert project.run("fsck").code == 0
    if not backend.real:
        assert {request.headers.get("authorization") for request in requests} <= {None, "Bearer scripted"}
        assert "ticket 0001-greeting is queued to be merged" in " ".join(requests[-1].tool_outputs.values())


@pytest.mark.behaviour("the daemon serves submit_pr, and terminates the agent on SIGTERM")
def test_the_daemon_serves_the_agent_and_stops_on_sigterm(backend: Backend) -> None:
    project = backend.project
    project.gate(GATE)
    project.commit_plan({"spec.md": f"# Spec\n\n{REQUEST}\n"})
    with backend.answering(team):
        daemon = subprocess.Popen(
            [sys.executable, "-m", "scriptorium", "run"], cwd=project.root, stdout=subprocess.PIPE, text=True
        )
        assert daemon.stdout is not None
        said = []
        for line in daemon.stdout:
            said.append(line)
            if "landed" in line:
                daemon.terminate()
        assert daemon.wait() == 143
    assert "[INFO] orchestrator listening on http://127.0.0.1:" in said[0]
    assert any("coding agent called submit_pr, summary=" in line for line in said)
    assert project.git("show", "master:greeting.txt") == "Hello, world"


@pytest.mark.behaviour("a single step serves submit_pr")
def test_a_single_step_by_hand_serves_its_own_submit_tool(backend: Backend) -> None:
    project = backend.project
    ticket = project.ticket("0001-greet", body=REQUEST)
    assert project.run("assign").code == 0
    with backend.answering(team):
        coded = project.run("code", ticket)
    assert (coded.code, coded.out) == (0, f"{ticket}\n"), coded.err
    assert project.run("merge").out == f"{ticket}\tlanded\n"


@pytest.mark.behaviour("edits of a planner outside the spec are rejected")
def test_a_planner_that_edits_too_much_is_refused_and_its_spec_kept(backend: Backend) -> None:
    project = backend.project
    before = project.plan_files()
    both: Sequence[Item] = [Shell("echo better > spec.md; echo x > areas/stray.md"), Text("ok")]
    with backend.answering(lambda request: steps(request, *both)):
        planned = project.run("plan", "make it better")
    assert planned.code == 1
    assert "'areas/stray.md'" in planned.err
    assert project.plan_files() == before
    command = planned.err.partition("its spec is kept: ")[2].strip().split()
    assert subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True).stdout == "better\n"
