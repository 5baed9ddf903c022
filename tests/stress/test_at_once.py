"""Everything at once: writers, daemons, steps, hooks and people in one repository, and nothing is done twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from scriptorium.commands.fsck import fsck
from tests import figures
from tests.support import PLAN, Project

WRITERS, EACH = 8, 500

WRITER = """
import json, sys, time
from scriptorium import transitions
from scriptorium.causes import Cause
from scriptorium.commands.assign import ready
from scriptorium.ticket import State
from scriptorium.workspace import Workspace
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


def test_eight_writers_do_five_hundred_transitions_each_and_none_is_lost_or_done_twice(project: Project) -> None:
    project.init()
    for number in range(1, WRITERS + 2):
        project.ticket(f"{number:04d}")
    before = project.git("rev-parse", PLAN)
    began = time.monotonic()
    argv = [sys.executable, "-c", WRITER, str(EACH)]
    writers = [subprocess.Popen(argv, cwd=project.root, stdout=subprocess.PIPE) for _ in range(WRITERS)]
    told = [json.loads(writer.communicate()[0]) for writer in writers]
    seconds = time.monotonic() - began

    assert [writer.returncode for writer in writers] == [0] * WRITERS
    history = project.git("rev-list", "--reverse", "--parents", f"{before}..{PLAN}").splitlines()
    commits = [line.split()[0] for line in history]
    assert [line.split()[1:] for line in history] == [[parent] for parent in [before, *commits[:-1]]]
    claimed = {commit: (verb, name) for one in told for commit, verb, name in one["mine"]}
    assert len(commits) == len(claimed) == WRITERS * EACH
    subjects = project.git("log", "--reverse", "--format=%s", f"{before}..{PLAN}").splitlines()
    wanted = [f"scriptorium: {verb} ticket {name}" for verb, name in map(claimed.__getitem__, commits)]
    assert subjects == wanted
    assert fsck(project.workspace) == []
    longest = max(one["longest"] for one in told) / 2
    figures.publish(
        "at once",
        [
            ("processes that write to one plan", WRITERS),
            ("transitions that they made", len(commits)),
            ("transitions lost or made twice", 0),
            ("transitions a second", f"{len(commits) / seconds:.0f}"),
            ("seconds that one had to wait at most", f"{longest:.1f}"),
        ],
    )
