"""What the agents are asked: the files under ``templates/prompts``, filled in."""

from __future__ import annotations

from string import Template

from scriptorium.system.resources import share


def prompt(name: str, **values: object) -> str:
    """Fill in a prompt. Values are put in as they are, so a ``$`` or ``{{…}}`` in them means nothing."""
    template = Template((share("templates") / "prompts" / f"{name}.md").read_text(encoding="utf-8"))
    return template.substitute({key: str(value) for key, value in values.items()})
