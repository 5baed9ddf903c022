"""Tickets named as arguments of `merge`: the queue is processed up to them, and no further."""

from __future__ import annotations

import pytest

from tests.support import Project

pytestmark = pytest.mark.slow

WORK = 'echo "$SCRIPTORIUM_TICKET" >"$SCRIPTORIUM_TICKET"; scriptorium submit-pr done'


def queue(project: Project, *ids: str) -> list[str]:
    """Bring tickets into the merge queue and return their names."""
    project.init()
    project.agent(WORK)
    names = [project.ticket(id) for id in ids]
    for name in names:
        assert project.run("assign").out.startswith(name)
        assert project.run("code", name).out == f"{name}\n"
    return names


def test_a_number_names_a_ticket_as_well_as_its_name_does(project: Project) -> None:
    queue(project, "0001", "0002", "0003")
    assert project.run("merge", "2")[:2] == (0, "0001-thing\tlanded\n0002-thing\tlanded\n")
    assert "Merge Queue: 0003-thing\n" in project.run("status").out


def test_a_ticket_that_has_landed_before_takes_no_other_along(project: Project) -> None:
    queue(project, "0001", "0002")
    assert project.run("merge", "0001-thing").out == "0001-thing\tlanded\n"
    assert project.run("merge", "0001-thing") == (0, "", "")
    assert project.run("merge", input="0001-thing\n") == (0, "", "")
    assert "Merge Queue: 0002-thing\n" in project.run("status").out


def test_an_unknown_ticket_is_reported_and_nothing_lands(project: Project) -> None:
    queue(project, "0001")
    expected = "scriptorium: there is no ticket '0009'\nhint: see 'scriptorium status --json'\n"
    assert project.run("merge", "0009") == (1, "", expected)
    assert "Merge Queue: 0001-thing\n" in project.run("status").out
