"""What git does in a linked worktree of ours, that an agent can write to."""

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

# 'dirty': git would start itself inside of each submodule, with the configuration that it finds there
STATUS = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty")


class FileChange(NamedTuple):
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


def parse_status(status: bytes) -> list[FileChange]:
    """Return what `git status`, asked by `STATUS`, has told."""
    items = [item for item in status.split(b"\0") if item]
    return [FileChange(item[:2].decode(), os.fsdecode(item[3:])) for item in items]


@dataclass(frozen=True)
class Worktree:
    """A linked worktree of ours, whatever an agent writes into its .git file."""

    repository: Repository
    path: Path

    def directory(self) -> Path:
        """Return the git directory; raises GitError when this is no linked worktree of the repository.

        An agent can write anything into the .git file: another repository, whose configuration names programs
        to run and a working tree to reset. So file and repository must name each other.
        """
        try:
            directory = (self.path / gitfile(self.path / ".git")).resolve()
            back = directory / os.fsdecode((directory / "gitdir").read_bytes()).strip()
            # links on the way count as what they lead to, as for git: on macOS /tmp is one
            ours = directory.parent.samefile(self.repository.common_dir / "worktrees")
            # one in place of the worktree itself would lead to somebody else's
            if ours and not self.path.is_symlink() and back.samefile(self.path / ".git"):
                return directory
        except (OSError, ValueError, RuntimeError) as error:  # a RuntimeError is a circle of links
            if isinstance(error, OSError) and is_resource_error(error):
                raise
        raise GitError(("status",), 128, f"fatal: '{self.path}' is not a worktree of '{self.repository.root}'")

    def is_on_branch(self, branch: str) -> bool:
        """Tell whether this is our worktree with a branch checked out.

        Read from git's own files (gitrepository-layout), because it is asked several times a ticket.
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
        """Tell whether a merge was begun in it and not concluded."""
        return (self.directory() / "MERGE_HEAD").exists()

    def repair_gitfile(self) -> None:
        """Let its .git file lead to the repository again, where it leads nowhere since that was moved."""
        file = self.path / ".git"
        with suppress(OSError, ValueError):
            if (self.path / gitfile(file)).exists():
                return
            for directory in (self.repository.common_dir / "worktrees").glob("*"):
                if Path(os.fsdecode((directory / "gitdir").read_bytes().strip())) == file:
                    file.unlink()
                    file.write_text(f"gitdir: {directory}\n", errors="surrogateescape")

    def git(self, *argv: str, data: bytes = b"", accept: Container[int] = (0,)) -> tuple[int, bytes, str]:
        """Run git in here, and nowhere else."""
        place = ("--git-dir", str(self.directory()), "--work-tree", str(self.path))
        return run_git(*place, *options_for(self.path), *argv, cwd=self.path, data=data, accept=accept)

    def head(self) -> tuple[str, str]:
        """Return (branch or '', commit); raises GitError when the worktree is broken."""
        out = lines_of(self.git("rev-parse", "HEAD", "--symbolic-full-name", "HEAD")[1])
        branch = out[1].removeprefix("refs/heads/") if out[1].startswith("refs/heads/") else ""
        return branch, out[0]

    def changes(self) -> list[FileChange]:
        """Return what differs from HEAD, ignored files left out."""
        return parse_status(self.git(*STATUS)[1])

    def may_hide_edits(self) -> bool:
        """Tell whether a flag may hide an edit from us; it may as well where only git can tell."""
        return self._has_staged(lambda _, flags: flags[0] & 0x80 or (flags[0] & 0x40 and flags[2] & 0x40))

    def clear_hiding_flags(self) -> None:
        """Take the flags away that hide edits from us, set by an agent or by its git (core.ignoreStat).

        What is skipped and not there, as in a sparse checkout, was not removed and is put back: a gate that runs
        without it would answer for a tree that has it.
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
        """Check files out that are not there; those whose place something else has taken count as removed."""
        argv = ("checkout-index", "--quiet", "-z", "--stdin")
        status, _, err = self.git(*argv, data=b"\0".join(names) + b"\0", accept=(0, 1, 128))
        failure = GitError(argv, status, err)
        if status and failure.system:
            raise failure

    def _has_staged(self, fits: Callable[[bytes, bytes], object]) -> bool:
        """Tell whether one in the index fits, by its mode and flags; True as well where only git can tell."""
        directory, raw = self.directory(), len(self.repository.resolve("HEAD")) // 2 or 20
        try:
            files = index_entries((directory / "index").read_bytes(), raw)
            found = any(fits(mode, said[raw:]) for mode, said in files)
            return found or any(directory.glob("sharedindex.*"))  # a split index has a part of them there
        except (FileNotFoundError, ValueError):
            return True

    def read_index(self) -> None:
        """Make the index that of HEAD; the files stay as they are."""
        self.git("read-tree", "HEAD")

    def _stage(self, changes: Iterable[FileChange]) -> None:
        """Put changes into the index, untracked files as well; `git add` would run git in submodules."""
        pending = [change for change in changes if change.code[1] != " "]  # else the index has it already
        gone = [change for change in pending if change.is_gone]
        there = [change for change in pending if not change.is_gone]
        # what is gone first, and by name alone, as its directory may have become a link
        for some, options in ((gone, ["--force-remove"]), (there, ["--add", "--remove", "--replace"])):
            if some:
                paths = b"".join(os.fsencode(change.path.rstrip("/")) + b"\0" for change in some)
                self.git("update-index", *options, "-z", "--stdin", data=paths)

    def commit(self, changes: Iterable[FileChange], message: str) -> None:
        """Commit changes, and what was staged before."""
        self._stage(changes)
        argv = ("commit", "--quiet", "--no-verify", "--allow-empty", "--file", "-")  # a title can be longer than a word
        self.git(*argv, data=message.encode(errors="surrogateescape"))

    def snapshot(self, changes: Iterable[FileChange], parent: str, message: str) -> str:
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
        if status and self.is_merging():
            raise GitError(("merge", "--abort"), status, err, ErrorKind.INTERRUPTED)

    def _strange_links(self) -> list[str]:
        """Return the links to commits whose repository lies elsewhere than in ours, as git has it."""
        if not self._has_staged(lambda mode, _: mode == GITLINK):
            return []
        out = self.git("ls-files", "--stage", "-z")[1].split(b"\0")
        links = [os.fsdecode(item.partition(b"\t")[2]) for item in out if item.startswith(b"160000 ")]
        places = {link: self.path / link for link in links}
        return [link for link, place in places.items() if (place / ".git").exists() and not self._submodule(place)]

    def _submodule(self, path: Path) -> Path | None:
        """Return the git directory of a submodule, where that lies within ours; an agent's own is what it says."""
        try:
            directory = (path / gitfile(path / ".git")).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return directory if directory.is_relative_to(self.repository.common_dir.resolve()) else None

    def unpushed_submodules(self, links: Mapping[str, str]) -> list[str]:
        """Return the links whose commit no remote knows: it goes with the worktree."""
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
