"""Continue a project that version 1.0.0 left in every state: nothing is lost, and nothing is done twice.

`tests.upgrade.make_fixture` shows how 1.0 left it so. The tests compare with literal names, as users and their
scripts do.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import PLAN, Project, write_script
from tests.upgrade.reading import commits, has, lines, report, state

pytestmark = pytest.mark.slow

AGENT = r"""
[ "$1" = exec ] || exit 0
session=new; case "$*" in *" resume "*) session=${*##* resume }; session=${session% -} ;; esac
echo "$SCRIPTORIUM_ROLE $SCRIPTORIUM_TICKET $session" >>"$FACTS/calls"
cat >"$FACTS/prompt-$SCRIPTORIUM_ROLE-$SCRIPTORIUM_TICKET"
echo '{"type":"thread.started","thread_id":"'"$session"'"}'
case $SCRIPTORIUM_ROLE-$SCRIPTORIUM_TICKET in
architect-) echo 'A tool with a lid.' >spec.md ;;
manager-) printf -- '---\ndepends: [2]\n---\n# More\n\nIt depends on a stuck ticket.\n' >tickets/open/more.md ;;
coding-0003-clash) cp notes.txt "$FACTS/conflict"; echo both >notes.txt; scriptorium submit-pr "Both" ;;
coding-0004-break) echo "broken again" >break.txt; scriptorium submit-pr "Again" ;;
coding-*) echo done >>"${SCRIPTORIUM_TICKET#*-}.txt"; scriptorium submit-pr "Done" ;;
esac >/dev/null
echo '{"type":"item.completed","item":{"type":"agent_message","text":"Done."}}'
echo '{"type":"turn.completed","usage":{"input_tokens":2000,"cached_input_tokens":300,"output_tokens":50}}'
"""
"""Stands in for codex, which the configuration of the fixture names."""


def install(project: Project) -> None:
    """Put the agent on PATH."""
    write_script(project.root.parent / "home" / "bin" / "codex", AGENT)


def watch_marks(project: Project, facts: Path) -> None:
    """Put a git on PATH that notes, each time it is called, which marks lie in the git directories."""
    places = f"{project.root}/.git/scriptorium-* {project.root}/.git/worktrees/*/scriptorium-*"
    script = f'echo {places} >>{facts}/marks\nexec {shutil.which("git")} "$@"'
    write_script(project.root.parent / "home" / "bin" / "git", script)


def worktree(project: Project, ticket: str) -> Path:
    """Return the worktree of a ticket."""
    return state(project) / "worktrees" / "tickets" / ticket


def tickets(files: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of the tickets by state."""
    found = [re.fullmatch(r"tickets/([^/]+)/(\d+-.+)\.md", path) for path in sorted(files)]
    states = ("open", "in-progress", "done", "stuck")
    return {state: [match[2] for match in found if match and match[1] == state] for state in states}


WORKTREES = {
    "0002": "stick",
    "0003": "clash",
    "0004": "break",
    "0005": "retry",
    "0006": "killed",
    "0007": "queued",
    "0008": "landing",
}
"""The unfinished tickets that have a worktree, by number."""


