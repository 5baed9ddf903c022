"""The measured projects: of any size, with an agent that ends at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

from scriptorium.plan.ticket import State, ticket_path
from tests.support import Project

MANY = 10_000
SPEC = "# Spec\n\nDo things.\n"

TEXT = """\
---
area: core
depends: []
priority: 0
attempts: 0
---
# Thing

Do the thing, and test it.
"""

AGENT = """\
echo work >"$SCRIPTORIUM_TICKET.txt"
git add --all
git commit --quiet --message work
scriptorium submit-pr 'It works' 2>/dev/null"""


def project(directory: Path, tickets: int = 0, done: int = 0) -> Project:
    """Return a project with open tickets, and with done tickets from number 1001 on."""
    made = Project(directory)
    made.init()
    blob = hashlib.sha1(b"blob %d\0%s" % (len(SPEC), SPEC.encode()), usedforsecurity=False).hexdigest()
    paths = [ticket_path(State.OPEN, name(number)) for number in range(1, tickets + 1)]
    paths += [ticket_path(State.DONE, name(number)) for number in range(1001, 1001 + done)]
    made.commit_plan({"spec.md": SPEC, "planned": f"{blob} spec.md\n"} | dict.fromkeys(paths, TEXT))
    made.agent(AGENT)
    made.configure(endpoints={"local": "http://127.0.0.1:0"})
    return made


def name(number: int) -> str:
    """Return the name of a ticket."""
    return f"{number:04d}-thing"


def logs(of: Project, pattern: str) -> list[Path]:
    """Return the files that agents and gates have left."""
    return list(Path(os.environ["SCRIPTORIUM_ROOT"]).glob(f"{of.root.name}-*/logs/{pattern}"))


def git_processes(trace: Path) -> Counter[str]:
    """Count the processes in a GIT_TRACE2_EVENT file by name; git's own children as 'parent/child'."""
    if not trace.exists():
        return Counter()
    events = map(json.loads, trace.read_text().splitlines())
    return Counter(event["hierarchy"] for event in events if event["event"] == "cmd_name")
