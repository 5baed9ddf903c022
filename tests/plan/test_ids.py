"""The next ticket id: above every id that was ever used, found without reading all of the history."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scriptorium.git.repository import Repository
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.store import PlanStore
from tests.plan.store_cases import written
from tests.support import Project


def test_the_id_of_a_removed_ticket_is_not_reused(project: Project, store: PlanStore) -> None:
    project.ticket("0002")
    assert store.next_id(store.snapshot()) == 3
    project.commit_plan({"tickets/open/0002-thing.md": None})
    assert store.next_id(store.snapshot()) == 3  # its branch may hold work
    written(store, PlanChange("create", writes={"tickets/open/0007-x.md": b"", "last-id": b"7\n"}))
    written(store, PlanChange("x", removes=["tickets/open/0007-x.md"]))
    assert store.next_id(store.snapshot()) == 8


def test_an_id_with_a_branch_is_not_reused(project: Project, store: PlanStore) -> None:
    """The plan may have been reset to a commit before the id was assigned."""
    project.git("branch", "scriptorium/ticket-0004")
    project.git("branch", "scriptorium/ticket-0009-of-a-person")
    assert store.next_id(store.snapshot()) == 5


# -- the bounded search against a model of the whole history --------------------------------------------


@dataclass
class History:
    """A plan branch as a fast-import stream, and the highest id that was in use by each commit."""

    stream: list[str] = field(default_factory=list)
    tickets: list[frozenset[int]] = field(default_factory=list)
    highest: list[int] = field(default_factory=list)
    last_id: str = ""

    def commit(
        self, message: str, tickets: set[int] | frozenset[int], highest: int, parent: int = 0, merged: int = 0
    ) -> int:
        mark, ref = len(self.tickets) + 1, "side" if parent else "plan"
        lines = [f"commit refs/heads/{ref}", f"mark :{mark}", f"committer A <a@example.org> {mark} +0000"]
        lines += [f"data {len(message)}", message]
        start = parent or self._tip
        lines += [f"from :{start}"] * bool(start) + [f"merge :{merged}"] * bool(merged) + ["deleteall"]
        files = {f"tickets/open/{number:04d}-x.md": "x" for number in tickets}
        files |= {"last-id": self.last_id} if self.last_id else {}
        for path, text in files.items():
            lines += [f"M 100644 inline {path}", f"data {len(text)}", text]
        self.stream += lines
        self.tickets.append(frozenset(tickets))
        self.highest.append(highest)
        if not parent:
            self._tip = mark
        return mark

    _tip: int = 0

    @property
    def now(self) -> tuple[set[int], int]:
        return set(self.tickets[self._tip - 1]), self.highest[self._tip - 1]

    def by_tool(self) -> None:
        """Let scriptorium create a ticket."""
        tickets, highest = self.now
        self.last_id = f"{highest + 1}\n"
        self.commit("create\n\nTransaction: 1", tickets | {highest + 1}, highest + 1)

    def by_hand(self, number: int) -> None:
        tickets, highest = self.now
        self.commit("Add a ticket", tickets | {number}, max(highest, number))

    def remove(self) -> None:
        self.commit("Remove all tickets", set(), self.now[1])

    def lower(self) -> None:
        """Let the user remove last-id."""
        self.last_id = ""
        self.commit("Remove last-id", *self.now)

    def merge(self, number: int, *, keep: bool) -> None:
        """Let the user add a ticket on a side branch and merge the branch, with the ticket or without it."""
        tickets, highest = self.now
        start, last_id = max(1, self._tip - 2), self.last_id
        reached = max(self.highest[start - 1], number)
        self.last_id = ""
        side = self.commit("Add a ticket", {*self.tickets[start - 1], number}, reached, parent=start)
        if not keep:
            side = self.commit("Remove it", self.tickets[start - 1], reached, parent=side)
        self.last_id = last_id
        self.commit("Merge", tickets | ({number} if keep else set()), max(highest, number), merged=side)


NUMBERS = st.integers(1, 40)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["by_tool", "remove", "lower"])),
    st.tuples(st.just("by_hand"), NUMBERS),
    st.tuples(st.just("merge"), NUMBERS, st.booleans()),
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=8))
@example(steps=[("by_hand", 9), ("remove",), ("by_tool",), ("remove",), ("lower",)])
@example(steps=[("by_tool",), ("merge", 30, False), ("remove",)])
@example(steps=[("by_hand", 20), ("by_tool",), ("by_hand", 30), ("remove",)])
def test_the_next_id_is_above_all_that_a_history_ever_used(project: Project, steps: list[tuple[object, ...]]) -> None:
    history = History()
    history.commit("initialize\n\nTransaction: 0", set(), 0)
    for name, *arguments in steps:
        match name, arguments:
            case "merge", [int(number), bool(keep)]:
                history.merge(number, keep=keep)
            case _:
                getattr(history, str(name))(*arguments)
    marks = "".join(f"get-mark :{mark}\n" for mark in range(1, len(history.tickets) + 1))
    ends = "".join(f"reset refs/heads/{branch}\nfrom {'0' * 40}\n\n" for branch in ("plan", "side"))
    repository = Repository.discover(project.root)
    out = repository.fast_import(("\n".join(history.stream) + "\n" + marks + ends + "done\n").encode())
    assert out is not None
    store = PlanStore(repository)
    for commit, highest, tickets in zip(out.split(), history.highest, history.tickets, strict=True):
        plan = Plan(repository, commit, repository.tree_of(commit))
        assert {int(id) for ids in plan.ids.values() for id in ids} == tickets
        assert store.next_id(plan) == highest + 1
