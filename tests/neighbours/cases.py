"""Helpers for the tests of bad neighbours: they run a whole ticket in this process, from open to its end."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from scriptorium.coding.assign import assign_next
from scriptorium.coding.attempt import AttemptOutcome as Out
from scriptorium.coding.attempt import run_attempt
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from scriptorium.reports.fsck import fsck
from tests.support import Project

WORK = 'echo "$SCRIPTORIUM_TICKET" >file'
BRANCH = "refs/heads/scriptorium/ticket-0001"


def worked_on(project: Project, script: str, id: str = "0001") -> tuple[str, Out]:
    """Assign a new ticket, or the same ticket again, and run a script as its agent; return its name and the result."""
    name = f"{id}-thing" if id.isdigit() else id
    if not any(path.startswith("tickets/") and path.endswith(f"/{name}.md") for path in project.plan_files()):
        project.ticket(id)
    project.agent(script)
    workspace = project.workspace
    assert assign_next(workspace) == (name, project.worktree(name))
    coded = run_attempt(workspace, name)
    assert coded.ticket == name
    return name, coded.result


def submitted(project: Project, script: str = WORK, id: str = "0001") -> str:
    """Run an agent that executes a script and submits a ticket; return the name of the ticket."""
    name, result = worked_on(project, f"{script}\nscriptorium submit-pr 'done'", id)
    assert result is Out.SUBMITTED
    return name


def lands(project: Project, script: str = WORK, id: str = "0001") -> str:
    """Take a ticket from open to master, assert that nothing is left behind, and return its name."""
    name = submitted(project, script, id)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
    return name


def in_order(project: Project, name: str) -> None:
    """Assert that a ticket is done, and that its branch and its worktree are gone."""
    assert fsck(project.workspace) == []
    assert f"tickets/done/{name}.md" in project.plan_files()
    assert f"refs/heads/scriptorium/ticket-{name.partition('-')[0]}" not in project.refs()
    assert not project.worktree(name).exists()
    assert str(project.worktree(name)) not in project.git("worktree", "list", "--porcelain").splitlines()


def waits(project: Project, name: str) -> ItemResult:
    """Assert that a submitted ticket does not land now and stays in the queue; return its result."""
    before = project.git("rev-parse", "master")
    merged = process_next(project.workspace)
    assert merged is not None
    assert (merged.ticket, merged.outcome) == (name, ItemOutcome.WAITING)
    assert project.git("rev-parse", "master") == before
    assert [item.ticket for item in project.workspace.plan.snapshot().queue()] == [name]
    return merged


def show(project: Project, path: str = "file", commit: str = "master") -> str:
    """Return a file of a commit."""
    return project.git("show", f"{commit}:{path}")


def rescued(project: Project) -> list[str]:
    """Return the rescue refs."""
    return sorted(project.refs("refs/scriptorium/rescue/"))


def kept(project: Project, path: str) -> list[str]:
    """Return the contents of a path in all rescue refs and renamed worktrees."""
    found = [show(project, path, ref) for ref in rescued(project) if path in tree(project, ref)]
    renamed = project.paths.ticket_worktree("x").parent.glob(f"*.found-*/{path}")
    return found + [file.read_text().rstrip("\n") for file in renamed]


def tree(project: Project, commit: str = "master") -> list[str]:
    """Return the paths of a commit."""
    return project.git("ls-tree", "-r", "-z", "--name-only", commit).split("\0")[:-1]


def git_dir(project: Project, name: str) -> Path:
    """Return the directory that git keeps for a ticket's worktree."""
    return Path(project.git("rev-parse", "--absolute-git-dir", cwd=project.worktree(name)))


def shell(project: Project, script: str, **env: str) -> str:
    """Run a script at the top of the repository as the user would, and return what it printed."""
    done = subprocess.run(
        ["/bin/sh", "-ec", script], cwd=project.root, env={**os.environ, **env}, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{shlex.quote(script)}: {done.stderr.decode()}"
    return done.stdout.decode()
