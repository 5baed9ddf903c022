"""The ids of tickets: every number that is in use, or was in use at some time."""

from __future__ import annotations

import re

from scriptorium.git.repository import Repository
from scriptorium.plan.snapshot import LAST_ID, Plan, parse_last_id
from scriptorium.plan.ticket import BRANCH_PREFIX, State, is_ticket_branch


def next_id(repository: Repository, plan: Plan) -> int:
    """Return the number after the highest that a ticket has or ever had.

    ``last-id`` covers the ids that scriptorium assigned. A person may add a ticket under any number and remove it
    again, and its branch may still hold work.
    """
    numbering = _last_numbering(repository, plan.commit)
    blob = repository.blob(numbering, LAST_ID) if numbering else ""
    found = repository.objects.read(blob) if blob else None
    in_plan = {int(id) for ids in plan.ids.values() for id in ids}
    by_hand = _ids_by_hand(repository, numbering, plan.commit)
    last = parse_last_id(found.data) if found else 0
    return max(plan.last_id, last, *in_plan, *by_hand, *_ids_of_branches(repository), 0) + 1


def _last_numbering(repository: Repository, commit: str) -> str:
    """Return the newest commit in which scriptorium set ``last-id``, or ''.

    Its number is above every id in its history, so that only later commits need a look.
    """
    return repository.log("-1", "--format=%H", "--grep=^Transaction: ", commit, "--", LAST_ID).strip()


def _ids_by_hand(repository: Repository, since: str, commit: str) -> set[int]:
    """Return the ids of tickets that people added after a commit, or ever, even if the tickets are gone."""
    added = ("--format=", "--name-only", "--no-renames", "--diff-filter=A", "-z")
    people = ("--invert-grep", "--grep=^Transaction: ")  # 'last-id' has all others
    # a ticket may come and go on a side branch, which git would leave out by default
    commits = ("--full-history", f"{since}..{commit}" if since else commit)
    names = repository.log(*added, *people, *commits, "--", "tickets").split("\0")
    found = (re.fullmatch(rf"tickets/(?:{'|'.join(State)})/(\d{{1,18}})(?:-[^/]*)?\.md", name) for name in names)
    return {int(match[1]) for match in found if match}


def _ids_of_branches(repository: Repository) -> set[int]:
    """Return the ids with a branch; the plan may have been reset to a commit before they were assigned."""
    refs = repository.refs(f"refs/heads/{BRANCH_PREFIX}*")
    branches = [ref.removeprefix("refs/heads/") for ref in refs]
    return {int(branch.removeprefix(BRANCH_PREFIX)) for branch in branches if is_ticket_branch(branch)}
