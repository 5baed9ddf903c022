"""Drafts: the tickets that the Manager submits, before they have ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError
from scriptorium.planning import drafts
from tests.support import Project


def test_the_tool_refuses_a_file_with_a_yaml_anchor(project: Project, tmp_path: Path) -> None:
    project.init()
    plan = project.workspace.plan.snapshot()
    checkout = tmp_path / "checkout"
    (checkout / "tickets" / "open").mkdir(parents=True)
    (checkout / "tickets" / "open" / "by-hand.md").write_text("---\narea: &a core\n---\n# By hand\n")
    batch = [{"name": "other", "title": "Other", "body": "Do it."}]
    with pytest.raises(ScriptoriumError, match="'by-hand': its front matter has an unsupported YAML anchor in line 2"):
        drafts.submit_tickets(plan, 1, checkout, "core", batch)
    assert [path.name for path in (checkout / "tickets" / "open").iterdir()] == ["by-hand.md"]
