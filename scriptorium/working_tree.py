"""What git does in a working tree: in one of ours, that an agent can write to, and in a checkout of the user's."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from scriptorium.errors import is_wanting
from scriptorium.git import GitError, lines_of, locked_refs, run
from scriptorium.repository import Repository, TreeEntry

WITH_INDEX = ("-c", "core.fsync=committed,reference,index")
"""Where the index is a person's, and nobody makes it anew."""

# 'dirty': git would start itself inside of each submodule, with the configuration that it finds there
STATUS = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty")

LINK = 0o160000.to_bytes(4)
"""The mode of a link to a commit of another repository, as the index has it."""

# of read-tree, when it has changed nothing
_IN_THE_WAY = re.compile(
    r"^error: (?:Entry|Updating|Untracked working tree file) '(.+?)' (?:would|not uptodate)", re.M | re.S
)

INDEX_LOCKED = re.compile(r"Unable to create '.*index\.lock': File exists")


def _link(file: Path) -> str:
    """Return what a .git file names; ValueError when it is none. A pipe in its place must not be waited for."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        text = os.fsdecode(os.read(descriptor, 8192)) if S_ISREG(os.fstat(descriptor).st_mode) else ""
    finally:
        os.close(descriptor)
    if not text.startswith("gitdir: "):
        raise ValueError(f"'{file}' names no git directory")
    return text.removeprefix("gitdir: ").strip()


def staged(index: bytes, raw: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield what an index says of each file: its mode; its id of ``raw`` bytes, flags and name (gitformat-index).

    Raises ValueError for what is none, or of a version that nobody knows yet.
    """
    try:
        version, count = struct.unpack(">4xII", index[:12])
        if version not in (2, 3, 4):
            raise ValueError(f"an index of version {version}")
        start = 12
        for _ in range(count):
            flags = start + 40 + raw
            name = flags + (4 if index[flags] & 0x40 else 2)
            if version == 4:  # a number is before it: how much of the name before to leave out
                while index[name] & 0x80:
                    name += 1
                name += 1
            end = index.index(0, name)
            yield index[start + 24 : start + 28], index[start + 40 : end]
            start = end + 1 if version == 4 else start + (end - start) // 8 * 8 + 8
    except (struct.error, IndexError) as error:
        raise ValueError("no index, or a part of one") from error


class Change(NamedTuple):
    """A path that differs from HEAD; ``code`` is how, first in the index and then in the files (git-status)."""

    code: str
    path: str
    """With a slash at its end for a repository that lies there."""

    @property
    def is_gone(self) -> bool:
        """Whether the file was removed, and nobody else has changed it."""
        return self.code[1] == "D" and self.code[0] != "U"

    @property
    def is_unmerged(self) -> bool:
        """Whether a merge has left it to be resolved."""
        return "U" in self.code or self.code in ("AA", "DD")


def _changes(status: bytes) -> list[Change]:
    items = [item for item in status.split(b"\0") if item]
    return [Change(item[:2].decode(), os.fsdecode(item[3:])) for item in items]


