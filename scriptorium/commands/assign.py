"""scriptorium assign: the oldest ready ticket gets a branch and a worktree."""

from __future__ import annotations

from pathlib import Path

from scriptorium import disk, locks, transitions, worktrees
from scriptorium.cli import Command
from scriptorium.commands.health import known_health
from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.gate import Colour
from scriptorium.plan import Change, Plan
from scriptorium.records import emit
from scriptorium.ticket import State, Ticket, TicketError, slug, ticket_id
from scriptorium.workspace import Workspace


class Assign(Command):
    """Move the oldest ready ticket from open to in-progress, with its own branch and worktree.

    A ticket is ready when its dependencies are done. A higher 'priority' goes first, then the lower
    number. Prints the ticket and its worktree, or nothing when no ticket is ready. While master is
    known to be red, only tickets marked 'repair: true' are assigned; the exit code is 3 without one.
    """

    def main(self) -> int:
        workspace = Workspace.open()
        red = known_health(workspace).colour is Colour.RED
        result = assign(workspace, repairs_only=red)
        if result is None and red and ready(workspace.plan.snapshot()):
            raise ScriptoriumError(
                "master is red, so no ticket is assigned",
                "repair it on master, or by a ticket marked 'repair: true'",
                ExitCode.REFUSED,
            )
        if result:
            emit(result[0], str(result[1]))
            return ExitCode.OK
        problems = open_problems(workspace.plan.snapshot())
        if problems:
            raise problems[0]
        return ExitCode.OK


def assign(workspace: Workspace, *, repairs_only: bool = False) -> tuple[str, Path] | None:
    """Assign the next ticket and return it with its worktree; None when none is ready.

    ``repairs_only`` leaves all but tickets marked ``repair: true``, for when master is red.
    """
    chosen = ""
    disk.require(workspace)
    workspace.master_commit()  # what the worktree cannot be made without must be there before the ticket moves

    def decide(plan: Plan) -> Change | None:
        nonlocal chosen
        tickets = ready(plan)
        if repairs_only:
            tickets = [ticket for ticket in tickets if ticket.repair]
        if not tickets:
            return None
        # a file that somebody dropped there without a number gets the next one
        chosen = tickets[0].name if tickets[0].id else f"{plan.next_id():04d}-{slug(tickets[0].name)}"
        return transitions.assign(tickets[0], chosen)

    if workspace.plan.transact(decide) is None:
        return None
    lock = workspace.paths.ensure(workspace.paths.ticket_lock(chosen).parent) / f"{chosen}.lock"
    if locks.is_held(lock):  # a neighbour has taken it up at once, and its agent may be in the midst of a rebase
        return chosen, workspace.paths.ticket_worktree(chosen)
    with locks.hold(lock, chosen):
        return chosen, worktrees.ensure(workspace, chosen)


def ready(plan: Plan) -> list[Ticket]:
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
        circle = find_circle(ticket.id, depends)
        if circle:
            problems.append(TicketError(ticket.name, f"it depends on itself: {' -> '.join(circle)}"))
    return problems


def unreadable(plan: Plan, state: State) -> list[TicketError]:
    """Return what is wrong with the tickets in a state that cannot be understood. Pure."""
    problems = []
    for name in plan.tickets(state):
        try:
            plan.ticket(name, state)
        except TicketError as error:
            problems.append(error)
    return problems


def find_circle(start: str, depends: dict[str, tuple[str, ...]]) -> list[str]:
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


main = Assign.launch
