"""Snapshots of the plan: each file is parsed once, and the cache of parsed files is bounded."""

from __future__ import annotations

from collections import Counter

import pytest

from scriptorium.plan import snapshot
from scriptorium.plan.queue_item import QueueItem, parse_item
from scriptorium.plan.snapshot import ParsedFiles
from tests.support import Project


def test_a_queue_item_is_parsed_once_for_all_snapshots(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: Counter[str] = Counter()

    def count(path: str, data: bytes) -> QueueItem | None:
        parsed[path] += 1
        return parse_item(path, data)

    monkeypatch.setattr(snapshot, "parse_item", count)
    project.init()
    items = [f"queue/merge/pending/000{number}-000{number}-x.md" for number in (1, 2, 3)]
    for number, path in enumerate(items, 1):
        project.commit_plan({path: f"**Ticket:** 000{number}-x\n"})
    store = project.workspace.plan
    assert [item.path for item in store.snapshot().queue()] == items
    project.commit_plan({"queue/merge/pending/0004-0004-x.md": "**Ticket:** 0004-x\n"})
    assert len(store.snapshot().queue()) == len(store.snapshot().queue()) == 4
    assert {path: parsed[path] for path in items} == dict.fromkeys(items, 1)


def test_the_queue_of_a_snapshot_is_a_list_of_its_own(project: Project) -> None:
    project.init()
    project.commit_plan({"queue/merge/pending/0001-0001-x.md": "**Ticket:** 0001-x\n"})
    plan = project.workspace.plan.snapshot()
    plan.queue().clear()
    assert [item.ticket for item in plan.queue()] == ["0001-x"]


def test_the_cache_of_parsed_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_PARSED", 2)
    cache, parsed = ParsedFiles(), []

    def parse(oid: str) -> str:
        parsed.append(oid)
        return oid

    for oid in ("a", "b", "a", "c", "a", "c"):
        assert cache.get("path", oid, lambda oid=oid: parse(oid)) == oid  # type: ignore[misc]
    assert parsed == ["a", "b", "c", "a"]
