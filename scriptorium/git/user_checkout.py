"""What git does in a checkout that is a person's: it moves its branch on, and nothing of the person's is lost by it."""

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
"""Where the index is a person's, and nobody makes it anew."""


def warn_behind(path: Path, branch: str, why: str = "edits are in the way") -> None:
    """Warn that a checkout could not be brought to where its branch is."""
    import logging  # late: `status` does without

    logging.getLogger(__name__).warning(
        "the files in '%s' are behind '%s', as %s; hint: copy your edits elsewhere, "
        "then 'git reset --hard' there; a commit from there would undo what has happened since",
        path, branch, why,
    )  # fmt: skip


@dataclass(frozen=True)
class UserCheckout:
    """A working tree that is a person's."""

    repository: Repository
    path: Path

    def fast_forward(self, branch: str, old: str, commit: str, begin: Callable[[], None]) -> list[str]:
        """Move the branch that is checked out from ``old`` on, files and all; return those that stand in the way.

        ``begin`` is called before the first file is touched.
        `git merge` reads the index before it locks it, and HEAD long before it moves it: what a person adds or
        commits in between, it takes out again. Here the branch is locked first, and all is read under its lock.
        """
        git_dir = self.git_directory()
        begun = [name for name in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD") if (git_dir / name).exists()]
        if begun:
            raise GitError(("merge",), 128, f"fatal: '{begun[0]}' exists: a merge or pick of yours is not concluded")
        self._require_index()
        with locked_refs(git_dir, f"update HEAD {commit} {old}") as move:
            if self.path not in present_worktrees_on(self.repository, branch):
                raise GitError(("merge",), 128, f"fatal: '{branch}' is not checked out any more")
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
        """Return what is a person's where the commit differs, and git would overwrite or delete without a word.

        That are files where it has something new, ignored ones as well; repositories where it has a file; a link in
        place of a directory; and files that are not there, as they were removed, which git takes for untouched.
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
        """Tell whether something of a person's in a place would be lost to what is to be there."""
        place = self.path / path
        is_directory = place.is_dir() and not place.is_symlink()
        if is_directory:
            return not entry.is_directory and not entry.is_link and self._holds_others(path)
        if not os.path.lexists(place):
            return False
        if known is None or known.is_directory:
            return True
        # of a file in the index git would ask for itself
        return entry.is_directory and not self._git("--literal-pathspecs", "ls-files", "-z", "--", path)[1]

    def _require_index(self) -> None:
        """Raise GitError where there is no index: git would take it for a new checkout, and write every file."""
        if not (self.git_directory() / "index").exists():
            raise GitError(("merge",), 128, "fatal: it has no index; 'git reset' makes one, and leaves the files alone")

    def _holds_others(self, path: str) -> bool:
        """Tell whether there is more in a directory than the index has: what git does not know, and repositories."""
        place = ("--literal-pathspecs", "ls-files", "-z")
        if self._git(*place, "--others", "--", path)[1]:
            return True
        items = self._git(*place, "--stage", "--", path)[1].split(b"\0")
        links = [os.fsdecode(item.partition(b"\t")[2]) for item in items if item.startswith(b"160000 ")]
        return any(place.is_dir() and any(place.iterdir()) for place in (self.path / link for link in links))

    def _removed(self) -> set[str]:
        """Return the files that are missing, those left out that a sparse checkout does not have."""
        return {os.fsdecode(name) for name in self._git("ls-files", "--deleted", "-z")[1].split(b"\0") if name}

    def _read_tree(self, old: str, commit: str) -> tuple[int, str]:
        """Bring index and files from one commit to another; return git's status and what it said."""
        status, _, err = self._git(*WITH_INDEX, "read-tree", "-m", "-u", old, commit)
        return status, err

    def _read_tree_again(self, old: str, commit: str) -> tuple[int, str]:
        """Do the same, and once more where the index may only not know of a file that it is as it was."""
        status, err = self._read_tree(old, commit)
        if status and classify(err, status) is ErrorKind.DIRTY:
            self._git(*WITH_INDEX, "update-index", "-q", "--refresh")  # a file that was only touched is no edit
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
        """Return the git directory of this working tree alone."""
        main = self.path == self.repository.root
        return self.repository.common_dir if main else Worktree(self.repository, self.path).directory()

    def undo(self, old: str, commit: str, since: int) -> bool:
        """Take back what a fast-forward from ``old`` has written that was killed or failed, and tell whether it had.

        That is what the commit says, and was written ``since`` (nanoseconds); anything else is a person's. Raises
        GitError while the index is locked.
        """
        # where all was written but the branch not moved; edits that are in the way stay
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
        if before:  # from the index, which a fast-forward writes when all files are there
            self._git("checkout-index", "--quiet", "-z", "--stdin", data=before)
        return bool(written)

    def _ignored(self, files: set[str]) -> set[str]:
        """Return those of some files that git ignores, and so does not tell of: a commit may have them all the same."""
        data = b"".join(os.fsencode(path) + b"\0" for path in files)
        found = self._git("check-ignore", "-z", "--stdin", data=data)[1].split(b"\0")
        return {os.fsdecode(path) for path in found if path}

    def _is_written(self, path: str, commit: str, since: int) -> bool:
        """Tell whether a file is what git was writing of a commit, be it half; one that is gone was to be written."""
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
        """Bring it from ``old`` to ``new``; False, and nothing changed, when something of its person is in the way."""
        with suppress(GitError):
            self._require_index()
            return not self._in_the_way(old, new) and self._read_tree_again(old, new)[0] == 0
        return False

    def bring(self, old: str, new: str, since: int, *, was_killed: bool) -> bool:
        """Do as `follow`, and leave nothing half written where a git was killed or has failed at it ``since``.

        Raises GitError while the index is locked; a git that ``was_killed`` has left its lock, which is removed.
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
        """Tell whether the index is where it was to be brought; it is written when all files are there."""
        status, out, _ = self._git("diff-index", "--cached", "--name-only", "--no-renames", "-z", new)
        names = {os.fsdecode(name) for name in out.split(b"\0")}
        return status == 0 and names.isdisjoint(self.repository.diff_names(old, new))

    def can_follow(self, old: str, new: str) -> bool:
        """Tell whether `follow` would work, without changing anything; GitError where it is not edits that stop it."""
        self._require_index()
        if self._in_the_way(old, new):
            return False
        status, _, err = self._git("read-tree", "--dry-run", "-m", "-u", old, new)
        failure = GitError(("read-tree",), status, err)
        if failure.is_index_locked:
            raise failure
        return status == 0

    def _git(self, *argv: str, data: bytes = b"") -> tuple[int, bytes, str]:
        # a working tree that core.worktree names may know nothing of its repository
        where = () if (self.path / ".git").exists() else ("--git-dir", str(self.repository.common_dir))
        return run_git(*where, *argv, cwd=self.path, data=data, accept=(0, 1, 2, 128))
