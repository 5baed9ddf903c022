"""The interfaces of version 1.0, as literal data: names and numbers that users, scripts and files depend on.

A later version may add to each of them, and must not take away or rename. So the tests compare with literals only,
and no identifier of the source occurs here. `tests.upgrade.test_upgrade` has the rest: the values that reports print
as JSON, the log lines and the names of locks.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support import CHECKOUT, PLAN, Project, until, write_script
from tests.upgrade.reading import commits, key_of, lines, state

VERBS = (
    "init", "plan", "ask", "run", "status", "worktrees", "architect", "manager", "assign", "code", "submit-pr",
    "merge", "health", "fsck", "rescue", "clean", "doctor", "hooks", "demo",
)  # fmt: skip

RUN = {"Agent", "Seconds"}
"""Trailers of a commit that records an agent's run."""
TOKENS = {"Tokens-In", "Tokens-Cached", "Tokens-Out", "Tokens-Reasoning", "Cost-USD"}
"""Further trailers of such a commit, if the agent reports its usage."""
MOVE = {"Ticket", "Move", "Attempt"}
COMMITS = {
    "scriptorium: initialize plan branch": set(),
    "scriptorium: update spec from architect": RUN | TOKENS,
    "scriptorium: update areas from spec": {"Areas", *RUN},
    "scriptorium: create tickets from area core": {"Area", "Tickets", *RUN},
    "scriptorium: assign ticket 0001-good": MOVE,
    "scriptorium: enqueue ticket 0001-good": {"Ticket", "Attempt", "Head"},
    "scriptorium: complete ticket 0001-good": {*MOVE, "Landed", *RUN},
    "scriptorium: assign ticket 0002-bad": MOVE,
    "scriptorium: park ticket 0002-bad": {*MOVE, "Cause", "Reason", *RUN},
}
"""The subjects of the plan branch, and the trailers of each beside `Transaction`."""

PLAN_FILES = {
    "areas/.gitkeep", "areas/core.md", "decisions/.gitkeep", "format", "last-id", "planned", "queue/merge/active.md",
    "queue/merge/pending/.gitkeep", "spec.md", "tickets/done/.gitkeep", "tickets/done/0001-good.md",
    "tickets/in-progress/.gitkeep", "tickets/open/.gitkeep", "tickets/stuck/.gitkeep", "tickets/stuck/0002-bad.md",
}  # fmt: skip

ITEM = """\
# Merge Queue Item

**Ticket:** tickets/in-progress/{name}.md
**Ticket ID:** {id}
**Branch:** scriptorium/ticket-{id}
**Worktree:** /nowhere
**Head:** {head}
**Summary:** Done
"""
FIELD = re.compile(r"^\*\*(.+?):\*\*", re.MULTILINE)

ATTEMPT = ("attempt-01.json", "attempt-01.jsonl", "attempt-01.prompt.md", "attempt-01.stderr")
STATE_FILES = {
    "bin/scriptorium", "conversation.jsonl", "gates/TREE-22cc66aa7d26", "logs/0001-good/gate-01.log",
    "logs/health/gate-01.log", "sandboxes/codex.json",
    *(f"locks/{name}.lock" for name in ("health", "merge", "repo", "run", "worktrees")),
    *(f"locks/tickets/{name}.lock" for name in ("0001-good", "0002-bad")),
    *(f"logs/{name}/{file}" for file in ATTEMPT
      for name in ("0001-good", "0002-bad", "architect", "manager-core", "plan", "ask")),
}  # fmt: skip
"""Files below the state directory, with ``TREE`` for a tree's id."""

VARIABLES = {
    f"SCRIPTORIUM_{name}" for name in ("AREA", "REPO", "ROLE", "ROOT", "SOCKETS", "TICKET", "TOKEN", "WORKTREE")
}
"""Variables in the environment of a coding agent."""

