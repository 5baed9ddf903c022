"""Checkouts of the plan branch: each follows when the branch moves, so that it never shows our change reversed."""

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
"""A file in the git directory of a checkout of the plan: the commit that it was last brought to, and while a git is at
it, the one that it is being brought to."""


@dataclass(frozen=True)
class PlanCheckouts:
    """The checkouts of the plan branch in a repository."""

    repository: Repository

    def follow(self, old: str, new: str) -> None:
        """Take along a checkout of the plan branch, which would otherwise show our change reversed."""
        for holder in worktrees_on(self.repository, BRANCH):
            if holder.is_missing_but_locked:
                continue
            try:
                if not self._take_along(holder, old, new):
                    warn_behind(holder.path, BRANCH)
            except GitError as error:
                warn_behind(holder.path, BRANCH, error.message)

    def note(self, tip: str) -> None:
        """Note where each checkout is before the branch moves on: it may be away, or this killed before it follows."""
        for holder in worktrees_on(self.repository, BRANCH):
            known, begun = self._noted(holder, tip)
            mark, text = holder.git_dir / MARK, f"{known}\n"
            if not begun and not (mark.exists() and mark.read_text(errors="replace") == text):
                mark.write_text(text)

    def _noted(self, holder: BranchWorktree, now: str) -> tuple[str, str]:
        """Return where a checkout was brought to, and where a git that was killed, or is at it, was to bring it."""
        mark = holder.git_dir / MARK
        known, begun = (*(mark.read_text(errors="replace").split() if mark.exists() else ()), "", "")[:2]
        if not (known and self.repository.resolve(known)):
            return now, ""
        if begun and self.repository.resolve(begun):
            return known, begun
        return self._made_there(holder, known, now) or known, ""

    def _made_there(self, holder: BranchWorktree, known: str, now: str) -> str:
        """Return the newest commit since another that a person made in a checkout, '' where one of ours is among them.

        That brought its index along, and what has been taken back there since is an edit.
        """
        ours = "{} <{}> ".format(*IDENTITY)
        log, since = holder.git_dir / "logs" / "HEAD", []
        for commit in takewhile(lambda commit: commit.oid != known, self.repository.history(now)):
            if commit.committer.startswith(ours):
                return ""
            since.append(commit.oid)
        moves = log.read_text(errors="replace") if since and log.exists() else ""
        return next((oid for oid in since if f" {oid} " in moves), "")

    def _take_along(self, holder: BranchWorktree, old: str, new: str) -> bool:
        checkout, mark = UserCheckout(self.repository, holder.path), holder.git_dir / MARK
        known, begun = self._noted(holder, old)
        if begun:
            if not self._bring(checkout, mark, known, begun, was_killed=True):
                return False
            known = begun
        # not back, where a neighbour has brought it further already
        behind = known != old and self.repository.is_ancestor(known, old)
        if behind and not self._bring(checkout, mark, known, old):  # moves nothing where a person has moved it since
            return False
        return self._bring(checkout, mark, old, new)

    @staticmethod
    def _bring(checkout: UserCheckout, mark: Path, old: str, new: str, *, was_killed: bool = False) -> bool:
        """Bring a checkout on, and note where it is; as long as a git is at it, where it is to be as well."""
        if not was_killed:
            mark.write_text(f"{old}\n{new}\n")
        try:
            done = checkout.bring(old, new, mark.stat().st_ctime_ns, was_killed=was_killed)
        except GitError:
            if not was_killed:  # else the lock is still to be removed
                mark.write_text(f"{old}\n")
            raise
        mark.write_text(f"{new if done else old}\n")
        return done