@dataclass(frozen=True)
class WorkingTree:
    """A linked worktree of ours, whatever an agent writes into its .git file."""

    repository: Repository
    path: Path

    def directory(self) -> Path:
        """Return the git directory; raises GitError when this is no linked worktree of the repository.

        An agent can write anything into the .git file: another repository, whose configuration names programs
        to run and a working tree to reset. So file and repository must name each other.
        """
        try:
            directory = (self.path / _link(self.path / ".git")).resolve()
            back = directory / os.fsdecode((directory / "gitdir").read_bytes()).strip()
            # links on the way count as what they lead to, as for git: on macOS /tmp is one
            ours = directory.parent.samefile(self.repository.common_dir / "worktrees")
            # one in place of the worktree itself would lead to somebody else's
            if ours and not self.path.is_symlink() and back.samefile(self.path / ".git"):
                return directory
        except (OSError, ValueError, RuntimeError) as error:  # a RuntimeError is a circle of links
            if isinstance(error, OSError) and is_wanting(error):
                raise
        raise GitError(("status",), 128, f"fatal: '{self.path}' is not a worktree of '{self.repository.root}'")

    def find_again(self) -> None:
        """Let its .git file lead to the repository again, where it leads nowhere since that was moved."""
        file = self.path / ".git"
        with suppress(OSError, ValueError):
            if (self.path / _link(file)).exists():
                return
            for directory in (self.repository.common_dir / "worktrees").glob("*"):
                if Path(os.fsdecode((directory / "gitdir").read_bytes().strip())) == file:
                    file.unlink()
                    file.write_text(f"gitdir: {directory}\n", errors="surrogateescape")

    def git(self, *argv: str, data: bytes = b"", accept: Container[int] = (0,)) -> tuple[int, bytes, str]:
        """Run git in here, and nowhere else."""
        place = ("--git-dir", str(self.directory()), "--work-tree", str(self.path))
        return run(*place, *argv, cwd=self.path, data=data, accept=accept)

    def head(self) -> tuple[str, str]:
        """Return (branch or '', commit); raises GitError when the worktree is broken."""
        out = lines_of(self.git("rev-parse", "HEAD", "--symbolic-full-name", "HEAD")[1])
        branch = out[1].removeprefix("refs/heads/") if out[1].startswith("refs/heads/") else ""
        return branch, out[0]

    def changes(self) -> list[Change]:
        """Return what differs from HEAD, ignored files left out."""
        return _changes(self.git(*STATUS)[1])

    def unhide(self) -> None:
        """Take the flags away that hide edits from us, set by an agent or by its git (core.ignoreStat).

        What is skipped and not there is left out of the worktree, as in a sparse checkout, and was not removed.
        """
        if not self._has_staged(lambda _, flags: flags[0] & 0x80 or (flags[0] & 0x40 and flags[2] & 0x40)):
            return
        lines = self.git("ls-files", "-v", "-z")[1].split(b"\0")
        assumed = [line[2:] for line in lines if line[:1].islower()]
        skipped = [line[2:] for line in lines if line[:1] in (b"S", b"s")]
        there = [name for name in skipped if os.path.lexists(self.path / os.fsdecode(name))]
        for option, names in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", there)):
            if names:
                self.git("update-index", option, "-z", "--stdin", data=b"\0".join(names) + b"\0")

    def _has_staged(self, fits: Callable[[bytes, bytes], object]) -> bool:
        """Tell whether one in the index fits, by its mode and flags; True as well where only git can tell."""
        directory, raw = self.directory(), len(self.repository.resolve("HEAD")) // 2 or 20
        try:
            files = staged((directory / "index").read_bytes(), raw)
            found = any(fits(mode, said[raw:]) for mode, said in files)
            return found or any(directory.glob("sharedindex.*"))  # a split index has a part of them there
        except (FileNotFoundError, ValueError):
            return True

    def read_index(self) -> None:
        """Make the index that of HEAD; the files stay as they are."""
        self.git("read-tree", "HEAD")

    def _stage(self, changes: Iterable[Change]) -> None:
        """Put changes into the index, untracked files as well; `git add` would run git in submodules."""
        pending = [change for change in changes if change.code[1] != " "]  # else the index has it already
        gone = [change for change in pending if change.is_gone]
        there = [change for change in pending if not change.is_gone]
        # what is gone first, and by name alone, as its directory may have become a link
        for some, options in ((gone, ["--force-remove"]), (there, ["--add", "--remove", "--replace"])):
            if some:
                paths = b"".join(os.fsencode(change.path.rstrip("/")) + b"\0" for change in some)
                self.git("update-index", *options, "-z", "--stdin", data=paths)

    def commit(self, changes: Iterable[Change], message: str) -> None:
        """Commit changes, and what was staged before."""
        self._stage(changes)
        argv = ("commit", "--quiet", "--no-verify", "--allow-empty", "--file", "-")  # a title can be longer than a word
        self.git(*argv, data=message.encode(errors="surrogateescape"))

    def snapshot(self, changes: Iterable[Change], parent: str, message: str) -> str:
        """Return a commit of changes, and what was staged before; HEAD stays where it is."""
        self._stage(changes)
        tree = self.git("write-tree")[1].decode().strip()
        return self.git("commit-tree", tree, "-p", parent, "-m", message)[1].decode().strip()

    def merge(self, commit: str, message: str, *, undo: bool = True) -> list[str]:
        """Merge a commit into the branch; return the conflicting paths, the merge undone then if asked."""
        strange = self._strange_links()
        if strange:  # git looks for changes inside of submodules before it merges
            raise GitError(("merge",), 128, f"fatal: '{strange[0]}' is a repository of its own")
        status, _, err = self.git(
            "merge", "--quiet", "--no-edit", "--no-stat", "--no-verify", "-m", message, commit,
            accept=(0, 1, 2, 128),
        )  # fmt: skip
        if status == 0:
            return []
        failure = GitError(("merge",), status, err)
        conflicts = [] if failure.system else [change.path for change in self.changes() if change.is_unmerged]
        if undo or not conflicts:
            self._abort_merge()
        if not conflicts:
            raise failure
        return conflicts

    def _abort_merge(self) -> None:
        """Undo a merge, if one was begun; one that is half undone would pass for its resolution, files missing."""
        status, _, err = self.git("merge", "--abort", accept=range(129))
        if status and (self.directory() / "MERGE_HEAD").exists():
            failure = GitError(("merge", "--abort"), status, err)
            failure.system = True
            raise failure

    def _strange_links(self) -> list[str]:
        """Return the links to commits whose repository lies elsewhere than in ours, as git has it."""
        if not self._has_staged(lambda mode, _: mode == LINK):
            return []
        out = self.git("ls-files", "--stage", "-z")[1].split(b"\0")
        links = [os.fsdecode(item.partition(b"\t")[2]) for item in out if item.startswith(b"160000 ")]
        places = {link: self.path / link for link in links}
        return [link for link, place in places.items() if (place / ".git").exists() and not self._submodule(place)]

    def _submodule(self, path: Path) -> Path | None:
        """Return the git directory of a submodule, where that lies within ours; an agent's own is what it says."""
        try:
            directory = (path / _link(path / ".git")).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return directory if directory.is_relative_to(self.repository.common_dir.resolve()) else None

    def unpushed(self, links: Mapping[str, str]) -> list[str]:
        """Return the links whose commit no remote knows: it goes with the worktree."""
        found = []
        for path, commit in links.items():
            if not (self.path / path / ".git").exists():
                continue
            argv = ("for-each-ref", "--count=1", "--contains", commit, "refs/remotes", "refs/tags")
            directory = self._submodule(self.path / path)
            if directory is None or not run("--git-dir", str(directory), *argv)[1]:
                found.append(path)
        return found

    def reset(self, commit: str) -> None:
        """Make it exactly a commit, untracked files gone, ignored ones kept."""
        self.git("reset", "--quiet", "--hard", commit)
        self.git("clean", "--quiet", "-ffd")

    def reset_detached(self, commit: str) -> None:
        """Do the same with HEAD detached first, so that a branch which somebody checked out there stays."""
        self.git("update-ref", "--no-deref", "HEAD", commit)
        self.reset(commit)

    def take_back(self, commit: str) -> None:
        """Undo the commits of the branch that another commit does not contain; their changes stay, staged."""
        base = self.git("merge-base", "HEAD", commit)[1].decode().strip()
        self.git("reset", "--quiet", "--soft", base)


