"""Checkouts of the plan branch by the user.

Each checkout follows the branch when scriptorium moves it. Otherwise `git status` there would show the reverse of the
last change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from scriptorium.git.environment import IDENTITY
from scriptorium.git.errors import GitError
from scriptorium.git.repository import Repository
from scriptorium.git.user_checkout import UserCheckout, warn_behind
from scriptorium.git.worktree_list import BranchWorktree, worktrees_on
from scriptorium.plan.snapshot import BRANCH

MARK = "scriptorium-plan"
"""A file in the git directory of a checkout of the plan.

It holds the commit that the checkout was last moved to and, during a move, the commit that it is moved to."""


@dataclass(frozen=True)
class PlanCheckouts:
    """The worktrees of a repository that have the plan branch checked out."""

    repository: Repository

    def follow(self, old: str, new: str) -> None:
        """Move each checkout of the plan branch from one commit to the next, and warn about any that cannot move."""
        for worktree in worktrees_on(self.repository, BRANCH):
            if worktree.is_missing_but_locked:
                continue
            try:
                if not self._move_to(worktree, old, new):
                    warn_behind(worktree.path, BRANCH)
            except GitError as error:
                warn_behind(worktree.path, BRANCH, error.message)

    def record(self, tip: str) -> None:
        """Record the commit of each checkout before the branch moves.

        A checkout may be unreachable now, or this process may be killed before the checkout follows.
        """
        for worktree in worktrees_on(self.repository, BRANCH):
            known, begun = self._recorded(worktree, tip)
            mark, text = worktree.git_dir / MARK, f"{known}\n"
            if not begun and not (mark.exists() and mark.read_text(errors="replace") == text):
                mark.write_text(text)

    def _recorded(self, worktree: BranchWorktree, now: str) -> tuple[str, str]:
        """Return the commit that a checkout was last moved to, and the target of an unfinished move or ''."""
        mark = worktree.git_dir / MARK
        known, begun = (*(mark.read_text(errors="replace").split() if mark.exists() else ()), "", "")[:2]
        if not (known and self.repository.resolve(known)):
            return now, ""
        if begun and self.repository.resolve(begun):
            return known, begun
        return self._last_user_commit(worktree, known, now) or known, ""

    def _last_user_commit(self, worktree: BranchWorktree, known: str, now: str) -> str:
        """Return the newest commit after ``known`` that the user made in a checkout, or ''.

        Such a commit updates the index, so that later differences are edits. If scriptorium has moved the branch
        since, the result is ''.
        """
        ours = "{} <{}> ".format(*IDENTITY)
        log, since = worktree.git_dir / "logs" / "HEAD", []
        for commit in takewhile(lambda commit: commit.oid != known, self.repository.history(now)):
            if commit.committer.startswith(ours):
                return ""
            since.append(commit.oid)
        moves = log.read_text(errors="replace") if since and log.exists() else ""
        return next((oid for oid in since if f" {oid} " in moves), "")

    def _move_to(self, worktree: BranchWorktree, old: str, new: str) -> bool:
        checkout, mark = UserCheckout(self.repository, worktree.path), worktree.git_dir / MARK
        known, begun = self._recorded(worktree, old)
        if begun:
            if not self._move(checkout, mark, known, begun, was_killed=True):
                return False
            known = begun
        # another process may have moved the checkout further already
        behind = known != old and self.repository.is_ancestor(known, old)
        if behind and not self._move(checkout, mark, known, old):  # fails if the user has moved the checkout since
            return False
        return self._move(checkout, mark, old, new)

    @staticmethod
    def _move(checkout: UserCheckout, mark: Path, old: str, new: str, *, was_killed: bool = False) -> bool:
        """Move a checkout and record its commit; during the move, record the target as well."""
        if not was_killed:
            mark.write_text(f"{old}\n{new}\n")
        try:
            done = checkout.bring(old, new, mark.stat().st_ctime_ns, was_killed=was_killed)
        except GitError:
            if not was_killed:  # else the next try has to remove the stale lock
                mark.write_text(f"{old}\n")
            raise
        mark.write_text(f"{new if done else old}\n")
        return done