AGENT = r"""
[ "$1" = exec ] || exit 0
cat >/dev/null
echo "$SCRIPTORIUM_ROLE,$SCRIPTORIUM_TICKET,$SCRIPTORIUM_AREA,$SCRIPTORIUM_REPO,$SCRIPTORIUM_WORKTREE" >>"$FACTS/agents"
names() { env | sed -n 's/^\(SCRIPTORIUM_[A-Z]*\)=.*/\1/p'; }
case $SCRIPTORIUM_ROLE-$SCRIPTORIUM_TICKET-$(head -n 1 spec.md 2>/dev/null) in
"architect--# Spec") echo 'A tool.' >spec.md ;;
architect--A*) echo 'The core.' >areas/core.md ;;
architect--) find "$SCRIPTORIUM_ROOT" -path '*/locks/ask/*' >"$FACTS/ask" ;;
manager-*) for name in 1-good 2-bad; do printf "# $name\n\nDo it.\n" >tickets/open/$name.md; done ;;
coding-0001-*) names >"$FACTS/coding"; echo good >good; scriptorium submit-pr "Good" ;;
esac >&2
echo '{"type":"thread.started","thread_id":"session"}'
echo '{"type":"item.completed","item":{"type":"agent_message","text":"Done."}}'
echo '{"type":"turn.completed","usage":{"input_tokens":9,"cached_input_tokens":8,"output_tokens":7,
"reasoning_output_tokens":6}}' | tr -d '\n'
"""


def test_a_project_is_built_under_the_names_of_1_0(project: Project, facts: Path) -> None:
    write_script(project.root.parent / "home" / "bin" / "codex", AGENT)
    names = r"env | sed -n 's/^\(SCRIPTORIUM_[A-Z]*\)=.*/\1/p' >>$$FACTS/gate; pwd >>$$FACTS/gates"
    project.gate(names)
    price = {"input": 1, "cached": 1, "output": 1}
    project.configure(environment=["FACTS"], max_attempts=1, prices={"gpt-5.1-codex-mini": price})
    assert project.run("--init").code == 0
    assert project.run("plan", "A tool").code == 0
    # from here on as a program of the user's own, which needs no MCP server
    roles = dict.fromkeys(("architect", "manager", "coding"), "mine")
    local = {"local": "http://127.0.0.1:0"}
    project.configure(models=roles, harnesses={"mine": {"command": ["codex", "exec"]}}, endpoints=local)
    assert project.run("run", "--until-idle").code == 1  # a ticket is stuck
    assert project.run("ask", "Why?").code == 0

    found = {commit.subject: commit.trailers.keys() for commit in commits(project)}
    assert COMMITS.keys() <= found.keys()
    for subject, trailers in COMMITS.items():
        assert trailers | {"Transaction"} <= found[subject], subject
    assert project.plan_files().keys() >= PLAN_FILES
    item = project.git("show", f"{PLAN}^{{/enqueue}}:queue/merge/pending/0001-0001-good.md")
    assert set(FIELD.findall(item)) >= set(FIELD.findall(ITEM))
    home = state(project)
    files = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    files = {re.sub("^gates/[0-9a-f]{40}-", "gates/TREE-", path) for path in files}
    assert files >= STATE_FILES
    assert (project.root / ".git" / "scriptorium-branch").read_text() == "master\n"
    assert set((facts / "coding").read_text().split()) >= VARIABLES
    gate = set((facts / "gate").read_text().split())
    assert "SCRIPTORIUM_WORKTREE" in gate
    assert gate.isdisjoint({"SCRIPTORIUM_TOKEN", "SCRIPTORIUM_SOCKETS", "SCRIPTORIUM_ROLE", "SCRIPTORIUM_TICKET"})
    trees = home / "worktrees"
    assert lines(facts / "gates") == [str(trees / "health"), str(trees / "tickets" / "0001-good")]
    *agents, asked = lines(facts / "agents")
    assert agents == [
        f"architect,,,{project.root},{trees}/plan",
        f"architect,,,{project.root},{trees}/plan",
        f"manager,,core,{project.root},{trees}/plan",
        f"coding,0001-good,core,{project.root},{trees}/tickets/0001-good",
        f"coding,0002-bad,core,{project.root},{trees}/tickets/0002-bad",
    ]
    question = re.fullmatch(rf"architect,,,{project.root},{trees}/ask/([^/]+)/source", asked)
    assert question
    assert lines(facts / "ask") == [str(home / "locks" / "ask" / f"{question[1]}.lock")]


def causes(project: Project) -> dict[str, str]:
    """Return the cause of the last failure of each ticket."""
    return {
        commit.trailers["Ticket"]: commit.trailers["Cause"] for commit in commits(project) if "Cause" in commit.trailers
    }


def locks_worktrees(project: Project) -> bool:
    """Return whether the lock for making a worktree has its name, after a step of one kind has made some."""
    return (state(project) / "locks" / "worktrees.lock").exists()