@dataclass(frozen=True)
class Checkout:
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
        with locked_refs(git_dir, f"update HEAD {commit} {old}") as move:
            if self.path not in self.repository.checkouts(branch):
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
        if known and known.is_directory and entry.is_directory:
            return place.is_symlink()
        if is_directory and not entry.is_directory and not entry.is_link:
            return self._holds_others(path)
        return not is_directory and (known is None or known.is_directory) and os.path.lexists(place)

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

    def _move_files(self, old: str, commit: str) -> list[str]:
        status, err = self._read_tree(old, commit)
        if status and _IN_THE_WAY.search(err):
            self._git(*WITH_INDEX, "update-index", "-q", "--refresh")  # a file that was only touched is no edit
            status, err = self._read_tree(old, commit)
        if status == 0:
            return []
        told = _IN_THE_WAY.findall(err)  # git names the first alone
        if not told:
            raise GitError(("merge",), status, err)
        files = set(self.repository.diff_names(old, commit))
        edited = [change.path for change in _changes(self._git(*STATUS)[1]) if change.path in files]
        return sorted({*told, *edited})

    def git_directory(self) -> Path:
        """Return the git directory of this working tree alone."""
        main = self.path == self.repository.root
        return self.repository.common_dir if main else WorkingTree(self.repository, self.path).directory()

    def undo(self, old: str, commit: str, since: int) -> bool:
        """Take back what a fast-forward from ``old`` has written that was killed or failed, and tell whether it had.

        That is what the commit says, and was written ``since`` (nanoseconds); anything else is a person's. Raises
        GitError while the index is locked.
        """
        # where all was written but the branch not moved; edits that are in the way stay
        status, err = self._read_tree(commit, old)
        if status and INDEX_LOCKED.search(err):
            raise GitError(("read-tree",), status, err)
        files = set(self.repository.diff_names(old, commit))
        pending = [change.path for change in _changes(self._git(*STATUS)[1]) if change.code[1] != " "]
        written = [path for path in pending if path in files and self._is_written(path, commit, since)]
        for path in written:
            (self.path / path).unlink(missing_ok=True)
        before = b"".join(os.fsencode(path) + b"\0" for path in written if self.repository.blob(old, path))
        if before:  # from the index, which a fast-forward writes when all files are there
            self._git("checkout-index", "--quiet", "-z", "--stdin", data=before)
        return bool(written)

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
        return not self._in_the_way(old, new) and self._read_tree(old, new)[0] == 0

    def could_follow(self, old: str, new: str) -> bool:
        """Tell whether `follow` would work, without changing anything."""
        return not self._in_the_way(old, new) and self._git("read-tree", "--dry-run", "-m", "-u", old, new)[0] == 0

    def _git(self, *argv: str, data: bytes = b"") -> tuple[int, bytes, str]:
        # a working tree that core.worktree names may know nothing of its repository
        where = () if (self.path / ".git").exists() else ("--git-dir", str(self.repository.common_dir))
        return run(*where, *argv, cwd=self.path, data=data, accept=(0, 1, 2, 128))
