"""Which backend a role gets."""

from __future__ import annotations

from pathlib import Path

from scriptorium.agents.harness.base import Harness
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.project.config import BACKENDS, Config


def choose(config: Config, role: str, root: Path) -> tuple[Harness, str]:
    """Return the harness and the model for a role: by name, else by the model's prefix.

    ``root`` is the top of the repository, from which a relative program is meant.
    """
    model = config.model(role)
    name = config.backend(role)
    program = config.harnesses.get(name)
    if program is not None and program.protocol == "acp":
        from scriptorium.agents.harness.acp import Acp

        return Acp(name, program, root), model
    if program is not None:
        from scriptorium.agents.harness.command import CommandHarness

        return CommandHarness(name, program, root), model
    match name:
        case "codex":
            from scriptorium.agents.harness.codex import Codex

            return Codex(), model
        case "claude-code":
            from scriptorium.agents.harness.claude_code import ClaudeCode

            return ClaudeCode(), model
        case "typoi":
            from scriptorium.agents.harness.typoi import Typoi

            return Typoi(model, config.harnesses), model
    from difflib import get_close_matches

    known = (*BACKENDS, *config.harnesses)
    near = get_close_matches(name, known, 1)
    raise ScriptoriumError(
        f"role '{role}' names the backend '{name}', which there is not",
        f"did you mean '{near[0]}'?" if near else f"one of: {', '.join(known)}",
        ExitCode.CONFIG,
    )