def test_causes_of_an_agent_that_fails(project: Project, facts: Path) -> None:
    project.init()
    names = [project.ticket(id, state="in-progress") for id in ("0001", "0002", "0003", "0004", "0005")]
    project.agent("case $SCRIPTORIUM_TICKET in 0001*) ;; 0002*) exit 7 ;; *) touch $FACTS/busy; exec sleep 600 ;; esac")

    assert project.run("code", *names[:2]).code == 1
    project.configure(timeouts={"no_output": 0.1})
    assert project.run("code", names[2]).code == 1
    project.configure(timeouts={"no_output": 0, "hard": 0.1})
    assert project.run("code", names[3]).code == 1
    project.configure(timeouts={})
    (facts / "busy").unlink(missing_ok=True)
    with project.running("code", names[4]) as coding:
        until((facts / "busy").exists)
        assert coding.end(signal.SIGTERM).code == 143

    assert locks_worktrees(project)
    expected = dict(zip(names, ("no-submit", "agent", "silence", "timeout", "stopped"), strict=True))
    assert causes(project) == expected
    files = project.plan_files()
    notes = {name: re.findall("^## .*$", files[f"tickets/open/{name}.md"], re.MULTILINE) for name in names}
    counted = {name: [f"## Attempt 1 failed: {cause}"] for name, cause in expected.items()}
    assert notes == {**counted, names[4]: []}


def test_causes_of_a_landing_that_fails(project: Project) -> None:
    project.init()
    project.gate("! test -e broken")
    heads = {}
    for id, file in (("0002", "shared"), ("0003", "broken"), ("0004", "other")):
        project.git("checkout", "--quiet", "-b", f"scriptorium/ticket-{id}", "master")
        heads[id] = project.commit({file: f"{id}\n"})
    project.git("checkout", "--quiet", "master")
    project.commit({"shared": "theirs\n"})
    heads["0004"] = "1" * 40  # submitted, and gone
    names = {"0001": "0001-dropped", "0002": "0002-conflict", "0003": "0003-gate", "0004": "0004-lost"}
    items = {
        f"queue/merge/pending/{id}-{name}.md": ITEM.format(name=name, id=id, head=heads.get(id, ""))
        for id, name in names.items()
    }
    text = "---\narea: core\n---\n# Do it\n"
    files = {f"tickets/{'stuck' if id == '0001' else 'in-progress'}/{name}.md": text for id, name in names.items()}
    project.commit_plan({**files, **items})

    result = project.run("merge", "0002", "0003", "0004")

    assert result.code == 0, result.err
    assert result.out == "0002-conflict\treopened\n0003-gate\treopened\n0004-lost\treopened\n"
    assert causes(project) == {"0002-conflict": "conflict", "0003-gate": "gate", "0004-lost": "lost"}
    assert project.plan_log()[-4:] == [
        "scriptorium: drop queue item of ticket 0001-dropped",
        "scriptorium: reopen ticket 0002-conflict",
        "scriptorium: reopen ticket 0003-gate",
        "scriptorium: reopen ticket 0004-lost",
    ]


REFUSALS = {
    "auth": "unexpected status 401 Unauthorized",
    "rate-limit": "unexpected status 429 Too Many Requests",
    "provider": "unexpected status 503 Service Unavailable",
    "infrastructure": "unexpected status 404 Not Found",
}


def test_causes_of_a_backend_that_refuses(project: Project, facts: Path) -> None:
    project.init()
    write_script(project.root.parent / "home" / "bin" / "codex", 'cat >/dev/null; cat "$FACTS/refusal"; exit 1')
    project.configure(environment=["FACTS"], sandbox="off")
    file = state(project) / "backends" / "codex.json"

    session = project.start("plan", stdin=subprocess.PIPE)
    assert session.stdin
    for cause, refused in REFUSALS.items():
        (facts / "refusal").write_text(json.dumps({"type": "turn.failed", "error": {"message": refused}}))
        session.stdin.write("More\n")
        session.stdin.flush()
        until(file.exists)
        rest = json.loads(file.read_text())
        assert rest.keys() >= {"backend", "until", "failures", "cause", "error"}
        assert (rest["backend"], rest["failures"], rest["cause"]) == ("codex", 1, cause)
        file.unlink()
    session.communicate()
    assert session.returncode == 1
    assert locks_worktrees(project)


