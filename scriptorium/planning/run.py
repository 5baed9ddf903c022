"""Planning runs: an agent edits a checkout of the plan, and only what its role may write is taken.

The agent has the plan branch checked out, detached, in one worktree that all planning roles
share, under a lock that fails fast. What it may not touch stays out of the plan, and is kept by a
rescue ref: an agent that oversteps loses its user neither the good edits nor the strays. So are the
good ones until the plan has them.
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
from scriptorium.git import worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.repository import RefUpdate
from scriptorium.git.worktree import Worktree
from scriptorium.plan.snapshot import Plan
from scriptorium.project.workspace import Workspace
from scriptorium.system import locks, process, signals
from scriptorium.worktrees import repair, rescue


@dataclass(frozen=True)
class PlanEdits:
    """What a planning agent did: path to new content, None for a file it removed."""

    base: Plan
    outcome: Outcome
    allowed: dict[str, bytes | None] = field(default_factory=dict)
    strays: tuple[str, ...] = ()
    commit: str = ""
    """Everything the agent did, strays included."""
    kept: str = ""
    """The rescue ref of that commit, where it did anything."""
    is_whole: bool = True
    """Whether the plan is to have all of it; not where there were strays, commits of its own, or it failed."""


@contextmanager
def hold_planning_lock(workspace: Workspace) -> Iterator[None]:
    """Hold the lock of planners and managers; raises with exit code 75 when another has it."""
    directory = workspace.paths.ensure(workspace.paths.lock("repo").parent)
    with locks.hold(directory / "repo.lock", "the plan"), signals.stoppable():
        yield


def run_planner(
    workspace: Workspace,
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
    """Run a planning agent on the newest plan and return what it edited; the lock must be held.

    A rescue ref keeps the edits until `release`, once the plan has them.

    ``tools`` makes the tools that the agent may call, for a checkout of a plan; what they are given
    they write there, so that it is taken as if the agent had written it. ``endpoint`` is the MCP
    server of a surrounding `scriptorium run`. ``session`` returns the session to go on with for an
    agent, by how it is called in commits. ``on_event`` is told what the agent does. Raises when it
    fails; whatever it had written is kept by a rescue ref then, too.
    """
    plan = workspace.plan.snapshot()
    worktree = _checkout_plan(workspace, plan)
    harness, task = make_task(workspace, role, prompt, worktree, subject)
    process.terminate_leftovers(f"SCRIPTORIUM_WORKTREE={worktree}")
    known = session(harness.label(task.model))
    task = replace(task, env={**task.env, "SCRIPTORIUM_AREA": area}, session=known)
    with ExitStack() as stack:
        if tools:
            given = tools(plan, worktree)
            task = stack.enter_context(serve_tools(workspace, harness, task, given, endpoint, role=role))
        outcome = run_agent(workspace, harness, task, on_event)
    edits = _collect_edits(workspace, plan, worktree, outcome, may_write, subject)
    raise_if_failed(workspace, outcome, task, subject, empty=not edits.allowed)
    return edits


def release_edits(workspace: Workspace, edits: PlanEdits) -> None:
    """Forget the rescue ref of what an agent wrote, as the plan has all of it."""
    if edits.kept and edits.is_whole:
        workspace.repository.update_refs(RefUpdate(edits.kept, "", edits.commit))


def _checkout_plan(workspace: Workspace, plan: Plan) -> Path:
    """Return the planning worktree at a snapshot; what somebody left in there is kept first."""
    path, repository = workspace.paths.plan_worktree, workspace.repository
    tree = Worktree(repository, path)
    repair.remove_half_made(workspace, path)
    if path.is_symlink():
        rescue.rename_aside(path)  # what it leads to is not ours, if it leads anywhere
    if path.exists():
        repair.remove_stale_locks(workspace, path)
        try:
            branch, head = tree.head()
            loose = not branch and not repository.is_ancestor(head, plan.commit)
            changes = rescue.preserve_untracked_repos(tree)
            if loose or changes:
                commit = tree.snapshot(changes, head, "Files found in the planning worktree")
                rescue.keep_commit(workspace, commit, "plan", f"'{path}' held changes that nobody had taken")
                rescue.preserve_nested_repos(workspace, path, commit, plan.commit)
            tree.reset_detached(plan.commit)
            return path
        except (GitError, NotADirectoryError) as error:
            if isinstance(error, GitError) and error.system:
                raise  # it is sound, and waits for room
            rescue.rename_aside(path)
    workspace.paths.ensure(path.parent)
    with locks.hold(workspace.paths.lock("worktrees"), "worktrees", wait=600):
        rescue.keep_detached_heads(workspace)  # git forgets the one that was here before
        worktree_list.add(repository, path, start=plan.commit)
    return path


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
    # the plan takes files alone, so that commits would be lost which no branch has
    own = not branch and not repository.is_ancestor(head, plan.commit)
    is_whole = not (strays or own or (paths and not outcome.finished.ok))
    kept = rescue.create_ref(workspace, commit, subject) if paths or own else ""
    if not is_whole:
        failed = paths and not outcome.finished.ok
        why = f"{subject} failed half way" if failed else f"{subject} made commits of its own"
        why = f"{subject} wrote {', '.join(strays)}, which it may not" if strays else why
        rescue.log_kept(why, kept)
        rescue.preserve_nested_repos(workspace, worktree, commit, plan.commit)
    tree.reset_detached(plan.commit)
    return PlanEdits(plan, outcome, allowed, strays, commit, kept, is_whole)
