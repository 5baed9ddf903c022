"""One question to the Architect, answered from a read-only checkout."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from scriptorium.agents.failure import raise_if_failed
from scriptorium.agents.prompts import prompt
from scriptorium.agents.run import make_task, run_agent
from scriptorium.plan.snapshot import Plan
from scriptorium.planning.manager import known_tickets
from scriptorium.planning.transcript import Transcript
from scriptorium.project.workspace import Workspace
from scriptorium.system import signals
from scriptorium.system.text import printable
from scriptorium.worktrees.temporary import temporary_checkout


def ask(workspace: Workspace, question: str) -> str:
    """Return the answer to a question; what the agent does meanwhile is shown on stderr. Raises when it fails."""
    plan = workspace.plan.snapshot()
    transcript = Transcript(sys.stderr, hold=True)
    with signals.stoppable(), temporary_checkout(workspace, plan) as directory:
        text = _prompt(workspace, plan, directory / "plan", question)
        harness, task = make_task(workspace, "architect", text, directory / "source", "ask")
        outcome = run_agent(workspace, harness, replace(task, read_only=True), transcript.event)
    if not outcome.finished.ok:
        transcript.flush()
    raise_if_failed(workspace, outcome, task, "ask")
    return printable(outcome.report.message).strip() or "(no answer)"


def _prompt(workspace: Workspace, plan: Plan, checkout: Path, question: str) -> str:
    areas = [f"{name}: {plan.read(f'areas/{name}.md').decode(errors='replace').strip()}" for name in plan.areas]
    return prompt(
        "ask",
        repo=workspace.repository.root,
        master=workspace.master,
        plan=checkout,
        spec=plan.spec.decode(errors="replace").strip() if plan.has_spec else "none yet",
        areas="\n\n".join(areas) or "none",
        tickets="\n".join(known_tickets(plan)) or "none",
        question=question,
    )
