"""Everything at once: writers, daemons, steps, hooks and users in one repository, and nothing is done twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from scriptorium.reports.fsck import fsck
from tests import figures
from tests.stress.extent import FULL
from tests.support import PLAN, Project, Started, until

WRITERS, EACH = 8, 500 if FULL else 50

WRITER = """
import json, sys, time
from scriptorium.plan import transitions
from scriptorium.plan.cause import Cause
from scriptorium.plan.readiness import ready_tickets as ready
from scriptorium.plan.ticket import State
from scriptorium.project.workspace import Workspace
workspace, count, mine, longest = Workspace.open(), int(sys.argv[1]), [], 0.0
for _ in range(count // 2):
    began = time.monotonic()
    def take(plan):
        global name
        name = ready(plan)[0].name  # the same for all: only one can have it
        return transitions.assign(plan.ticket(name, State.OPEN), name)
    mine.append([workspace.plan.transact(take).commit, "assign", name])
    def give_back(plan):
        return transitions.reopen(plan, plan.ticket(name, State.IN_PROGRESS), Cause.STOPPED, "", "", 5, {})
    mine.append([workspace.plan.transact(give_back).commit, "reopen", name])
    longest = max(longest, time.monotonic() - began)
print(json.dumps({"mine": mine, "longest": longest}))
"""


def test_of_eight_writers_no_transition_is_lost_or_done_twice(project: Project) -> None:
    project.init()
    for number in range(1, WRITERS + 2):
        project.ticket(f"{number:04d}")
    before = project.git("rev-parse", PLAN)
    began = time.monotonic()
    argv = [sys.executable, "-c", WRITER, str(EACH)]
    writers = [subprocess.Popen(argv, cwd=project.root, stdout=subprocess.PIPE) for _ in range(WRITERS)]
    replies = [json.loads(writer.communicate()[0]) for writer in writers]
    seconds = time.monotonic() - began

    assert [writer.returncode for writer in writers] == [0] * WRITERS
    history = project.git("rev-list", "--reverse", "--parents", f"{before}..{PLAN}").splitlines()
    commits = [line.split()[0] for line in history]
    assert [line.split()[1:] for line in history] == [[parent] for parent in [before, *commits[:-1]]]
    claimed = {commit: (verb, name) for one in replies for commit, verb, name in one["mine"]}
    assert len(commits) == len(claimed) == WRITERS * EACH
    subjects = project.git("log", "--reverse", "--format=%s", f"{before}..{PLAN}").splitlines()
    wanted = [f"scriptorium: {verb} ticket {name}" for verb, name in map(claimed.__getitem__, commits)]
    assert subjects == wanted
    assert fsck(project.workspace) == []
    COUNTED.update(
        {
            "processes that write to one plan": WRITERS,
            "their transitions, none lost and none twice": len(commits),
            "transitions a second": f"{len(commits) / seconds:.0f}",
            "seconds that a transition took at most": f"{max(one['longest'] for one in replies):.1f}",
        }
    )


TICKETS, HUMANS = (100, 10) if FULL else (20, 5)

AGENT = """
set -- "$SCRIPTORIUM_TICKET"
echo "$1" >>"$FACTS/runs"
mkdir -p things; echo "$1" >"things/$1"
exec scriptorium submit-pr "thing $1"
"""

STEPS = (
    *("health", "architect", "manager", "assign", "assign"),
    *("code", "code", "merge", "merge", "status"),
)
"""Ten single steps, each repeated."""

LOOP = """
until [ -e "$FACTS/stop" ]; do
    scriptorium {step} >>"$FACTS/out" 2>>"$FACTS/err"
    echo {step} $? >>"$FACTS/codes"
    sleep 1
done
"""


def test_daemons_steps_hooks_and_the_user_land_each_ticket_once(project: Project, facts: Path) -> None:
    project.init()
    project.agent(AGENT)
    project.configure(gate="true")
    files = {f"tickets/open/{number:04d}-thing.md": TEXT for number in range(1, TICKETS + 1)}
    project.commit_plan({"spec.md": "# Spec\n\nAll.\nOf it.\n", "areas/core.md": "core\n", **files})
    project.commit_plan({"planned": _planned(project)})
    assert project.run("hooks", "install").code == 0
    began = time.monotonic()
    with project.running("run", "--until-idle") as one, project.running("run", "--until-idle") as other:
        loops = [subprocess.Popen(["sh", "-c", LOOP.format(step=step)], cwd=project.root) for step in STEPS]
        try:
            _commits(project, facts)
            until(lambda: len(project.git("ls-tree", "--name-only", f"{PLAN}:tickets/done").split()) > TICKETS, 900)
        finally:
            (facts / "stop").touch()
            codes = [loop.wait(120) for loop in loops]
        _refused(one, other)
    seconds = time.monotonic() - began

    until(lambda: _hooks(project) >= HUMANS)  # the hooks start them in the background
    assert _hooks(project) == HUMANS
    assert codes == [0] * len(STEPS)
    _landed_once_each(project, facts)
    ended = Counter((facts / "codes").read_text().splitlines())
    assert {line.split()[1] for line in ended} <= {"0", "1", "75"}, ended
    COUNTED.update(
        {
            "daemons, steps in loops": f"2, {len(STEPS)}",
            "steps that ran meanwhile": sum(ended.values()),
            "commits of a user meanwhile, each with its hook": HUMANS,
            "tickets, each landed once": TICKETS,
            "seconds for all of them": f"{seconds:.0f}",
        }
    )


TEXT = "---\narea: core\ndepends: []\n---\n# Thing\n\nDo it.\n"


def _planned(project: Project) -> str:
    return "".join(f"{project.git('rev-parse', f'{PLAN}:{path}')} {path}\n" for path in ("areas/core.md", "spec.md"))


def _commits(project: Project, facts: Path) -> None:
    """Commit to master as a user does, now and then, and retry if a lock refuses the commit."""
    for number in range(HUMANS):
        wanted = (number + 1) * TICKETS // (HUMANS + 1)
        until(lambda wanted=wanted: len(_lines(facts / "runs")) >= wanted, 900)  # type: ignore[misc]
        (project.root / f"human-{number}").write_text(f"{number}\n")
        argv = ["git", "add", f"human-{number}"], ["git", "commit", "-qm", f"Human {number}"]
        for words in argv:
            until(lambda words=words: subprocess.run(words, cwd=project.root, check=False).returncode == 0)  # type: ignore[misc]


def _hooks(project: Project) -> int:
    """Return how many hooks have started a step, by the log that `hooks install` has set up."""
    return project.paths.hook_log.read_text().count("post-commit starts 'scriptorium health'")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _refused(*daemons: Started) -> None:
    """One of two daemons leaves at once, as the other is running; that daemon runs to its end."""
    ended = sorted(daemon.end() for daemon in daemons)
    assert [result.code for result in ended] == [0, 75], ended
    assert "another process is at work on 'run'" in ended[1].err


def _landed_once_each(project: Project, facts: Path) -> None:
    names = [f"{number:04d}-thing" for number in range(1, TICKETS + 1)]
    assert sorted(os.listdir(project.root / "things")) == names  # noqa: PTH208
    subjects = Counter(project.plan_log())
    for verb in ("assign", "enqueue", "complete"):
        assert [subjects[f"scriptorium: {verb} ticket {name}"] for name in names] == [1] * TICKETS, verb
    assert Counter(_lines(facts / "runs")) == dict.fromkeys(names, 1)
    commits = project.git("log", "--format=%s", "master").splitlines()
    assert len([line for line in commits if line.startswith("Human ")]) == HUMANS
    assert project.git("status", "--porcelain") == ""
    assert fsck(project.workspace) == []
    assert project.git("for-each-ref", "refs/scriptorium", "refs/heads/scriptorium/ticket-*") == ""
    assert len(project.git("worktree", "list").splitlines()) == 1


TOGETHER = 12


def test_twelve_worktrees_are_made_at_once(project: Project, facts: Path) -> None:
    project.init()
    for number in range(1, TOGETHER + 1):
        project.ticket(f"{number:04d}")

    results = _together(project, *[["assign"]] * TOGETHER)

    assert [code for code, _, _ in results] == [0] * TOGETHER, results
    made = sorted(tuple(out.rstrip("\n").split("\t")) for _, out, _ in results)
    assert made == [(name, str(project.worktree(name))) for name in _names()]
    for name, path in made:
        assert project.git("symbolic-ref", "HEAD", cwd=Path(path)) == f"refs/heads/scriptorium/ticket-{name[:4]}"
        assert project.git("status", "--porcelain", cwd=Path(path)) == ""
    assert fsck(project.workspace) == []
    COUNTED["worktrees made at once by as many processes"] = TOGETHER


def test_twelve_agents_at_once_get_missing_worktrees_and_submit(project: Project, facts: Path) -> None:
    project.init()
    names = [project.ticket(f"{number:04d}", state="in-progress") for number in range(1, TOGETHER + 1)]
    project.agent(AGENT)

    results = _together(project, *(["code", name] for name in names))

    assert [(code, out) for code, out, _ in results] == [(0, f"{name}\n") for name in names], results
    queue = [path for path in project.plan_files() if path.startswith("queue/merge/pending/0")]
    assert sorted(path.rpartition("/")[2][5:-3] for path in queue) == names
    assert [path.rpartition("/")[2][:4] for path in sorted(queue)] == [f"{n:04d}" for n in range(1, TOGETHER + 1)]
    result = project.run("merge", *names)
    assert (result.code, sorted(result.out.splitlines())) == (0, [f"{name}\tlanded" for name in names]), result.err
    COUNTED["agents at work at once, each in a ticket of its own"] = TOGETHER


def _names() -> list[str]:
    return [f"{number:04d}-thing" for number in range(1, TOGETHER + 1)]


def _together(project: Project, *commands: list[str]) -> list[tuple[int, str, str]]:
    started = [project.start(*argv) for argv in commands]
    return [(process.wait(300), *process.communicate()) for process in started]


COUNTED: dict[str, object] = {}
"""The counts of the tests above, by label."""


def test_the_figures_are_put_down() -> None:
    figures.publish("at once", COUNTED.items(), whole=FULL)
