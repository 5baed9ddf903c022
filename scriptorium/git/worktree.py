"""A linked worktree of our own, which an agent can write to and which therefore cannot be trusted."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scriptorium.errors import is_resource_error
from scriptorium.git.command import lines_of, run_git
from scriptorium.git.discovery import gitfile
from scriptorium.git.environment import options_for
from scriptorium.git.errors import ErrorKind, GitError
from scriptorium.git.index import GITLINK, index_entries
from scriptorium.git.repository import Repository
from scriptorium.git.worktree_list import is_half_made

# 'dirty': otherwise git runs inside each submodule, with the configuration that it finds there
STATUS = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty")


class FileChange(NamedTuple):
    """A path that differs from HEAD; ``code`` has a letter for the index and one for the file (git-status)."""

    code: str
    path: str
    """It ends with a slash if it is a repository."""

    @property
    def is_gone(self) -> bool:
        """Whether the file was removed, without a conflict."""
        return self.code[1] == "D" and self.code[0] != "U"

    @property
    def is_unmerged(self) -> bool:
        """Whether it is an unresolved conflict."""
        return "U" in self.code or self.code in ("AA", "DD")


def parse_status(status: bytes) -> list[FileChange]:
    """Parse the output of `git status`, called with `STATUS`."""
    items = [item for item in status.split(b"\0") if item]
    return [FileChange(item[:2].decode(), os.fsdecode(item[3:])) for item in items]


@dataclass(frozen=True)
class Worktree:
    """A linked worktree of our own; no call leaves it, whatever an agent writes into its .git file."""

    repository: Repository
    path: Path

    def directory(self) -> Path:
        """Return the git directory. Raises GitError if this is no linked worktree of the repository.

        An agent can let the .git file name another repository, whose configuration names programs to run and a
        worktree to reset. So the .git file and the repository must name each other.
        """
        try:
            directory = (self.path / gitfile(self.path / ".git")).resolve()
            back = directory / os.fsdecode((directory / "gitdir").read_bytes()).strip()
            # symbolic links in the path are followed, as git does: on macOS /tmp is one
            ours = directory.parent.samefile(self.repository.common_dir / "worktrees")
            # but a symbolic link in place of the worktree would lead to another one
            if ours and not self.path.is_symlink() and back.samefile(self.path / ".git"):
                return directory
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a cycle of symbolic links
            if isinstance(error, OSError) and is_resource_error(error):
                raise
        raise GitError(("status",), 128, f"fatal: '{self.path}' is not a worktree of '{self.repository.root}'")

    def is_on_branch(self, branch: str) -> bool:
        """Return whether this is a complete worktree with a branch checked out.

        Each ticket needs this several times, so it reads git's files instead of starting git (gitrepository-layout).
        """
        try:
            git_dir = self.directory()
            head = (git_dir / "HEAD").read_bytes().strip()
            whole = (git_dir / "commondir").exists() and not is_half_made(git_dir)
            return whole and head == os.fsencode(f"ref: refs/heads/{branch}")
        except (GitError, OSError) as error:
            if isinstance(error, OSError) and is_resource_error(error):
                raise
            return False

    def is_merging(self) -> bool:
        """Return whether a merge is in progress."""
        return (self.directory() / "MERGE_HEAD").exists()

    def repair_gitfile(self) -> None:
        """Rewrite the .git file if it leads nowhere because the repository has moved."""
        file = self.path / ".git"
        with suppress(OSError, ValueError):
            if (self.path / gitfile(file)).exists():
                return
            for directory in (self.repository.common_dir / "worktrees").glob("*"):
                if Path(os.fsdecode((directory / "gitdir").read_bytes().strip())) == file:
                    file.unlink()
                    file.write_text(f"gitdir: {directory}\n", errors="surrogateescape")

    def git(self, *argv: str, data: bytes = b"", accept: Container[int] = (0,)) -> tuple[int, bytes, str]:
        """Run git in this worktree."""
        place = ("--git-dir", str(self.directory()), "--work-tree", str(self.path))
        return run_git(*place, *options_for(self.path), *argv, cwd=self.path, data=data, accept=accept)

    def head(self) -> tuple[str, str]:
        """Return (branch or '', commit). Raises GitError if the worktree is broken."""
        out = lines_of(self.git("rev-parse", "HEAD", "--symbolic-full-name", "HEAD")[1])
        branch = out[1].removeprefix("refs/heads/") if out[1].startswith("refs/heads/") else ""
        return branch, out[0]

    def changes(self) -> list[FileChange]:
        """Return the paths that differ from HEAD, without ignored files."""
        return parse_status(self.git(*STATUS)[1])

    def may_hide_edits(self) -> bool:
        """Return whether a flag of an index entry may hide an edit; True if the index cannot be parsed."""
        return self._has_staged(lambda _, flags: flags[0] & 0x80 or (flags[0] & 0x40 and flags[2] & 0x40))

    def clear_hiding_flags(self) -> None:
        """Clear the flags that hide edits, set by an agent or by its git (core.ignoreStat).

        Restores skipped files, as in a sparse checkout: the gate must run with all files of the tree.
        """
        if not self.may_hide_edits():
            return
        lines = self.git("ls-files", "-v", "-z")[1].split(b"\0")
        assumed = [line[2:] for line in lines if line[:1].islower()]
        skipped = [line[2:] for line in lines if line[:1] in (b"S", b"s")]
        gone = [name for name in skipped if not os.path.lexists(self.path / os.fsdecode(name))]
        for option, names in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
            if names:
                self.git("update-index", option, "-z", "--stdin", data=b"\0".join(names) + b"\0")
        if gone:
            self._put_back(gone)

    def _put_back(self, names: list[bytes]) -> None:
        """Check out missing files. A file counts as removed if something else is in its place."""
        argv = ("checkout-index", "--quiet", "-z", "--stdin")
        status, _, err = self.git(*argv, data=b"\0".join(names) + b"\0", accept=(0, 1, 128))
        failure = GitError(argv, status, err)
        if status and failure.system:
            raise failure

    def _has_staged(self, fits: Callable[[bytes, bytes], object]) -> bool:
        """Return whether an index entry has a certain mode or flags; True if the index cannot be parsed."""
        directory, raw = self.directory(), len(self.repository.resolve("HEAD")) // 2 or 20
        try:
            files = index_entries((directory / "index").read_bytes(), raw)
            found = any(fits(mode, said[raw:]) for mode, said in files)
            return found or any(directory.glob("sharedindex.*"))  # a split index has some entries there
        except (FileNotFoundError, ValueError):
            return True

    def read_index(self) -> None:
        """Reset the index to HEAD; no file changes."""
        self.git("read-tree", "HEAD")

    def _stage(self, changes: Iterable[FileChange]) -> None:
        """Stage changes, including untracked files. `git add` would run git in submodules."""
        pending = [change for change in changes if change.code[1] != " "]  # otherwise it is staged already
        gone = [change for change in pending if change.is_gone]
        there = [change for change in pending if not change.is_gone]
        # removed files first, and by name alone, since their directory may now be a symbolic link
        for some, options in ((gone, ["--force-remove"]), (there, ["--add", "--remove", "--replace"])):
            if some:
                paths = b"".join(os.fsencode(change.path.rstrip("/")) + b"\0" for change in some)
                self.git("update-index", *options, "-z", "--stdin", data=paths)

    def commit(self, changes: Iterable[FileChange], message: str) -> None:
        """Commit changes together with the staged ones."""
        self._stage(changes)
        argv = (
            "commit",
            "--quiet",
            "--no-verify",
            "--allow-empty",
            "--file",
            "-",
        )  # a message may exceed an argument
        self.git(*argv, data=message.encode(errors="surrogateescape"))

    def snapshot(self, changes: Iterable[FileChange], parent: str, message: str) -> str:
        """Return a new commit of changes and the staged ones; HEAD does not move."""
        self._stage(changes)
        tree = self.git("write-tree")[1].decode().strip()
        return self.git("commit-tree", tree, "-p", parent, "-m", message)[1].decode().strip()

    def merge(self, commit: str, message: str, *, undo: bool = True) -> list[str]:
        """Merge a commit into the branch, and return the conflicting paths; with ``undo``, abort on conflicts."""
        strange = self._strange_links()
        if strange:  # before a merge, git runs inside submodules
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
        """Abort a merge if one is in progress.

        Raises GitError if that fails: a partly aborted merge would look like a resolution that removes files.
        """
        status, _, err = self.git("merge", "--abort", accept=range(129))
        if status and self.is_merging():
            raise GitError(("merge", "--abort"), status, err, ErrorKind.INTERRUPTED)

    def _strange_links(self) -> list[str]:
        """Return the gitlinks whose repository is not stored inside our git directory."""
        if not self._has_staged(lambda mode, _: mode == GITLINK):
            return []
        out = self.git("ls-files", "--stage", "-z")[1].split(b"\0")
        links = [os.fsdecode(item.partition(b"\t")[2]) for item in out if item.startswith(b"160000 ")]
        places = {link: self.path / link for link in links}
        return [link for link, place in places.items() if (place / ".git").exists() and not self._submodule(place)]

    def _submodule(self, path: Path) -> Path | None:
        """Return the git directory of a submodule if it is inside ours; an agent controls any other."""
        try:
            directory = (path / gitfile(path / ".git")).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return directory if directory.is_relative_to(self.repository.common_dir.resolve()) else None

    def unpushed_submodules(self, links: Mapping[str, str]) -> list[str]:
        """Return the gitlinks whose commit no remote has, so that it is lost with the worktree."""
        found = []
        for path, commit in links.items():
            if not (self.path / path / ".git").exists():
                continue
            argv = ("for-each-ref", "--count=1", "--contains", commit, "refs/remotes", "refs/tags")
            directory = self._submodule(self.path / path)
            if directory is None or not run_git("--git-dir", str(directory), *argv)[1]:
                found.append(path)
        return found

    def reset(self, commit: str) -> None:
        """Reset the worktree to a commit and remove untracked files; ignored files stay."""
        self.git("reset", "--quiet", "--hard", commit)
        self.git("clean", "--quiet", "-ffd")

    def reset_detached(self, commit: str) -> None:
        """Detach HEAD, then reset, so that a branch which somebody checked out here does not move."""
        self.git("update-ref", "--no-deref", "HEAD", commit)
        self.reset(commit)

    def take_back(self, commit: str) -> None:
        """Undo the commits of the branch that ``commit`` does not contain; their changes stay staged."""
        base = self.git("merge-base", "HEAD", commit)[1].decode().strip()
        self.git("reset", "--quiet", "--soft", base)