def test_exit_codes(project: Project, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text("import json\njson.dumps = None\n")
    project.init()
    broken = subprocess.run(
        [sys.executable, "-m", "scriptorium", "status", "--json"],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'broken'}{os.pathsep}{CHECKOUT}"},
        capture_output=True,
        check=False,
    )
    project.agent("true")
    project.configure(endpoints={"local": "http://127.0.0.1:0"})
    with project.running("run") as run:
        run.says("[INFO] WAITING: no spec — run 'scriptorium plan'\n")
        locked = project.run("run", "--once")
        interrupted = run.end(signal.SIGINT)
    project.gate("false")
    red = project.run("health")
    assert locks_worktrees(project)
    project.configure(gates="make test")
    codes = {
        0: project.run("--version").code,
        1: project.run("code", "0009").code,
        2: project.run("rescue").code,
        3: red.code,
        4: broken.returncode,
        75: locked.code,
        78: project.run("run").code,
        130: interrupted.code,
    }
    assert codes == {code: code for code in codes}


def test_console_scripts_and_verbs(project: Project) -> None:
    scripts = {"scriptorium", "git-scriptorium", *(f"scriptorium-{verb}" for verb in VERBS)}
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["scripts"].keys() >= scripts
    assert {path.name for path in (CHECKOUT / "bin").iterdir()} >= scripts
    usage = project.run("--help").out
    assert set(re.findall(r"^  ([a-z-]+) ", usage, re.MULTILINE)) >= set(VERBS)


def test_keys_of_doctor_and_variables_of_every_command(project: Project, tmp_path: Path) -> None:
    checked = project.run("doctor", "--json", cwd=tmp_path)
    assert checked.code == 1
    facts = json.loads(checked.out)
    assert facts.keys() >= {"ok", "checks"}
    assert facts["ok"] is False
    assert all(check.keys() >= {"subject", "state", "text", "hint"} for check in facts["checks"])
    found = {check["subject"]: check["state"] for check in facts["checks"]}
    assert found == {"git": "ok", "repository": "failed"}

    place = tmp_path / "elsewhere"
    result = project.run("hooks", "install", env={"SCRIPTORIUM_ROOT": str(place), "SCRIPTORIUM_LOG_LEVEL": "ERROR"})
    assert (result.code, result.err) == (0, "")
    assert (place / key_of(project.root) / "locks" / "hooks.lock").exists()
    hook = (project.root / ".git" / "hooks" / "post-commit").read_text()
    assert set(re.findall(r"SCRIPTORIUM_[A-Z]+", hook)) >= {"SCRIPTORIUM_HOOK", "SCRIPTORIUM_ROLE"}
    assert re.match(r"#!/bin/sh\n# scriptorium-hook [0-9a-f]{64}\n", hook)
    traced = project.run("rescue", env={"SCRIPTORIUM_DEBUG": "1"})
    assert "Traceback (most recent call last):" in traced.err


ROLES = ("architect", "manager", "coding", "reviewer")
CONFIG = {
    "models": dict.fromkeys(ROLES, "gpt-5.5"),
    "reasoning_effort": dict.fromkeys(ROLES, "high"),
    "harnesses": {"mine": {"command": ["true"], "env": {}, "protocol": "acp", "model": "m", "mode": "n"}},
    "environment": ["DATABASE_URL"],
    "prices": {"gpt-5.5": {"input": 1.25, "cached": 0.125, "output": 10}},
    "endpoints": {"local": "http://127.0.0.1:0"},
    "sandbox": "off",
    "branch": "master",
    "gate": "make test",
    "timeouts": {
        "gate": 1800,
        "hard": 14400,
        "no_output": 300,
        "no_progress": 600,
        "codingAgentHardTimeoutMs": 14400000,
        "codingAgentNoOutputTimeoutMs": 300000,
        "codingAgentProgressTimeoutMs": 600000,
        "codingAgentMaxAttempts": 5,
    },
    "agents": {role: {"model": "gpt-5.5", "harness": "codex"} for role in (*ROLES, "audit")},
    "concurrency": {"maxAgents": 1, "tokenBudgetMB": 4},
    "loop": {},
    "max_attempts": 5,
    "disk_floor": 0,
    "logLevel": "INFO",
    "fileLogLevel": "DEBUG",
}
"""Every key that 1.0 accepts."""


def test_keys_of_the_configuration(project: Project) -> None:
    project.init()
    project.configure(**CONFIG)
    assert project.run("assign") == (0, "", "")
    project.configure(models={"coder": "gpt-5.5"})  # an unknown key
    assert project.run("assign").code == 78