def test_reports_say_of_the_project_what_1_0_said(left: Project) -> None:
    in_progress = ["0003-clash", "0006-killed", "0007-queued", "0008-landing"]
    status = {
        "counts": {"open": 3, "in-progress": 4, "done": 1, "stuck": 1},
        "active": [],
        "open": ["0004-break", "0005-retry", "0009-wait"],
        "in_progress": in_progress,
        "stuck": ["0002-stick"],
        "queue": ["0008-landing", "0007-queued"],
        "master": {"branch": "master", "commit": left.git("rev-parse", "master"), "health": "green"},
        "sandbox": {"codex": {"name": "workspace-write", "reason": ""}},
        "spec": True,
        "running": False,
        "plan": left.git("rev-parse", PLAN),
    }
    found = report(left, "status", "--json")
    assert has(found, status), found
    rows = [
        {"worktree": str(worktree(left, name)), "ticket": name, "branch": f"scriptorium/ticket-{name[:4]}"}
        for name in in_progress
    ]
    assert has(report(left, "worktrees", "--json"), rows)
    assert has(report(left, "fsck", "--json"), {"findings": []})
    clean = report(left, "clean", "--json")
    assert [(one["action"], one["kind"], one["name"]) for one in clean[:-1]] == [
        *(("keep", "worktree", f"{id}-{word}") for id, word in WORKTREES.items()),
        *(("keep", "branch", f"scriptorium/ticket-{id}") for id in WORKTREES),
    ]
    assert (clean[-1]["action"], clean[-1]["kind"], bool(clean[-1]["why"])) == ("keep", "rescue", True)


def test_work_that_1_0_kept_is_listed_restored_and_dropped(left: Project) -> None:
    [(ref, commit)] = left.refs("refs/scriptorium/rescue/").items()
    name = ref.removeprefix("refs/scriptorium/rescue/")
    assert re.fullmatch(r"plan-\d{8}T\d{6}Z-[0-9a-f]{4}", name)

    kept = [{"name": name, "commit": commit, "subject": "What the agent wrote: plan", "path": ""}]
    assert has(report(left, "rescue", "list", "--json"), kept)
    assert left.run("rescue", "restore", name) == (0, f"{name}\trescue/{name}\n", "")
    assert left.git("show", f"rescue/{name}:decisions/stray.md") == "stray"
    assert left.run("rescue", "drop", ref) == (0, f"{name}\t{commit}\n", "")
    assert left.refs("refs/scriptorium/") == {}


def test_a_cooldown_that_1_0_began_is_respected(left: Project, facts: Path) -> None:
    install(left)
    file = state(left) / "backends" / "codex.json"
    before = left.refs()

    for argv in (("code", "0006-killed"), ("plan", "More")):
        held = left.run(*argv)
        assert (held.code, held.out) == (75, "")
        assert "429 Too Many Requests" in held.err
        assert str(file) in held.err
    assert (left.refs(), lines(facts / "calls")) == (before, [])


def test_verdicts_of_1_0_are_recalled_without_running_the_gate(left: Project, facts: Path) -> None:
    green = left.git("rev-parse", "master")
    assert left.run("health") == (0, f"green {green}\n", "")

    [(file, log)] = [
        (file, log)
        for file in (state(left) / "gates").iterdir()
        for colour, log in [file.read_text().split("\n")]
        if colour == "red"
    ]
    assert log == str(state(left) / "logs" / "0004-break" / "gate-01.log")
    tree, _, gate = file.name.partition("-")
    assert gate == "22cc66aa7d26"  # of `make test`
    red = left.git("commit-tree", tree, "-p", "master", "-m", "Break it")
    left.git("update-ref", "refs/heads/master", red)
    result = left.run("health")
    assert (result.code, result.out) == (3, f"red {red}\n")
    assert log in result.err
    assert lines(facts / "gates") == []

    os.utime(file, (time.time() - 301,) * 2)
    assert report(left, "status", "--json")["master"]["health"] == "unknown"


