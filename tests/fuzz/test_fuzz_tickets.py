"""Fuzzing of tickets, queue items and drafts: each is read, or refused with an error, and nothing escapes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from scriptorium.errors import ScriptoriumError
from scriptorium.plan.front_matter import set_field
from scriptorium.plan.queue_item import format_item, parse_item
from scriptorium.plan.ticket import TicketError, parse_ticket
from scriptorium.planning import drafts
from tests.fuzz.fuzz_cases import EMPTY_PLAN, QUEUE, TICKETS, read
from tests.fuzzing import altered, fuzzed, mutated, texts, values

NAMES = st.one_of(st.sampled_from(("0001-a", "a", "0001")), texts())


@fuzzed("tickets", 100, data=mutated(*TICKETS), name=NAMES)
def test_a_ticket_is_read_or_refused_in_words(data: bytes, name: str) -> None:
    ticket = read(data, name)
    if ticket is not None:
        os.fsencode(ticket.path)
        assert "/" not in ticket.name
        assert len(os.fsencode(ticket.name)) <= 200
        os.fsencode(ticket.area)
        assert "\0" not in ticket.area + ticket.title
        assert re.fullmatch(r"|\d{4,18}", ticket.id)
        item = parse_item("queue/merge/pending/0001-x.md", format_item(ticket, "/tmp/w", "0" * 40, "summary"))
        assert item is not None
        assert item.ticket == ticket.name


@fuzzed("fields set in tickets", 40, data=mutated(*TICKETS), number=st.integers(0, 99))
def test_a_field_is_set_and_no_other_or_it_is_refused(data: bytes, number: int) -> None:
    ticket = read(data)
    if ticket is not None:
        try:
            text = set_field(ticket.text, "attempts", number)
        except ValueError:
            return
        after = parse_ticket(ticket.name, ticket.state, text.encode(errors="surrogateescape"))
        assert after.attempts == number
        assert (after.area, after.depends, after.repair) == (ticket.area, ticket.depends, ticket.repair)


@fuzzed("queue items", 60, data=mutated(QUEUE, b"queue/merge/pending/0001-a.md\n"), name=texts())
def test_a_queue_item_names_a_ticket_or_is_none(data: bytes, name: str) -> None:
    item = parse_item(f"queue/merge/pending/{name}.md", data)
    if item is not None:
        assert isinstance(item.order[0], int)
        assert "/" not in item.ticket
        assert len(os.fsencode(item.ticket)) <= 200
        assert not re.search(r"[\0-\x1f]", item.ticket)


BATCH = [
    {"name": "a", "title": "A", "body": "Do it.", "depends": ["b", "0001"], "priority": 1},
    {"name": "b", "title": "B", "body": ""},
]


@fuzzed("drafts in files", 40, files=st.dictionaries(texts(), mutated(*TICKETS), max_size=3))
def test_drafts_are_numbered_or_refused(files: Mapping[str, bytes]) -> None:
    try:
        batch = [drafts.Draft.read(f"tickets/open/{name}.md", data, "core") for name, data in files.items()]
        numbered = drafts.number(EMPTY_PLAN, 7, batch)
    except TicketError:
        return
    assert all(re.fullmatch(r"\d{4}-[^\s/.\0]+", name) for name in numbered)


@fuzzed("drafts by the tool", 80, batch=altered(BATCH) | values())
def test_submitted_tickets_are_written_inside_or_refused(tmp_path: Path, batch: Any) -> None:
    worktree = tmp_path / "worktree"
    (worktree / "tickets" / "open").mkdir(parents=True, exist_ok=True)
    with suppress(ScriptoriumError):
        drafts.submit_tickets(EMPTY_PLAN, 7, worktree, "core", batch)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "worktree"}
    assert {path.name for path in worktree.iterdir()} == {"tickets"}
