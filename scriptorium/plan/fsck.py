"""Checks of the plan branch in its present state. Pure."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

from scriptorium.plan.finding import Finding, Level
from scriptorium.plan.front_matter import misspelled_keys
from scriptorium.plan.history import Place
from scriptorium.plan.readiness import open_problems, unreadable_tickets
from scriptorium.plan.snapshot import ACTIVE, PENDING, Plan
from scriptorium.plan.ticket import BRANCH_PREFIX, State, TicketError, area_problem, is_ticket_branch, ticket_id


def check_tickets(plan: Plan) -> list[Finding]:
    """Return the problems of tickets. Done tickets are not read, because nothing depends on their text. Pure."""
    places: dict[str, list[Place]] = defaultdict(list)
    for state in State:
        for name in plan.tickets(state):
            places[ticket_id(name)].append(Place(state, name))
    unnumbered = [place for place in places.pop("", []) if place.state != State.OPEN]
    findings = [Finding(Level.ERROR, name, f"is '{state}' but has no number") for state, name in unnumbered]
    for found in places.values():
        # if one of them is open, the problem is reported for the open ticket
        if len(found) > 1 and all(place.state != State.OPEN for place in found):
            where = " and ".join(map(str, found))
            findings.append(Finding(Level.ERROR, found[-1].name, f"its id is in more than one place: {where}"))
    problems = [
        *open_problems(plan),
        *unreadable_tickets(plan, State.IN_PROGRESS),
        *unreadable_tickets(plan, State.STUCK),
    ]
    return findings + [Finding(Level.ERROR, problem.ticket, problem.why) for problem in problems]


def check_keys(plan: Plan) -> list[Finding]:
    """Return the misspelled keys in the front matter of open tickets, which all other commands ignore. Pure."""
    findings = []
    for name in plan.tickets(State.OPEN):
        with suppress(TicketError):  # check_tickets reports it
            for key, near in misspelled_keys(plan.ticket(name, State.OPEN).text).items():
                findings.append(Finding(Level.WARNING, name, f"'{key}' is not read: did you mean '{near}'?"))
    return findings


def check_areas(plan: Plan) -> list[Finding]:
    """Return the files in 'areas' that cannot be areas. Pure."""
    problems = {f"areas/{name}.md": area_problem(name) for name in plan.names("areas")}
    return [Finding(Level.WARNING, path, f"is not an area: {why}") for path, why in problems.items() if why]


def check_queue(plan: Plan) -> list[Finding]:
    """Return the problems of the merge queue. Pure."""
    findings = []
    queued: set[str] = set()
    for name in plan.names(PENDING):
        path = f"{PENDING}/{name}.md"
        item = plan.queue_item(path)
        if item is None:
            findings.append(Finding(Level.WARNING, path, "is not a queue item"))
            continue
        if item.ticket in queued:
            findings.append(Finding(Level.WARNING, path, f"queues ticket '{item.ticket}' again"))
        queued.add(item.ticket)
        findings += _not_in_progress(plan, path, item.ticket)
    active = plan.active
    if active is None:
        return findings + [Finding(Level.WARNING, ACTIVE, "names no queue item")] * bool(plan.read(ACTIVE).strip())
    if active.ticket not in queued:
        findings.append(Finding(Level.WARNING, ACTIVE, f"names ticket '{active.ticket}', which is not queued"))
        findings += _not_in_progress(plan, ACTIVE, active.ticket)
    return findings


def _not_in_progress(plan: Plan, path: str, ticket: str) -> list[Finding]:
    if ticket in plan.tickets(State.IN_PROGRESS):
        return []
    found = plan.find(ticket)
    where = f"is '{found[1]}'" if found else "does not exist"
    return [Finding(Level.ERROR, path, f"queues ticket '{ticket}', which {where}")]


def check_branches(plan: Plan, unmerged: list[str], master: str) -> list[Finding]:
    """Return the branches of done tickets with commits that master does not contain. Pure."""
    done = plan.ids[State.DONE]
    wrong = [branch for branch in unmerged if is_ticket_branch(branch) and branch.removeprefix(BRANCH_PREFIX) in done]
    return [Finding(Level.ERROR, name, f"its ticket is 'done' but the branch is not in '{master}'") for name in wrong]