def test_the_conversation_of_1_0_goes_on_in_its_session(left_an_hour_ago: Project, facts: Path) -> None:
    project = left_an_hour_ago
    install(project)
    file = state(project) / "conversation.jsonl"
    before = lines(file)
    assert [list(json.loads(line)) for line in before] == [["begin"], ["request"], ["end"], ["request"], ["end"]]

    result = project.run("plan", "Put a lid on it")

    assert (result.code, result.out) == (0, "Done.\n")
    assert lines(facts / "calls") == ["architect  session-architect"]
    prompt = (facts / "prompt-architect-").read_text()
    assert "Put a lid on it" in prompt
    assert "A better tool" in prompt  # the session does not know that this turn has failed
    assert not re.search(r"\bA tool$", prompt, re.MULTILINE)
    assert lines(file)[: len(before)] == before
    used = {"tokens_in": 2000, "tokens_cached": 300, "tokens_out": 50, "tokens_reasoning": 0, "cost_usd": 0}
    end = {"answer": "Done.", "agent": "codex/gpt-5.1-codex-mini", "session": "session-architect", "total": used}
    assert has(
        [json.loads(line) for line in lines(file)[len(before) :]], [{"request": "Put a lid on it"}, {"end": end}]
    )
    subject, trailers = commits(project)[-1]
    assert subject == "scriptorium: plan session turn 2"
    assert trailers["Tokens-In"] == "800"  # without those that the session used with 1.0


def test_hooks_of_1_0_are_known_replaced_and_uninstalled(left: Project) -> None:
    hooks = left.root / ".git" / "hooks"
    old = (hooks / "post-commit").read_text()
    assert re.match(r"#!/bin/sh\n# scriptorium-hook [0-9a-f]{64}\n", old)
    assert "program=/tmp/scriptorium-1.0/program/bin/scriptorium\n" in old
    status = {
        "directory": str(hooks),
        "hooks_path": None,
        "log": str(state(left) / "hooks.log"),
        "hooks": [
            {"name": "post-commit", "state": "outdated", "earlier": "post-commit.before-scriptorium"},
            {"name": "post-merge", "state": "outdated", "earlier": None},
        ],
    }
    assert has(report(left, "hooks", "status", "--json"), status)
    files = {file: file.read_bytes() for file in hooks.iterdir()}

    assert left.run("hooks", "install")[:2] == (0, "post-commit\tinstalled\npost-merge\tinstalled\n")

    assert "scriptorium-1.0" not in (hooks / "post-commit").read_text()
    assert (hooks / "post-commit.before-scriptorium").read_text() == "#!/bin/sh\nexit 0\n"

    for file, data in files.items():
        file.write_bytes(data)
    assert left.run("hooks", "uninstall") == (0, "post-commit\tuninstalled\npost-merge\tuninstalled\n", "")
    assert [file.name for file in hooks.iterdir()] == ["post-commit"]
    assert (hooks / "post-commit").read_text() == "#!/bin/sh\nexit 0\n"


