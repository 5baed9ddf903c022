"""The prompts of agents, from ``templates/prompts``."""

from __future__ import annotations

from string import Template

from scriptorium.system.resources import share


def prompt(name: str, **values: object) -> str:
    """Return a prompt with its placeholders replaced; a ``$`` in a value is not replaced again."""
    template = Template((share("templates") / "prompts" / f"{name}.md").read_text(encoding="utf-8"))
    return template.substitute({key: str(value) for key, value in values.items()})
