"""Which open tickets may start, and what keeps the others from it. Pure."""

from __future__ import annotations

from scriptorium.plan.snapshot import Plan
from scriptorium.plan.ticket import State, Ticket, TicketError, ticket_id


def ready_tickets(plan: Plan) -> list[Ticket]:
    """Return the open tickets that can be worked on, in the order of their turn. Pure.

    Those that cannot be understood, or whose id another ticket has as well, are left out.
    """
    found, _ = _examine(plan)
    done = plan.ids[State.DONE]
    able = [ticket for ticket in found if set(ticket.depends) <= done]
    # by length first, as ids are padded to four digits only; without a number comes last
    return sorted(able, key=lambda ticket: (-ticket.priority, not ticket.id, len(ticket.id), ticket.id, ticket.name))


def open_problems(plan: Plan) -> list[TicketError]:
    """Return what keeps open tickets from ever being ready. Pure."""
    found, problems = _examine(plan)
    known = set().union(*plan.ids.values())
    for ticket in found:
        for wanted in ticket.depends:
            if wanted not in known:
                problems.append(TicketError(ticket.name, f"it depends on '{wanted}', which does not exist"))
    depends = {ticket.id: ticket.depends for ticket in found}
    for ticket in found:
        circle = find_cycle(ticket.id, depends)
        if circle:
            problems.append(TicketError(ticket.name, f"it depends on itself: {' -> '.join(circle)}"))
    return problems


def unreadable_tickets(plan: Plan, state: State) -> list[TicketError]:
    """Return what is wrong with the tickets in a state that cannot be understood. Pure."""
    problems = []
    for name in plan.tickets(state):
        try:
            plan.ticket(name, state)
        except TicketError as error:
            problems.append(error)
    return problems


def find_cycle(start: str, depends: dict[str, tuple[str, ...]]) -> list[str]:
    """Return a way along dependencies from an id back to itself, empty when there is none."""
    ways = [[start, wanted] for wanted in depends.get(start, ())]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        if way[-1] == start:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, wanted] for wanted in depends.get(way[-1], ())]
    return []


def _examine(plan: Plan) -> tuple[list[Ticket], list[TicketError]]:
    """Read the open tickets; those that cannot be used come back as problems."""
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
