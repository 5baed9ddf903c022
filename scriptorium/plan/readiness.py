"""The open tickets that can start, and the problems that block others. Pure."""

from __future__ import annotations

from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, Ticket, TicketError, ticket_id


def ready_tickets(plan: Plan) -> list[Ticket]:
    """Return the open tickets whose dependencies are done, in the order of work. Pure.

    Tickets that cannot be parsed are left out, and so are tickets that share an id.
    """
    found, _ = _examine(plan)
    done = plan.ids[State.DONE]
    able = [ticket for ticket in found if set(ticket.depends) <= done]
    # by length first, because ids are padded to four digits only; tickets without an id come last
    return sorted(able, key=lambda ticket: (-ticket.priority, not ticket.id, len(ticket.id), ticket.id, ticket.name))


def open_problems(plan: Plan) -> list[TicketError]:
    """Return the problems because of which open tickets can never start. Pure."""
    found, problems = _examine(plan)
    known = set().union(*plan.ids.values())
    for ticket in found:
        for wanted in ticket.depends:
            if wanted not in known:
                problems.append(TicketError(ticket.name, f"it depends on '{wanted}', which does not exist"))
    depends = {ticket.id: ticket.depends for ticket in found}
    for ticket in found:
        cycle = find_cycle(ticket.id, depends)
        if cycle:
            problems.append(TicketError(ticket.name, f"it depends on itself: {' -> '.join(cycle)}"))
    return problems


def unreadable_tickets(plan: Plan, state: State) -> list[TicketError]:
    """Return an error for each ticket in a state that cannot be parsed. Pure."""
    problems = []
    for name in plan.tickets(state):
        try:
            plan.ticket(name, state)
        except TicketError as error:
            problems.append(error)
    return problems


def find_cycle(start: str, depends: dict[str, tuple[str, ...]]) -> list[str]:
    """Return a cycle of dependencies that starts and ends at an id, empty if there is none."""
    paths = [[start, wanted] for wanted in depends.get(start, ())]
    seen: set[str] = set()
    while paths:
        path = paths.pop()
        if path[-1] == start:
            return path
        if path[-1] not in seen:
            seen.add(path[-1])
            paths += [[*path, wanted] for wanted in depends.get(path[-1], ())]
    return []


def _examine(plan: Plan) -> tuple[list[Ticket], list[TicketError]]:
    """Return the open tickets that can be used, and the problems of the others."""
    found: list[Ticket] = []
    problems: list[TicketError] = []
    names = plan.tickets(State.OPEN)
    taken = [ticket_id(name) for name in names]
    others = set().union(*(ids for state, ids in plan.ids.items() if state is not State.OPEN))
    for name, number in zip(names, taken, strict=True):
        if number and (number in others or taken.count(number) > 1):
            problems.append(TicketError(name, f"another ticket has the id '{number}' as well", "rename one of them"))
            continue
        try:
            found.append(plan.ticket(name, State.OPEN))
        except TicketError as error:
            problems.append(error)
    return found, problems
