"""A YAML reader that refuses anchors, aliases and tags.

Without aliases a document is no larger than its text, and no value refers to itself.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent


class UnsupportedError(MarkedYAMLError):
    """A document uses a feature that the reader refuses; ``problem`` names the feature."""


class _PlainComposer(Composer):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        if isinstance(event, AliasEvent):
            raise UnsupportedError(problem="alias", problem_mark=event.start_mark)
        if event.anchor is not None:
            raise UnsupportedError(problem="anchor", problem_mark=event.start_mark)
        if event.ctag is not None:
            raise UnsupportedError(problem="tag", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def load(text: str) -> Any:
    """Return the value of a YAML document; raises UnsupportedError, or whatever ruamel.yaml raises."""
    reader = YAML(typ="safe", pure=True)
    reader.Composer = _PlainComposer
    return reader.load(text)