@contextmanager
def held(*files: Path) -> Iterator[None]:
    """Hold locks for the length of a block, as a process of 1.0 does that still runs."""
    with ExitStack() as stack:
        for file in files:
            fcntl.flock(stack.enter_context(file.open("ab")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def test_locks_of_a_process_of_1_0_hold_a_later_version_off(left_an_hour_ago: Project) -> None:
    project, locks = left_an_hour_ago, state(left_an_hour_ago) / "locks"
    before = project.refs()
    names = ("run", "merge", "repo", "hooks", "tickets/0006-killed")

    with held(*(locks / f"{name}.lock" for name in names)):
        install(project)
        for argv in (("run", "--once"), ("merge",), ("manager",), ("hooks", "install")):
            result = project.run(*argv)
            assert (argv, result.code, result.out) == (argv, 75, "")
        assert project.run("code", "0006-killed")[:2] == (0, "")
        status = report(project, "status", "--json")

    assert project.refs() == before
    active = {"ticket": "0006-killed", "branch": "scriptorium/ticket-0006"}
    active["worktree"] = str(worktree(project, "0006-killed"))
    assert has(status, {"running": True, "active": [active]})


def test_run_brings_every_ticket_of_1_0_to_its_end(left_an_hour_ago: Project, facts: Path) -> None:
    project = left_an_hour_ago
    install(project)
    watch_marks(project, facts)
    assert "M  Makefile\nA  landing.txt" in project.git("status", "--porcelain")  # moved, and master not
    assert project.git("status", "--porcelain", cwd=project.root.parent / "plan")  # behind its branch
    known = {file.name[:40] for file in (state(project) / "gates").iterdir()}
    since = project.git("rev-parse", PLAN)
    [session] = (project.root.parent / "root" / "project").iterdir()
    rescued = project.refs("refs/scriptorium/rescue/")

    result = project.run("run", "--until-idle")

    assert result.code == 1, result.out  # some tickets are stuck
    assert tickets(project.plan_files()) == {
        "open": ["0010-more"],
        "in-progress": [],
        "done": ["0001-land", *(f"{id}-{word}" for id, word in WORKTREES.items() if id not in STUCK), "0009-wait"],
        "stuck": ["0002-stick", "0004-break"],
    }
    assert project.run("fsck") == (0, "", "")
    check_agents(facts)
    tested = lines(facts / "gates")
    assert len(tested) == len(set(tested)) == 6
    assert known.isdisjoint(tested)  # the killed landing is not tested again
    check_work(project)
    check_users_files(project)
    check_marks(facts)
    check_rescue(project, rescued)
    check_notes(project)
    check_history(project, since)
    check_log(project, session, result.out)


STUCK = ("0002", "0004")


def check_agents(facts: Path) -> None:
    """Check which agents ran, in which sessions and on what."""
    assert sorted(lines(facts / "calls")) == [
        "coding 0003-clash session-coding0003-clash",
        "coding 0004-break session-coding0004-break",
        "coding 0005-retry session-coding0005-retry",
        "coding 0006-killed new",
        "coding 0009-wait new",
        "manager  new",
    ]
    prompt = (facts / "prompt-manager-").read_text()
    assert ("More." in prompt, "The core." in prompt) == (True, False)
    assert "<<<<<<< " in (facts / "conflict").read_text()


def check_work(project: Project) -> None:
    """Check that master has all the work, also the work that the killed agent left in its worktree."""
    found = {name: project.git("show", f"master:{name}") for name in project.git("ls-files", "*.txt").splitlines()}
    assert found == {
        "killed.txt": "half\ndone",
        "land.txt": "land",
        "landing.txt": "landing",
        "mine.txt": "first",
        "notes.txt": "both",
        "queued.txt": "queued",
        "readme.txt": "first\nhalf",
        "retry.txt": "half\ndone",
        "wait.txt": "done",
    }
    assert all(worktree(project, name).is_dir() for name in ("0002-stick", "0004-break"))


def check_users_files(project: Project) -> None:
    """Check that the user's checkouts follow their branches, and that the user's edits are as they were."""
    assert project.git("status", "--porcelain") == " M mine.txt\n?? untracked.txt"
    assert (project.root / "mine.txt").read_text() == (project.root / "untracked.txt").read_text() == "mine\n"
    plan = project.root.parent / "plan"
    assert project.git("status", "--porcelain", cwd=plan) == ""
    marks = sorted(path.relative_to(project.root / ".git") for path in project.root.rglob(".git/**/scriptorium-*"))
    assert [str(path) for path in marks] == ["scriptorium-branch", "worktrees/plan/scriptorium-plan"]
    assert (project.root / ".git" / marks[0]).read_text() == "master\n"
    assert (project.root / ".git" / marks[1]).read_text() == project.git("rev-parse", PLAN) + "\n"


def check_marks(facts: Path) -> None:
    """Check that the marks of 1.0 are removed, and that later landings and merges use marks of the same names."""
    seen = [{Path(word).name for word in line.split()} for line in lines(facts / "marks")]
    for mark in ("scriptorium-landing", "scriptorium-merging"):
        there = [mark in names for names in seen]
        assert there[0], mark
        assert True in there[there.index(False) :], mark
    assert {"scriptorium-branch", "scriptorium-plan"} <= seen[-1]


def check_rescue(project: Project, before: Mapping[str, str]) -> None:
    """Check that the rescue ref of 1.0 stays, and that the interrupted merge is kept beside it."""
    refs = project.refs("refs/scriptorium/rescue/")
    assert before.items() <= refs.items()
    [new] = refs.keys() - before.keys()
    assert re.fullmatch(r"refs/scriptorium/rescue/0003-clash-\d{8}T\d{6}Z-[0-9a-f]{4}", new)
    assert "<<<<<<< " in project.git("show", f"{new}:notes.txt")


def check_notes(project: Project) -> None:
    """Check that attempts are counted from those of 1.0 on."""
    files = project.plan_files()
    headings = {
        path: re.findall(r"^(?:attempts: .*|## Attempt .*)$", text, re.MULTILINE)
        for path, text in files.items()
        if path.endswith(("0002-stick.md", "0004-break.md", "0005-retry.md", "0006-killed.md"))
    }
    assert headings == {
        "tickets/done/0005-retry.md": ["attempts: 1", "## Attempt 1 failed: no-submit"],
        "tickets/done/0006-killed.md": [],
        "tickets/stuck/0002-stick.md": [
            "attempts: 2",
            "## Attempt 1 failed: no-submit",
            "## Attempt 2 failed: no-submit",
        ],
        "tickets/stuck/0004-break.md": ["attempts: 2", "## Attempt 1 failed: gate", "## Attempt 2 failed: gate"],
    }
    assert (files["queue/merge/active.md"], files["last-id"]) == ("", "10\n")


def check_history(project: Project, since: str) -> None:
    """Check the new commits: the trailers that come from logs of 1.0, and that no trailer has a new name."""
    new = commits(project, since)
    landing = next(trailers for subject, trailers in new if subject == "scriptorium: complete ticket 0008-landing")
    assert project.git("merge-base", "--is-ancestor", landing.pop("Landed"), "master") == ""
    assert re.fullmatch("[0-9a-f]{16}", landing.pop("Transaction"))
    assert re.fullmatch(r"\d+\.\d", landing.pop("Seconds"))
    tokens = {"Tokens-In": "1200", "Tokens-Cached": "200", "Tokens-Out": "34"}
    move = {"Ticket": "0008-landing", "Move": "in-progress -> done", "Attempt": "1"}
    assert landing == {**move, "Agent": "codex/gpt-5.1-codex-mini", **tokens}
    retry = next(trailers for subject, trailers in new if subject == "scriptorium: complete ticket 0005-retry")
    assert (retry["Attempt"], retry["Tokens-In"]) == ("2", "800")  # without those that the session used with 1.0
    old = commits(project)[: -len(new)]
    for verb in ("create", "assign", "enqueue", "complete", "park"):
        written = [
            {key for commit in some if commit.subject.startswith(f"scriptorium: {verb} ") for key in commit.trailers}
            for some in (old, new)
        ]
        assert written[0], verb
        assert written[0] <= written[1], verb


def check_log(project: Project, old: Path, printed: str) -> None:
    """Check the log lines that users know, on stdout and in a new file beside the one of 1.0."""
    [new] = set(old.parent.iterdir()) - {old}
    assert re.fullmatch(r"run_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.log", new.name)
    text = new.read_text()
    for line in (
        "orchestrator listening on http://127.0.0.1:",
        f"repo: {project.root}\n",
        f"log file: {new}\n",
        "manager: tickets created for area 'extra': 0010-more\n",
        "ticket '0003-clash': attempt 2 begins\n",
        "coding agent called submit_pr, summary=Both\n",
        "merge queue: ticket '0008-landing' landed\n",
        "merge queue: ticket '0004-break' reopened: `make test` failed with exit code 2\n",
    ):
        assert re.search(rf"^\[\d{{4}}-\d\d-\d\dT[\d:]{{8}}Z\] \[INFO\] {re.escape(line)}", text, re.MULTILINE), line
        assert f"[INFO] {line}" in printed
