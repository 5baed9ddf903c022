"""A repository: its objects, refs and history.

This package alone knows git's command lines; the others deal with commits, refs and worktrees.
Sources: git-fast-import(1), git-update-ref(1), gitrepository-layout(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scriptorium.errors import ExitCode, ScriptoriumError, is_resource_error
from scriptorium.git.command import check_version, lines_of, query_git, run_git
from scriptorium.git.discovery import main_worktree, note_root
from scriptorium.git.errors import ErrorKind, GitError
from scriptorium.git.objects import Commit, Difference, ObjectReader, Tree, TreeEntry

MAX_SYMREFS = 5
"""Symbolic refs that git follows in a row."""

MAX_TREE_ENTRIES = 15_000
"""Tree entries that are cached; some 300 bytes each."""


class RefUpdate(NamedTuple):
    """A compare-and-swap of one ref; ``new`` empty deletes it, ``old`` all zeros creates it."""

    ref: str
    new: str
    old: str


@dataclass
class Repository:
    """A repository with at least one worktree."""

    common_dir: Path
    """The absolute path of the git directory that all worktrees share."""
    root: Path
    """The path of the main worktree, or its place if the repository is bare."""
    is_bare: bool = False
    """Whether there are linked worktrees only."""
    objects: ObjectReader = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.objects = ObjectReader(self.common_dir)
        self._trees: dict[str, Tree] = {}

    @classmethod
    def discover(cls, start: Path) -> Repository:
        """Find the repository of ``start``, which is any directory of any of its worktrees."""
        if not start.is_dir():
            raise ScriptoriumError(f"'{start}' is not a directory", "name a directory inside a git repository")
        start = start.resolve()
        check_version()
        status, out, err = query_git(
            "-C", str(start), "rev-parse", "--path-format=absolute", "--is-bare-repository", "--git-common-dir",
            "--git-dir", "--show-toplevel", accept=(0, 128),
        )  # fmt: skip
        lines = lines_of(out)
        if lines[:1] == ["true"]:
            raise ScriptoriumError(f"'{start}' is a bare repository", "run scriptorium in a clone of it")
        if status and len(lines) >= 2:
            raise ScriptoriumError(f"'{start}' is inside a git directory", "go to the working tree")
        if status:
            failure = GitError(("rev-parse",), status, err)
            if failure.kind is not ErrorKind.NOT_A_REPOSITORY:
                raise failure
            raise ScriptoriumError(f"'{start}' is not a git repository", "run 'git init' there first")
        if len(lines) != 4:
            raise ScriptoriumError(f"the path '{start}' contains a line break", "move it to a path without one")
        common, git_dir, toplevel = (Path(line) for line in lines[1:])
        if git_dir != common:
            return cls(common, *main_worktree(common))
        # for core.worktree, a submodule, or --separate-git-dir, git is right, except in a linked worktree
        if toplevel / ".git" != common:
            note_root(common, toplevel)
        return cls(common, toplevel)

    def git(self, *argv: str, data: bytes = b"", accept: Container[int] = (0,)) -> tuple[int, bytes, str]:
        """Run git on the repository, in no worktree."""
        return run_git("--git-dir", str(self.common_dir), *argv, data=data, accept=accept)

    # -- objects and refs ---------------------------------------------------------------------------

    def resolve(self, name: str) -> str:
        """Return the object id of a ref or revision, or '' if there is none."""
        found = self.objects.read(name)
        return found.oid if found else ""

    def tree_of(self, commit: str) -> str:
        """Return the tree id of a commit."""
        found = self.objects.read(commit)
        if found is None or found.kind != "commit":
            raise ScriptoriumError(f"'{commit}' is not a commit")
        return found.data[5 : found.data.index(b"\n")].decode()

    def history(self, commit: str) -> Iterator[Commit]:
        """Yield a commit and its first parents, the newest first."""
        while found := self.objects.read(commit) if commit else None:
            head, _, message = found.data.decode(errors="surrogateescape").partition("\n\n")
            parents = tuple(re.findall(r"^parent (\w+)$", head, re.MULTILINE))
            committer = re.search(r"^committer (.*)$", head, re.MULTILINE)
            yield Commit(found.oid, parents, committer[1] if committer else "", message)
            commit = parents[0] if parents else ""

    def tree(self, oid: str) -> Tree:
        """Return the entries of one tree by name, in git's order."""
        if oid not in self._trees:
            if sum(map(len, self._trees.values())) > MAX_TREE_ENTRIES:
                self._trees.clear()
            self._trees[oid] = self._read_tree(oid)
        return self._trees[oid]

    def _read_tree(self, oid: str) -> Tree:
        found = self.objects.read(oid)
        if found is None or found.kind != "tree":
            raise ScriptoriumError(f"'{oid}' is not a tree")
        # "<mode> <name>\0<raw id>"; the id has 20 bytes for SHA-1, 32 for SHA-256
        pattern = rb"(\d+) ([^\0]+)\0(.{%d})" % (len(found.oid) // 2)
        lines = re.findall(pattern, found.data, re.DOTALL)
        names = os.fsdecode(b"\0".join(name for _, name, _ in lines)).split("\0")  # one call is twice as fast
        entries = zip(names, lines, strict=False)  # an empty tree still splits into one name
        return Tree((name, TreeEntry(mode.decode(), name, raw.hex())) for name, (mode, _, raw) in entries)

    def entry(self, commit: str, path: str) -> TreeEntry | None:
        """Return the entry of a commit at a path, which may contain any byte, or None."""
        *directories, name = path.split("/")
        tree = self.tree(self.tree_of(commit))
        for directory in directories:
            entry = tree.get(directory)
            tree = self.tree(entry.oid) if entry and entry.is_directory else Tree()
        return tree.get(name)

    def blob(self, commit: str, path: str) -> str:
        """Return the object id of the file of a commit at a path, or ''."""
        entry = self.entry(commit, path)
        return entry.oid if entry and not (entry.is_directory or entry.is_link) else ""

    def differences(self, old: str, new: str, prefix: str = "") -> Iterator[Difference]:
        """Yield the paths at which two trees differ, a directory before its entries. '' is the empty tree.

        No process is started.
        """
        before = self.tree(old) if old else Tree()
        after = self.tree(new) if new else Tree()
        for name in sorted(name for name in {**before, **after} if before.get(name) != after.get(name)):
            known, entry = before.get(name), after.get(name)
            yield Difference(f"{prefix}{name}", known, entry)
            first, second = (found.oid if found and found.is_directory else "" for found in (known, entry))
            if first or second:
                yield from self.differences(first, second, f"{prefix}{name}/")

    def default_branch(self) -> str:
        """Return the landing branch: ``master``, else the default of a remote, ``main``, or the branch of HEAD."""
        if self.resolve("refs/heads/master"):
            return "master"
        git_dir = ("--git-dir", str(self.common_dir))
        _, out, _ = query_git(*git_dir, "for-each-ref", "--format=%(symref:lstrip=3)", "refs/remotes/*/HEAD")
        for name in (*lines_of(out), "main"):
            if name and self.resolve(f"refs/heads/{name}"):
                return name
        head = next(
            iter(lines_of(query_git(*git_dir, "symbolic-ref", "--quiet", "--short", "HEAD", accept=(0, 1))[1])), ""
        )
        # work does not land on a ticket branch that the user has checked out to look at
        if (not head or head.startswith("scriptorium/")) and self.resolve("HEAD"):
            raise ScriptoriumError(
                f"cannot determine on which branch of '{self.root}' work lands",
                "check it out, or name it as 'branch' in 'scriptorium.json'",
                ExitCode.CONFIG,
            )
        if not self.resolve(f"refs/heads/{head}"):
            raise ScriptoriumError(f"'{self.root}' has no commits", "create a first commit, then try again")
        return head

    def resolve_branch(self, branch: str) -> str:
        """Return the branch that a symbolic ref stands for (git-symbolic-ref), or the branch itself."""
        for _ in range(MAX_SYMREFS):
            try:
                text = (self.common_dir / "refs" / "heads" / branch).read_text(errors="surrogateescape")
            except OSError as error:
                if is_resource_error(error):
                    raise
                break
            if not text.startswith("ref: refs/heads/"):
                break
            branch = text.removeprefix("ref: refs/heads/").strip()
        return branch

    def hooks_path(self, start: Path) -> tuple[str, str]:
        """Return (configuration level, value) of core.hooksPath for a directory; two empty strings if it is unset."""
        out = run_git(
            "-C", str(start), "config", "--null", "--show-scope", "--type=path", "--get-all", "core.hooksPath",
            accept=(0, 1),
        )[1]  # fmt: skip
        words = [os.fsdecode(word) for word in out.split(b"\0")]
        found = [("", ""), *zip(words[::2], words[1::2], strict=False)]
        return [(level, value) for level, value in found if level != "command"][-1]  # our own SETTINGS

    def update_refs(self, *updates: RefUpdate) -> bool:
        """Update all the refs or none. Returns False if a ref is locked or not at its old value."""
        # 'create' needs no zero id, whose length depends on the repository's hash
        lines = [
            (f"update {u.ref} {u.new} {u.old}" if u.old.strip("0") else f"create {u.ref} {u.new}")
            if u.new
            else f"delete {u.ref} {u.old}"
            for u in updates
        ]
        stream = os.fsencode("\n".join(["start", *lines, "commit", ""]))
        # the reason appears in the reflog, where users find out what moved a branch
        status, _, err = run_git(
            "--git-dir", str(self.common_dir), "update-ref", "-m", "scriptorium", "--stdin",
            data=stream, accept=(0, 128),
        )  # fmt: skip
        failure = GitError(("update-ref",), status, err)
        if status and failure.kind is not ErrorKind.CONTENTION:
            raise failure
        return status == 0

    def ref_lock(self, ref: str) -> Path | None:
        """Return the lock file of a ref, or None if it is not locked."""
        lock = self.common_dir / f"{ref}.lock"
        return lock if lock.exists() else None

    def fast_import(self, stream: bytes) -> str | None:
        """Run fast-import and return its output (get-mark), or None if a ref is locked or has moved."""
        status, out, err = run_git(
            "--git-dir", str(self.common_dir), "fast-import", "--quiet", "--done", data=stream, accept=range(129)
        )
        if status == 0:
            return out.decode().strip()
        crash = re.search(r"fast_import_crash_\d+", err)
        if crash:
            (self.common_dir / crash[0]).unlink(missing_ok=True)
        failure = GitError(("fast-import",), status, err)
        if failure.kind is not ErrorKind.CONTENTION:
            raise failure
        return None

    def pack_when_due(self) -> None:
        """Let git pack loose objects in the background if the user's settings demand it.

        `git maintenance run --auto` would run in the foreground since 2.47.
        """
        self.git("gc", "--auto", "--quiet", accept=range(256))  # errors are in gc.log

    def log(self, *argv: str) -> str:
        """Return the output of `git log`."""
        return self.git("log", "--no-color", *argv)[1].decode(errors="replace")

    def is_ancestor(self, old: str, new: str) -> bool:
        """Return whether ``new`` contains ``old``."""
        return old == new or self.git("merge-base", "--is-ancestor", old, new, accept=(0, 1))[0] == 0

    def refs(self, prefix: str) -> dict[str, str]:
        """Return the refs below a prefix with their object ids."""
        out = self.git("for-each-ref", "--format=%(objectname) %(refname)", prefix)[1]
        return {ref: oid for oid, ref in (line.split(" ", 1) for line in lines_of(out))}

    def branches_not_in(self, commit: str, prefix: str) -> list[str]:
        """Return the branches with a prefix that are not merged into ``commit``."""
        out = self.git("for-each-ref", "--format=%(refname:lstrip=2)", f"--no-merged={commit}", f"refs/heads/{prefix}*")
        return lines_of(out[1])

    def patches(self, old: str, new: str) -> bytes:
        """Return messages, modes and patches of the commits in ``old..new``.

        Patches have no context. A merge contributes only its differences from all parents. Huge files count as binary.
        """
        form = "--format=commit %H%n%w(0,1,1)%B"  # indented, since a message may look like a patch
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-notes", "--no-show-signature")
        links = ("--submodule=short", "--ignore-submodules=none")
        shape = ("--raw", "--patch", "--cc", "--unified=0", *links, "--src-prefix=a/", "--dst-prefix=b/")
        return self.git("-c", "core.bigFileThreshold=16m", "log", form, *plain, *shape, f"{old}..{new}")[1]

    def holds(self, commit: str, text: str) -> bool:
        """Return whether any file of a commit contains a text."""
        pattern = text.partition("\n")[0].encode(errors="surrogateescape")  # other users can see arguments
        return self.git("grep", "--quiet", "--fixed-strings", "-f", "-", commit, data=pattern, accept=(0, 1))[0] == 0

    def changed_gitlinks(self, old: str, new: str) -> dict[str, str]:
        """Return the gitlinks that ``new`` adds or changes: path to commit."""
        out = self.git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", old, new)[1].split(b"\0")
        pairs = zip(out[::2], out[1::2], strict=False)
        return {os.fsdecode(path): facts.split()[3].decode() for facts, path in pairs if facts[8:14] == b"160000"}

    def links(self, commit: str) -> dict[str, str]:
        """Return all gitlinks of a commit: path to commit."""
        lines = (line.split(b"\t", 1) for line in self.git("ls-tree", "-r", "-z", commit)[1].split(b"\0") if line)
        return {os.fsdecode(path): facts.split()[2].decode() for facts, path in lines if facts[:6] == b"160000"}

    def embedded_repositories(self, commit: str, links: Mapping[str, str]) -> list[str]:
        """Return the gitlinks of a commit that are no submodules, so that no remote is known for their files."""
        if not links:
            return []
        argv = ("config", "--null", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"^submodule\..*\.path$")
        named = {os.fsdecode(line.partition(b"\n")[2]) for line in self.git(*argv, accept=(0, 1, 128))[1].split(b"\0")}
        return [path for path in links if path not in named]

    def diff_names(self, old: str, new: str) -> list[str]:
        """Return the paths of the files that differ between two commits."""
        found = self.differences(self.tree_of(old), self.tree_of(new))
        return [path for path, *entries in found if any(entry and not entry.is_directory for entry in entries)]
