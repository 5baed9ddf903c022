"""Fast-forward of a checkout that belongs to the user, without loss of any of the user's work."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium.git import stale_locks
from scriptorium.git.command import locked_refs, run_git
from scriptorium.git.errors import ErrorKind, GitError, blocking_files, classify
from scriptorium.git.objects import TreeEntry
from scriptorium.git.repository import Repository
from scriptorium.git.worktree import STATUS, Worktree, parse_status
from scriptorium.git.worktree_list import present_worktrees_on

WITH_INDEX = ("-c", "core.fsync=committed,reference,index")
"""The user's index is flushed to disk, too, since nobody can recreate it."""


def warn_behind(path: Path, branch: str, why: str = "edits are in the way") -> None:
    """Warn that a checkout did not follow its branch."""
    import logging  # late: `status` does without

    logging.getLogger(__name__).warning(
        "the files in '%s' are behind '%s', as %s; hint: copy your edits elsewhere, "
        "then 'git reset --hard' there; a commit from there would undo what has happened since",
        path, branch, why,
    )  # fmt: skip


@dataclass(frozen=True)
class UserCheckout:
    """A checkout that belongs to the user."""

    repository: Repository
    path: Path

    def fast_forward(self, branch: str, old: str, commit: str, begin: Callable[[], None]) -> list[str]:
        """Move the checked-out branch and the files from ``old`` to ``commit``, or return the files that block it.

        Calls ``begin`` before the first file changes. `git merge` is no option: it reads index and HEAD before it
        locks them, and so reverts a change that the user stages or commits in between. This function locks the branch
        first.
        """
        git_dir = self.git_directory()
        begun = [name for name in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD") if (git_dir / name).exists()]
        if begun:
            raise GitError(("merge",), 128, f"fatal: '{begun[0]}' exists: finish your merge, pick or revert first")
        self._require_index()
        with locked_refs(git_dir, f"update HEAD {commit} {old}") as move:
            if self.path not in present_worktrees_on(self.repository, branch):
                raise GitError(("merge",), 128, f"fatal: '{branch}' is no longer checked out")
            blocking = self._in_the_way(old, commit)
            if not blocking:
                begin()
                blocking = self._move_files(old, commit)
            if not blocking:
                try:
                    move()
                except GitError:
                    self._read_tree(commit, old)
                    raise
        return blocking

    def _in_the_way(self, old: str, commit: str) -> list[str]:
        """Return the user's files that git would overwrite or delete silently.

        These are untracked files in place of new ones, even ignored ones; repositories in place of a file; a symbolic
        link in place of a directory; and removed files, which git considers unmodified.
        """
        found, gone = [], set()
        for path, known, entry in self.repository.differences(*map(self.repository.tree_of, (old, commit))):
            if entry is None:
                continue
            if self._is_lost(path, known, entry):
                found.append(path)
            elif known and not (known.is_link or known.is_directory or entry.is_directory):
                gone |= set() if os.path.lexists(self.path / path) else {path}
        return found + sorted(gone & self._removed() if gone else gone)

    def _is_lost(self, path: str, known: TreeEntry | None, entry: TreeEntry) -> bool:
        """Return whether a new entry would destroy an untracked file, repository or link at its path."""
        place = self.path / path
        is_directory = place.is_dir() and not place.is_symlink()
        if is_directory:
            return not entry.is_directory and not entry.is_link and self._holds_others(path)
        if not os.path.lexists(place):
            return False
        if known is None or known.is_directory:
            return True
        # git itself protects a file in the index
        return entry.is_directory and not self._git("--literal-pathspecs", "ls-files", "-z", "--", path)[1]

    def _require_index(self) -> None:
        """Raise GitError if there is no index: git would take the checkout for a new one and overwrite every file."""
        if not (self.git_directory() / "index").exists():
            raise GitError(("merge",), 128, "fatal: it has no index; 'git reset' creates one and changes no file")

    def _holds_others(self, path: str) -> bool:
        """Return whether a directory contains untracked files or repositories."""
        place = ("--literal-pathspecs", "ls-files", "-z")
        if self._git(*place, "--others", "--", path)[1]:
            return True
        items = self._git(*place, "--stage", "--", path)[1].split(b"\0")
        links = [os.fsdecode(item.partition(b"\t")[2]) for item in items if item.startswith(b"160000 ")]
        return any(place.is_dir() and any(place.iterdir()) for place in (self.path / link for link in links))

    def _removed(self) -> set[str]:
        """Return the files that were removed; files outside of a sparse checkout do not count."""
        return {os.fsdecode(name) for name in self._git("ls-files", "--deleted", "-z")[1].split(b"\0") if name}

    def _read_tree(self, old: str, commit: str) -> tuple[int, str]:
        """Move index and files from one commit to another; return git's status and its stderr."""
        status, _, err = self._git(*WITH_INDEX, "read-tree", "-m", "-u", old, commit)
        return status, err

    def _read_tree_again(self, old: str, commit: str) -> tuple[int, str]:
        """Call `_read_tree`, and again with a refreshed index if an unmodified file may have blocked it."""
        status, err = self._read_tree(old, commit)
        if status and classify(err, status) is ErrorKind.DIRTY:
            self._git(*WITH_INDEX, "update-index", "-q", "--refresh")  # a new modification time alone is no edit
            status, err = self._read_tree(old, commit)
        return status, err

    def _move_files(self, old: str, commit: str) -> list[str]:
        status, err = self._read_tree_again(old, commit)
        if status == 0:
            return []
        blocking = blocking_files(err)
        if not blocking:
            raise GitError(("merge",), status, err)
        files = set(self.repository.diff_names(old, commit))
        edited = [change.path for change in parse_status(self._git(*STATUS)[1]) if change.path in files]
        return sorted({*blocking, *edited})

    def git_directory(self) -> Path:
        """Return the git directory of this checkout alone."""
        main = self.path == self.repository.root
        return self.repository.common_dir if main else Worktree(self.repository, self.path).directory()

    def undo(self, old: str, commit: str, since: int) -> bool:
        """Revert the files that an interrupted fast-forward from ``old`` has written; return whether there were any.

        Such a file has the content of ``commit`` and was written ``since`` then (nanoseconds); other files are the
        user's. Raises GitError while the index is locked.
        """
        # if all files were written, but the branch did not move; edits that block it stay
        status, err = self._read_tree(commit, old)
        failure = GitError(("read-tree",), status, err)
        if status and failure.is_index_locked:
            raise failure
        files = set(self.repository.diff_names(old, commit))
        pending = {change.path for change in parse_status(self._git(*STATUS)[1]) if change.code[1] != " "}
        pending = (files & pending) | self._ignored(files)
        written = [path for path in sorted(pending) if self._is_written(path, commit, since)]
        for path in written:
            (self.path / path).unlink(missing_ok=True)
        before = b"".join(os.fsencode(path) + b"\0" for path in written if self.repository.blob(old, path))
        if before:  # from the index, which a fast-forward writes last
            self._git("checkout-index", "--quiet", "-z", "--stdin", data=before)
        return bool(written)

    def _ignored(self, files: set[str]) -> set[str]:
        """Return the ignored ones among some files: `git status` omits them, yet a commit may contain them."""
        data = b"".join(os.fsencode(path) + b"\0" for path in files)
        found = self._git("check-ignore", "-z", "--stdin", data=data)[1].split(b"\0")
        return {os.fsdecode(path) for path in found if path}

    def _is_written(self, path: str, commit: str, since: int) -> bool:
        """Return whether git wrote a file of a commit, or a part of it. A missing file counts as unwritten yet."""
        file, found = self.path / path, self.repository.objects.read(self.repository.blob(commit, path))
        try:
            if file.lstat().st_ctime_ns < since or found is None:
                return False
            begun = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        if found.data.startswith(begun):
            return True
        _, filtered, _ = self._git("cat-file", "--filters", f"{commit}:{path}")
        return filtered.startswith(begun)

    def follow(self, old: str, new: str) -> bool:
        """Move the checkout from ``old`` to ``new``. Returns False, and changes nothing, if files block it."""
        with suppress(GitError):
            self._require_index()
            return not self._in_the_way(old, new) and self._read_tree_again(old, new)[0] == 0
        return False

    def bring(self, old: str, new: str, since: int, *, was_killed: bool) -> bool:
        """Call `follow`, and revert the files that an interrupted git has written ``since``.

        Raises GitError while the index is locked; if git ``was_killed``, its stale lock is removed.
        """
        for _ in range(3):
            if self.follow(old, new) or self._has_followed(old, new):
                return True
            try:
                if not self.undo(old, new, since):
                    return False
            except GitError as error:
                if not (was_killed and stale_locks.wait_for_release(error.lock, self.path)):
                    raise
        return False

    def _has_followed(self, old: str, new: str) -> bool:
        """Return whether the index is at the new commit; git writes it after all files."""
        status, out, _ = self._git("diff-index", "--cached", "--name-only", "--no-renames", "-z", new)
        names = {os.fsdecode(name) for name in out.split(b"\0")}
        return status == 0 and names.isdisjoint(self.repository.diff_names(old, new))

    def can_follow(self, old: str, new: str) -> bool:
        """Return whether `follow` would succeed, without changing anything.

        Raises GitError if the index is locked or missing.
        """
        self._require_index()
        if self._in_the_way(old, new):
            return False
        status, _, err = self._git("read-tree", "--dry-run", "-m", "-u", old, new)
        failure = GitError(("read-tree",), status, err)
        if failure.is_index_locked:
            raise failure
        return status == 0

    def _git(self, *argv: str, data: bytes = b"") -> tuple[int, bytes, str]:
        # a worktree that core.worktree names may have no .git
        where = () if (self.path / ".git").exists() else ("--git-dir", str(self.repository.common_dir))
        return run_git(*where, *argv, cwd=self.path, data=data, accept=(0, 1, 2, 128))
