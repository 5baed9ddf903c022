"""Why a run of an agent failed."""

from __future__ import annotations

from scriptorium.agents.harness.base import Outcome, Task
from scriptorium.errors import ScriptoriumError
from scriptorium.plan.cause import BACKEND, Cause
from scriptorium.project.workspace import Workspace
from scriptorium.system import process
from scriptorium.system.process import EndReason
from scriptorium.system.redact import redact


def failure_of(outcome: Outcome, task: Task) -> tuple[Cause, str]:
    """Return the cause of a run without a result, and a sentence that explains it."""
    limits, report, end = task.limits, outcome.report, outcome.finished.end
    error = f": {report.error}" if report.error else ""
    if report.cause in BACKEND or report.cause is Cause.AGENT:
        return report.cause, f"{SENTENCES[report.cause]}{error}"
    if end is not EndReason.EXIT and report.session and not report.worked:
        return Cause.PROVIDER, f"The model had not answered after {outcome.finished.seconds:.0f} seconds{error}"
    match end:
        case EndReason.HARD_LIMIT:
            return Cause.TIMEOUT, f"The agent was ended at its limit of {limits.hard:g} seconds{error}"
        case EndReason.NO_OUTPUT:
            return Cause.SILENCE, f"The agent was ended after {limits.no_output:g} seconds without output{error}"
        case EndReason.NO_PROGRESS:
            return Cause.TIMEOUT, f"The agent was ended after {limits.no_progress:g} seconds without progress{error}"
        case EndReason.TOO_MUCH:
            return Cause.AGENT, f"The agent was ended after {process.MAX_OUTPUT // 2**20} MiB of output{error}"
        case EndReason.EXIT if outcome.finished.status and report.error and not report.worked:
            return Cause.PROVIDER, f"The model could not be reached{error}"
        case EndReason.EXIT if outcome.finished.status:
            return Cause.AGENT, f"The agent ended with exit code {outcome.finished.status}{error}"
        case EndReason.EXIT:
            return Cause.NO_SUBMIT, f"The agent ended without submitting{error}"


def raise_if_failed(workspace: Workspace, outcome: Outcome, task: Task, subject: str, *, empty: bool = False) -> None:
    """Raise if a run has failed.

    A run that left nothing (``empty``) has also failed if its backend failed, even with exit code 0: for
    example, an agent without its tools.
    """
    cause, reason = failure_of(outcome, task)
    if outcome.finished.ok and not (empty and cause in BACKEND):
        return
    raise ScriptoriumError(
        f"{subject}: {reason[:1].lower()}{redact(reason[1:], *workspace.config.environments)}", f"see '{outcome.log}'"
    )


SENTENCES = {
    Cause.AUTH: "The provider refused the sign-in or key",
    Cause.RATE_LIMIT: "The provider's limit is reached",
    Cause.PROVIDER: "The model could not be reached",
    Cause.INFRASTRUCTURE: "The agent could not start its work",
    Cause.AGENT: "The agent could not continue",
}
