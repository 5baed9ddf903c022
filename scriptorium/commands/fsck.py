"""scriptorium fsck: check the plan branch, all its history included."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress

from scriptorium.cli import Command, Flag
from scriptorium.commands.assign import open_problems, unreadable
from scriptorium.errors import ExitCode
from scriptorium.history import Finding, Level, Place, check_history, read_history
from scriptorium.plan import ACTIVE, PENDING, Plan
from scriptorium.ticket import (
    BRANCH_PREFIX,
    State,
    TicketError,
    area_problem,
    is_of_ticket,
    mistaken_keys,
    parse_item,
    ticket_id,
)
from scriptorium.workspace import Workspace


class Fsck(Command):
    """Check the present state of the plan branch and its whole history.

    Prints one line per finding: 'error' or 'warning', the ticket, file, branch or commit, and the
    problem. Exits with 1 when there is an error; it repairs nothing.
    """

    as_json = Flag("--json", help="print one JSON object")

    def main(self) -> int:
        findings = fsck(Workspace.open())
        if self.as_json:
            print(json.dumps({"findings": [finding._asdict() for finding in findings]}, indent=2))
        else:
            for finding in findings:
                print("\t".join(_printable(field) for field in finding))
        return ExitCode.FAILED if any(found.level is Level.ERROR for found in findings) else ExitCode.OK


def fsck(workspace: Workspace) -> list[Finding]:
    """Return what does not hold: in the plan now, in its branches, and then in its history."""
    plan = workspace.plan.snapshot()
    unmerged = workspace.repository.branches_not_in(workspace.master_commit(), BRANCH_PREFIX)
    return [
        *check_tickets(plan),
        *check_keys(plan),
        *check_areas(plan),
        *check_queue(plan),
        *check_branches(plan, unmerged, workspace.master),
        *check_history(read_history(workspace.repository, plan.commit)),
    ]


def check_tickets(plan: Plan) -> list[Finding]:
    """Return what is wrong with the tickets; done ones are not read, as nothing depends on their text. Pure."""
    places: dict[str, list[Place]] = defaultdict(list)
    for state in State:
        for name in plan.tickets(state):
            places[ticket_id(name)].append(Place(state, name))
    unnumbered = [place for place in places.pop("", []) if place.state != State.OPEN]
    findings = [Finding(Level.ERROR, name, f"is '{state}', and has no number") for state, name in unnumbered]
    for found in places.values():
        # with an open one among them, it is that one's problem
        if len(found) > 1 and all(place.state != State.OPEN for place in found):
            where = " and ".join(map(str, found))
            findings.append(Finding(Level.ERROR, found[-1].name, f"its id is in more than one place: {where}"))
    problems = [*open_problems(plan), *unreadable(plan, State.IN_PROGRESS), *unreadable(plan, State.STUCK)]
    return findings + [Finding(Level.ERROR, problem.ticket, problem.why) for problem in problems]


def check_keys(plan: Plan) -> list[Finding]:
    """Return the slips in the front matter of open tickets, which are passed over in silence elsewhere. Pure."""
    findings = []
    for name in plan.tickets(State.OPEN):
        with suppress(TicketError):  # it is told already
            for key, near in mistaken_keys(plan.ticket(name, State.OPEN).text).items():
                findings.append(Finding(Level.WARNING, name, f"'{key}' is not read: did you mean '{near}'?"))
    return findings


def check_areas(plan: Plan) -> list[Finding]:
    """Return the areas that nothing can be planned from. Pure."""
    problems = {f"areas/{name}.md": area_problem(name) for name in plan.names("areas")}
    return [Finding(Level.WARNING, path, f"is no area: {why}") for path, why in problems.items() if why]


def check_queue(plan: Plan) -> list[Finding]:
    """Return what is wrong with the merge queue. Pure."""
    findings = []
    queued: set[str] = set()
    for name in plan.names(PENDING):
        path = f"{PENDING}/{name}.md"
        item = parse_item(path, plan.read(path))
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
    """Return the branches of done tickets that hold commits which master lacks. Pure."""
    done = plan.ids[State.DONE]
    wrong = [branch for branch in unmerged if is_of_ticket(branch) and branch.removeprefix(BRANCH_PREFIX) in done]
    return [Finding(Level.ERROR, name, f"its ticket is 'done', and it is not in '{master}'") for name in wrong]


def _printable(text: str) -> str:
    """Return a text as one field of one line."""
    return "".join(character if character.isprintable() else "?" for character in text)


main = Fsck.launch
