"""Planning runs: an agent edits a checkout of the plan, and the plan accepts the files that its role may write.

All planning roles share one detached worktree, under a lock that fails fast. A rescue ref keeps all edits of the agent
until the plan has them. If the agent also edited other files, the rescue ref stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from scriptorium.agents.failure import raise_if_failed
from scriptorium.agents.harness.base import Event, Outcome, Session
from scriptorium.agents.run import make_task, run_agent, serve_tools
from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.agents.tools.server import Tools
from scriptorium.git.repository import RefUpdate
from scriptorium.git.worktree import Worktree
from scriptorium.plan.snapshot import Plan
from scriptorium.project.held import PlanningLock
from scriptorium.project.workspace import Workspace
from scriptorium.system import signals
from scriptorium.worktrees import rescue
from scriptorium.worktrees.temporary import Purpose, temporary_checkout


@dataclass(frozen=True)
class PlanEdits:
    """The edits of a planning agent. ``allowed`` maps a path to its new content, or to None if the file was removed."""

    base: Plan
    outcome: Outcome
    allowed: dict[str, bytes | None] = field(default_factory=dict)
    strays: tuple[str, ...] = ()
    commit: str = ""
    """A commit with all edits of the agent, strays included."""
    kept: str = ""
    """The rescue ref of that commit, empty if there are no edits."""
    is_whole: bool = True
    """Whether the plan can accept all edits. False for strays, for commits by the agent, and after a failed run."""


PURPOSE = Purpose("plan", "Files found in the planning worktree", "the planning worktree held changes that no plan has")


@contextmanager
def hold_planning_lock(workspace: Workspace) -> Iterator[PlanningLock]:
    """Hold the lock of the planning roles for a block; raises with exit code 75 if another process has it."""
    with workspace.hold_planning() as lock, signals.stoppable():
        yield lock


def run_planner(
    workspace: Workspace,
    _lock: PlanningLock,
    role: str,
    subject: str,
    prompt: str,
    may_write: Callable[[str], bool],
    *,
    area: str = "",
    tools: Callable[[Plan, Path], Tools] | None = None,
    endpoint: Endpoint | None = None,
    session: Callable[[str], Session | None] = lambda _: None,
    on_event: Callable[[Event], None] | None = None,
) -> PlanEdits:
    """Run a planning agent on a checkout of the newest plan and return its edits.

    ``may_write`` says which paths the role may write. ``tools`` makes the tools that the agent may call; they write
    into the checkout, as the agent does. ``endpoint`` is the MCP server of a surrounding `scriptorium run`.
    ``session`` returns the session to resume, by the agent's label in commits. ``on_event`` receives what the agent
    does. A rescue ref keeps the edits until `release_edits`. Raises if the agent fails; the rescue ref stays then.
    """
    plan = workspace.plan.snapshot()
    with ExitStack() as stack:
        checkout = temporary_checkout(workspace, workspace.paths.plan_worktree, plan.commit, PURPOSE)
        worktree = stack.enter_context(checkout)
        harness, task = make_task(workspace, role, prompt, worktree, subject)
        known = session(harness.label(task.model))
        task = replace(task, env={**task.env, "SCRIPTORIUM_AREA": area}, session=known)
        if tools:
            given = tools(plan, worktree)
            task = stack.enter_context(serve_tools(workspace, harness, task, given, endpoint, role=role))
        outcome = run_agent(workspace, harness, task, on_event)
        edits = _collect_edits(workspace, plan, worktree, outcome, may_write, subject)
    raise_if_failed(workspace, outcome, task, subject, empty=not edits.allowed)
    return edits


def release_edits(workspace: Workspace, edits: PlanEdits) -> None:
    """Delete the rescue ref of an agent's edits once the plan has all of them."""
    if edits.kept and edits.is_whole:
        workspace.repository.update_refs(RefUpdate(edits.kept, "", edits.commit))


def _collect_edits(
    workspace: Workspace, plan: Plan, worktree: Path, outcome: Outcome, may_write: Callable[[str], bool], subject: str
) -> PlanEdits:
    repository, tree = workspace.repository, Worktree(workspace.repository, worktree)
    branch, head = tree.head()
    commit = tree.snapshot(rescue.preserve_untracked_repos(tree), head, f"What the agent wrote: {subject}")
    paths = repository.diff_names(plan.commit, commit)
    allowed: dict[str, bytes | None] = {}
    for path in filter(may_write, paths):
        entry = repository.entry(commit, path)
        found = repository.objects.read(entry.oid) if entry and not entry.is_link else None
        if entry is None or (found and found.kind == "blob"):
            allowed[path] = found.data if found else None
    strays = tuple(path for path in paths if path not in allowed)
    # the plan accepts files only, so that commits which are on no branch would be lost
    own = not branch and not repository.is_ancestor(head, plan.commit)
    is_whole = not (strays or own or (paths and not outcome.finished.ok))
    kept = rescue.create_ref(workspace, commit, subject) if paths or own else ""
    if not is_whole:
        failed = paths and not outcome.finished.ok
        why = f"{subject} failed half way" if failed else f"{subject} made commits of its own"
        why = f"{subject} wrote {', '.join(strays)}, which its role may not write" if strays else why
        rescue.log_kept(why, kept)
        rescue.preserve_nested_repos(workspace, worktree, commit, plan.commit)
    tree.reset_detached(plan.commit)
    return PlanEdits(plan, outcome, allowed, strays, commit, kept, is_whole)
