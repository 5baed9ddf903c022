"""The one module that runs git.

Everything else speaks of commits, refs and worktrees; here they become command lines.
Object data is bytes, names are text. Sources: git-cat-file(1), git-fast-import(1),
git-update-ref(1), git-worktree(1), gitrepository-layout(5).
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from signal import SIGKILL
from stat import S_ISREG
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from time import time
from typing import Any, NamedTuple

from scriptorium import leftlocks
from scriptorium.errors import ExitCode, ScriptoriumError, is_wanting

MINIMUM = (2, 34)  # Ubuntu 22.04; everything used here is older still
IDENTITY = ("scriptorium", "scriptorium@localhost")

# What `git rev-parse --local-env-vars` lists. Inside a hook they name the hook's repository and
# beat -C and --git-dir, so they must not reach our git, nor the agents' (githooks(5)).
LOCAL_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)

# A `make` around us means itself by them, not the `make test` of a gate.
MAKE_VARIABLES = frozenset({"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"})

# The user's hooks and signing are for the user's own commits; objects are packed when the driver asks
# for it, and not in the midst of a landing; and no setting may make git wait for a person.
SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "merge.verifySignatures": "false",
    "merge.autoStash": "false",
    "merge.ff": "true",
    "pull.twohead": "ort",  # `git merge` goes by it as well; "ours" would make a merge even of a fast-forward
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    "submodule.recurse": "false",
    "rerere.enabled": "false",
    "core.safecrlf": "false",
    "diff.orderFile": os.devnull,
    "commit.cleanup": "whitespace",
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
}

# What git says is committed has to outlast a loss of power, and by default it is not: objects and then the ref
# that names them go to the disk before git ends. `batch` is one flush for all objects of a process.
DURABLE = (
    ((2, 37), {"core.fsync": "committed,reference", "core.fsyncMethod": "batch"}),
    ((2, 36), {"core.fsync": "committed,reference"}),
    ((0, 0), {"core.fsyncObjectFiles": "true"}),  # later versions warn of it each time
)
"""Settings by the version of git from which on they hold."""

WITH_INDEX = ("-c", "core.fsync=committed,reference,index")
"""Where the index is a person's, and nobody makes it anew."""

_durable: dict[str, str] = {}
"""Those of the version at hand, once it is known."""


LIMIT = 1800.0
"""Seconds for git in a worktree, where an agent may have left a pipe that nobody ever writes to."""

MAKING = 60.0
"""Seconds after which a worktree that still has no place was left so by a git that was killed."""

TREE_ENTRIES_MOST = 15_000
"""How many entries of trees are kept in memory; some 300 bytes each."""


# what git passes on from the operating system, in the C locale
_SYSTEM = re.compile(
    r"insufficient permission|read-only file system|no space left|out of diskspace|disk quota exceeded|file too large"
    r"|input/output error|too many open files|cannot allocate memory|out of memory"
    r"|resource temporarily unavailable|cannot fork|cannot create (async )?thread",
    re.I,
)
_UNWRITABLE = re.compile(rf"permission denied|unable to create directory|{_SYSTEM.pattern}", re.I)


def _remedy(stderr: str) -> str:
    """Return what a person can do about a failure of git's, '' when that is not known."""
    if lock := re.search(r"Unable to create '(.+\.lock)': File exists", stderr):
        return f"if no git is at work, remove '{lock[1]}'"
    if owned := re.search(r"dubious ownership in repository at '(.+)'", stderr):
        return f"if you trust it: git config --global --add safe.directory '{owned[1]}'"
    if "external filter" in stderr:
        return "see that the filters that '.gitattributes' names are installed"
    if _UNWRITABLE.search(stderr):
        return "see whether you may write to the repository and the disk has room"
    return ""


class GitError(ScriptoriumError):
    """git exited with a status that was not expected."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        lines = [line for line in stderr.strip().splitlines() if not line.startswith("hint:")]
        # "fatal:" and "error:" lines say what is wrong, wherever they stand
        telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
        # a name by chance would make the same failure a new one each time
        words = re.sub(r"\b(tmp_(?:pack|idx|obj)_)\w{6}\b", r"\1*", telling[0]) if telling else f"exit {status}"
        super().__init__(f"'git {_command(argv)}' failed: {words}", _remedy(stderr))
        self.status = status
        self.stderr = stderr
        self.system = bool(_SYSTEM.search(stderr)) or status < 0
        """Whether it failed for want of what the system gives, or was killed: whatever it was to do can be right."""


def _command(argv: Sequence[str]) -> str:
    """Return which of git's commands is called: the first word that is neither an option nor its value."""
    words = iter(argv)
    for word in words:
        if word not in ("--git-dir", "--work-tree", "-C", "-c"):
            return word
        next(words, None)
    return ""


class Object(NamedTuple):
    """One object as git stores it."""

    oid: str
    kind: str
    data: bytes


class TreeEntry(NamedTuple):
    """A line of a tree: a file (mode 100644, …) or a directory (mode 40000)."""

    mode: str
    name: str
    oid: str


class Tree(dict[str, TreeEntry]):
    """The entries of one tree by name, in git's order; never changed once read."""

    @cached_property
    def documents(self) -> tuple[str, ...]:
        """The Markdown files, without their suffix, in order; there may be ten thousand."""
        files = [name for name, entry in self.items() if entry.mode.startswith("100")]
        return tuple(sorted(name[:-3] for name in files if name.endswith(".md")))


class RefUpdate(NamedTuple):
    """A compare-and-swap of one ref; ``new`` empty deletes it, ``old`` all zeros creates it."""

    ref: str
    new: str
    old: str


@dataclass(frozen=True)
class Worktree:
    """A linked worktree as `git worktree list` tells it; ``branch`` is empty when detached."""

    path: Path
    head: str
    branch: str


def scrub_environment() -> None:
    """Drop what a surrounding git or make set for itself; call once, at the start."""
    for name in (LOCAL_VARIABLES | MAKE_VARIABLES) & os.environ.keys():
        del os.environ[name]
    if "plumbum" in sys.modules:  # it hands on a copy that it made when it was imported
        from plumbum import local

        local.env.clear()
        local.env.update(os.environ)


def _environment() -> dict[str, str]:
    name, email = IDENTITY
    settings = SETTINGS | _durable
    environment = {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_MERGE_AUTOEDIT": "no",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }
    return environment | _by_environment(settings)


def _by_environment(settings: Mapping[str, str]) -> dict[str, str]:
    found = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def for_agents() -> dict[str, str]:
    """Return what an agent's own git has to know: what it commits is to be as durable as the ref that we move to it."""
    return _by_environment(_durable)


def _missing() -> ScriptoriumError:
    return ScriptoriumError("'git' is not on PATH", "install git", ExitCode.CONFIG)


def run(
    *argv: str, cwd: Path | None = None, data: bytes = b"", accept: Container[int] = (0,)
) -> tuple[int, bytes, str]:
    """Run git to its end and return (exit status, stdout, stderr); a status not accepted raises GitError.

    Again, where the lock of a git that was killed stands in its way: it leaves more than one.
    """
    found = _run(argv, cwd, data)
    while found[0] and leftlocks.discard(found[2]):
        found = _run(argv, cwd, data)
    return _accepted(argv, found, accept)


def _run(argv: Sequence[str], cwd: Path | None, data: bytes) -> tuple[int, bytes, str]:
    from plumbum import CommandNotFound, local  # late: `status` asks by `query` alone

    environment = _environment()
    if cwd is not None:
        # a worktree that has lost its .git file must be an error, never the repository around it
        environment["GIT_CEILING_DIRECTORIES"] = str(cwd.parent)
    streams = {"stdin": PIPE if data else DEVNULL, "stdout": PIPE, "stderr": PIPE}
    try:
        # its own session: Ctrl-C on a terminal is ours to handle, not each git's
        process: Any = local["git"].popen(argv, cwd=str(cwd or Path("/")), env=environment, new_session=True, **streams)
    except CommandNotFound as error:
        raise _missing() from error
    return _finish(process, argv, data, LIMIT if cwd else None)


def query(*argv: str, accept: Container[int] = (0,)) -> tuple[int, bytes, str]:
    """Do as `run` for the questions that every command begins with.

    Without plumbum, whose import costs more than all the rest of `status`.
    """
    return _accepted(argv, _finish(_start(argv, stdout=PIPE, stderr=PIPE), argv, b""), accept)


def _start(argv: Sequence[str], **streams: Any) -> Popen[bytes]:
    environment = {**os.environ, **_environment()}
    streams = {"stdin": DEVNULL, **streams}
    try:
        return Popen(["git", *argv], cwd="/", env=environment, start_new_session=True, **streams)
    except FileNotFoundError as error:
        raise _missing() from error


def _finish(process: Any, argv: Sequence[str], data: bytes, limit: float | None = None) -> tuple[int, bytes, str]:
    try:
        stdout, stderr = process.communicate(data or None, limit)
    except TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)
        process.communicate()
        raise GitError(argv, -SIGKILL, f"error: it had not ended after {limit:g} seconds") from None
    return process.returncode, stdout, stderr.decode(errors="replace")


def _accepted(argv: Sequence[str], found: tuple[int, bytes, str], accept: Container[int]) -> tuple[int, bytes, str]:
    status, _, stderr = found
    if status not in accept:
        raise GitError(argv, status, stderr)
    return found


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


def _is_being_made(directory: Path) -> bool:
    """Tell whether a worktree's git directory that names no place yet is to get one: within moments, or never."""
    try:
        return time() - (directory / "locked").stat().st_mtime < MAKING
    except OSError:
        return False


def check_version() -> str:
    """Return git's version, or raise when it is older than needed."""
    text = query("version")[1].decode().strip()
    found = re.search(r"(\d+)\.(\d+)", text)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        raise ScriptoriumError(f"'{text}' is too old", f"install git {wanted} or newer", ExitCode.CONFIG)
    _durable.clear()
    _durable.update(next(settings for first, settings in DURABLE if version >= first))
    return text


class ObjectReader:
    """A running `git cat-file --batch`: objects and refs at a tenth of a millisecond each."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        self._process: Any = None
        self._lock = threading.Lock()

    def read(self, name: str) -> Object | None:
        """Return the object that ``name`` (an object id, a ref, ``<commit>:<path>``) names now, or None."""
        if "\n" in name:
            return None
        with self._lock:
            for _ in range(2):  # a reader that died meanwhile is started anew, once
                try:
                    return self._ask(name)
                except (BrokenPipeError, EOFError):
                    self._end()
                except BaseException:
                    self._end()  # half an answer is still in the pipe
                    raise
        raise ScriptoriumError("'git cat-file' ended unexpectedly")

    def _ask(self, name: str) -> Object | None:
        if self._process is None:
            argv = ("--git-dir", str(self._git_dir), "cat-file", "--batch")
            self._process = _start(argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        self._process.stdin.write(name.encode() + b"\n")
        self._process.stdin.flush()
        header = self._process.stdout.readline()
        if not header:
            raise EOFError
        fields = header.decode(errors="replace").split()
        if fields[-1] in ("missing", "ambiguous", "submodule"):
            return None
        oid, kind, size = fields
        data = self._process.stdout.read(int(size) + 1)
        if len(data) != int(size) + 1:
            raise EOFError
        return Object(oid, kind, data[:-1])

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """End the process; reading again starts another."""
        with self._lock:
            if self._process is not None:
                self._process.communicate()  # end of its input ends it
                self._process = None

    def __del__(self) -> None:
        self.close()  # or plumbum waits 200 ms for a process that knows of no end


@dataclass
class Repository:
    """A repository with a working tree, from wherever in it the command was started."""

    common_dir: Path
    """The one git directory that all its worktrees share, absolute."""
    root: Path
    """The top of the main working tree."""
    objects: ObjectReader = field(init=False, repr=False)
    parsed: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What readers of objects have made of them, by object id; an object never changes."""

    def __post_init__(self) -> None:
        self.objects = ObjectReader(self.common_dir)
        self._trees: dict[str, Tree] = {}

    @classmethod
    def discover(cls, start: Path) -> Repository:
        """Find the repository around ``start``: any directory of any of its worktrees."""
        if not start.is_dir():
            raise ScriptoriumError(f"'{start}' is not a directory", "name a directory inside a git repository")
        start = start.resolve()
        check_version()
        status, out, err = query(
            "-C", str(start), "rev-parse", "--path-format=absolute", "--is-bare-repository", "--git-common-dir",
            "--git-dir", "--show-toplevel", accept=(0, 128),
        )  # fmt: skip
        lines = out.decode(errors="surrogateescape").splitlines()
        if lines[:1] == ["true"]:
            raise ScriptoriumError(f"'{start}' is a bare repository", "run scriptorium in a clone of it")
        if status and len(lines) >= 2:
            raise ScriptoriumError(f"'{start}' is inside a git directory", "go to the working tree")
        if status:
            if "not a git repository" not in err:
                raise GitError(("rev-parse",), status, err)
            raise ScriptoriumError(f"'{start}' is not a git repository", "run 'git init' there first")
        if len(lines) != 4:
            raise ScriptoriumError(f"the path '{start}' has a line break in it", "move it to a path without one")
        common, git_dir, toplevel = (Path(line) for line in lines[1:])
        # core.worktree, a submodule, --separate-git-dir: it is where git says, unless this is a linked worktree
        return cls(common, toplevel if git_dir == common else cls._main_worktree(common))

    @staticmethod
    def _main_worktree(common: Path) -> Path:
        if common.name == ".git":
            return common.parent
        out = run("--git-dir", str(common), "worktree", "list", "--porcelain")[1]
        return Path(out.decode(errors="surrogateescape").splitlines()[0].removeprefix("worktree "))

    def git(self, *argv: str, data: bytes = b"", accept: Container[int] = (0,)) -> tuple[int, bytes, str]:
        """Run git on the repository itself, in no worktree."""
        return run("--git-dir", str(self.common_dir), *argv, data=data, accept=accept)

    # -- objects and refs ---------------------------------------------------------------------------

    def resolve(self, name: str) -> str:
        """Return the object id of a ref or revision, or '' when there is none."""
        found = self.objects.read(name)
        return found.oid if found else ""

    def tree_of(self, commit: str) -> str:
        """Return the tree id of a commit."""
        found = self.objects.read(commit)
        if found is None or found.kind != "commit":
            raise ScriptoriumError(f"'{commit}' is not a commit")
        return found.data[5 : found.data.index(b"\n")].decode()

    def tree(self, oid: str) -> Tree:
        """Return the entries of one tree by name, in git's order."""
        if oid not in self._trees:
            if sum(map(len, self._trees.values())) > TREE_ENTRIES_MOST:
                self._trees.clear()
            self._trees[oid] = self._read_tree(oid)
        return self._trees[oid]

    def _read_tree(self, oid: str) -> Tree:
        found = self.objects.read(oid)
        if found is None or found.kind != "tree":
            raise ScriptoriumError(f"'{oid}' is not a tree")
        # "<mode> <name>\0<raw id>", the id 20 or 32 bytes as the repository's hash has it
        pattern = rb"(\d+) ([^\0]+)\0(.{%d})" % (len(found.oid) // 2)
        lines = re.findall(pattern, found.data, re.DOTALL)
        names = os.fsdecode(b"\0".join(name for _, name, _ in lines)).split("\0")  # at once: twice as fast
        entries = zip(names, lines, strict=False)  # of no lines, the split still makes one name
        return Tree((name, TreeEntry(mode.decode(), name, raw.hex())) for name, (mode, _, raw) in entries)

    def default_branch(self) -> str:
        """Return the branch that plays master: ``master``, else the remote's default, ``main``, or HEAD's."""
        if self.resolve("refs/heads/master"):
            return "master"
        git_dir = ("--git-dir", str(self.common_dir))
        _, out, _ = query(*git_dir, "for-each-ref", "--format=%(symref:lstrip=3)", "refs/remotes/*/HEAD")
        for name in (*out.decode().split(), "main"):
            if self.resolve(f"refs/heads/{name}"):
                return name
        head = query(*git_dir, "symbolic-ref", "--quiet", "--short", "HEAD", accept=(0, 1))[1].decode().strip()
        # a branch of ours that is checked out to be looked at is none that work lands on
        if (not head or head.startswith("scriptorium/")) and self.resolve("HEAD"):
            raise ScriptoriumError(
                f"cannot tell which branch of '{self.root}' work lands on",
                "check it out, or name it as 'branch' in 'scriptorium.json'",
                ExitCode.CONFIG,
            )
        if not self.resolve(f"refs/heads/{head}"):
            raise ScriptoriumError(f"'{self.root}' has no commits", "make a first commit, then try again")
        return head

    def hooks_path(self, start: Path) -> tuple[str, str]:
        """Return (configuration level, value) of the core.hooksPath that counts in a directory; empty when unset."""
        out = run(
            "-C", str(start), "config", "--null", "--show-scope", "--type=path", "--get-all", "core.hooksPath",
            accept=(0, 1),
        )[1]  # fmt: skip
        words = [os.fsdecode(word) for word in out.split(b"\0")]
        found = [("", ""), *zip(words[::2], words[1::2], strict=False)]
        return [(level, value) for level, value in found if level != "command"][-1]  # that one is in SETTINGS

    def update_refs(self, *updates: RefUpdate) -> bool:
        """Move all the refs, or none; False when one was not at its old value any more."""
        # 'create' knows how many zeros the repository's hash has
        lines = [
            (f"update {u.ref} {u.new} {u.old}" if u.old.strip("0") else f"create {u.ref} {u.new}")
            if u.new
            else f"delete {u.ref} {u.old}"
            for u in updates
        ]
        stream = "\n".join(["start", *lines, "commit", ""]).encode()
        # the reason lands in the reflog, where people look for what moved their branch
        status, _, err = run(
            "--git-dir", str(self.common_dir), "update-ref", "-m", "scriptorium", "--stdin",
            data=stream, accept=(0, 128),
        )  # fmt: skip
        lost = re.search(r"cannot lock ref|is at .* but expected|reference already exists", err)
        if status and (not lost or _UNWRITABLE.search(err)):
            raise GitError(("update-ref",), status, err)
        return status == 0

    def lock_of(self, ref: str) -> Path | None:
        """Return the file by which a git holds a ref now, or was killed holding it."""
        lock = self.common_dir / f"{ref}.lock"
        return lock if lock.exists() else None

    def fast_import(self, stream: bytes) -> str | None:
        """Feed one fast-import stream; return what it printed (get-mark), or None for a ref that had moved on."""
        status, out, err = run(
            "--git-dir", str(self.common_dir), "fast-import", "--quiet", "--done", data=stream, accept=range(129)
        )
        if status == 0:
            return out.decode().strip()
        crash = re.search(r"fast_import_crash_\d+", err)
        if crash:
            (self.common_dir / crash[0]).unlink(missing_ok=True)
        if re.search(r"Not updating|cannot lock ref|is at", err) and not _UNWRITABLE.search(err):
            return None
        raise GitError(("fast-import",), status, err)

    def pack_when_due(self) -> None:
        """Let git pack loose objects when it finds them too many, by the user's settings and in the background.

        `git maintenance run --auto` would do it in the foreground since 2.47.
        """
        self.git("gc", "--auto", "--quiet", accept=range(256))  # what it has to complain of is in gc.log

    def log(self, *argv: str) -> str:
        """Return the output of `git log`."""
        return self.git("log", "--no-color", *argv)[1].decode(errors="replace")

    def is_ancestor(self, old: str, new: str) -> bool:
        """Tell whether ``new`` contains ``old``."""
        return old == new or self.git("merge-base", "--is-ancestor", old, new, accept=(0, 1))[0] == 0

    def refs(self, prefix: str) -> dict[str, str]:
        """Return the refs below a prefix with their object ids."""
        out = self.git("for-each-ref", "--format=%(objectname) %(refname)", prefix)[1].decode()
        return {ref: oid for oid, ref in (line.split(" ", 1) for line in out.splitlines())}

    def branches_not_in(self, commit: str, prefix: str) -> list[str]:
        """Return the branches with a prefix that hold commits which ``commit`` does not contain."""
        out = self.git("for-each-ref", "--format=%(refname:lstrip=2)", f"--no-merged={commit}", f"refs/heads/{prefix}*")
        return out[1].decode(errors="surrogateescape").split()

    # -- worktrees ------------------------------------------------------------------------------------

    def checkouts(self, branch: str) -> list[Path]:
        """Return the working trees that have a branch checked out.

        Read from the HEAD files (gitrepository-layout), because this is asked at every transition
        and a process each would double the cost; a reftable repository is asked by process.
        """
        wanted = f"ref: refs/heads/{branch}"
        # a bare repository has worktrees, but none of its own
        heads = [] if self.root == self.common_dir else [(self.common_dir / "HEAD", self.root)]
        for directory in (self.common_dir / "worktrees").glob("*"):
            try:
                # since git 2.48 it may be relative (worktree.useRelativePaths)
                back = directory / os.fsdecode((directory / "gitdir").read_bytes().strip())
                heads.append((directory / "HEAD", Path(os.path.normpath(back)).parent))
            except OSError as error:
                if is_wanting(error):
                    raise  # to take it for none would move a branch under somebody's files
                continue  # being removed at this moment
        found = []
        for head, path in heads:
            try:
                text = head.read_text().strip()
            except OSError as error:
                if is_wanting(error):
                    raise
                continue
            if text == "ref: refs/heads/.invalid":
                return [w.path for w in self.worktrees() if w.branch == branch]
            if text == wanted and path.is_dir():
                found.append(path)
        return found

    def rebase_of(self, branch: str) -> Path | None:
        """Return the git directory in which a branch is being rebased; HEAD is detached there meanwhile."""
        for directory in (self.common_dir, *(self.common_dir / "worktrees").glob("*")):
            for kind in ("rebase-merge", "rebase-apply"):
                try:
                    name = (directory / kind / "head-name").read_text().strip()
                except OSError as error:
                    if is_wanting(error):
                        raise
                    continue
                if name == f"refs/heads/{branch}":
                    return directory
        return None

    def worktrees(self) -> list[Worktree]:
        """Return all worktrees, the main one first."""
        out = self.git("worktree", "list", "--porcelain")[1].decode(errors="surrogateescape")
        found = []
        for block in out.strip().split("\n\n"):
            facts = dict(line.partition(" ")[::2] for line in block.splitlines())
            branch = facts.get("branch", "").removeprefix("refs/heads/")
            found.append(Worktree(Path(facts["worktree"]), facts.get("HEAD", ""), branch))
        return found

    def add_worktree(self, path: Path, branch: str = "", start: str = "") -> None:
        """Check out ``branch``, made at ``start`` if that is given; without a branch, ``start`` detached."""
        if branch and start:
            # --no-track: several at once would fight over the configuration file
            target = ["--no-track", "-b", branch, str(path), start]
        elif branch:
            target = [str(path), branch]
        else:
            target = ["--detach", str(path), start]
        # in a sparse checkout of the user's, git would leave files out here, too
        whole = ("-c", "core.sparseCheckout=false")
        # forced twice, as one that was killed half way is locked
        self.git(*whole, "worktree", "add", "--quiet", "--force", "--force", *target)

    def remove_worktree(self, path: Path) -> None:
        """Remove a worktree whose work is kept elsewhere; what it still holds is gone."""
        self.git("worktree", "remove", "--force", "--force", str(path))

    def repair_worktrees(self) -> None:
        """Write the .git files of worktrees anew that have lost them."""
        self.git("worktree", "repair", accept=(0, 1))

    def forget_worktrees(self, home: Path) -> None:
        """Forget the worktrees below a directory that are gone.

        `git worktree prune` would forget a person's as well, whose disk may be away for a while.
        """
        for directory in (self.common_dir / "worktrees").glob("*"):
            try:
                place = (directory / os.fsdecode((directory / "gitdir").read_bytes().strip())).parent
            except OSError:
                if not _is_being_made(directory):
                    rmtree(directory, ignore_errors=True)  # half made, or half forgotten; git's own clean-up does so
                continue
            if home in place.parents and not place.exists():
                self.git("worktree", "remove", "--force", "--force", str(place), accept=(0, 128))

    def directory_of(self, worktree: Path) -> Path:
        """Return the git directory of a linked worktree of this repository; raises GitError when it is none.

        An agent can write anything into the .git file: another repository, whose configuration names programs
        to run and a working tree to reset. So file and repository must name each other.
        """
        try:
            directory = (worktree / _link(worktree / ".git")).resolve()
            back = directory / os.fsdecode((directory / "gitdir").read_bytes()).strip()
            # links on the way count as what they lead to, as for git: on macOS /tmp is one
            ours = directory.parent.samefile(self.common_dir / "worktrees")
            if ours and back.samefile(worktree / ".git"):
                return directory
        except (OSError, ValueError, RuntimeError) as error:  # a RuntimeError is a circle of links
            if isinstance(error, OSError) and is_wanting(error):
                raise
        raise GitError(("status",), 128, f"fatal: '{worktree}' is not a worktree of '{self.root}'")

    def within(
        self, worktree: Path, *argv: str, data: bytes = b"", accept: Container[int] = (0,)
    ) -> tuple[int, bytes, str]:
        """Run git in a linked worktree that an agent can write to, whatever that writes into its .git file."""
        place = ("--git-dir", str(self.directory_of(worktree)), "--work-tree", str(worktree))
        return run(*place, *argv, cwd=worktree, data=data, accept=accept)

    def head_of(self, worktree: Path) -> tuple[str, str]:
        """Return (branch or '', commit) of a worktree; raises GitError when it is broken."""
        out = self.within(worktree, "rev-parse", "HEAD", "--symbolic-full-name", "HEAD")[1].decode().split()
        branch = out[1].removeprefix("refs/heads/") if out[1].startswith("refs/heads/") else ""
        return branch, out[0]

    def changes(self, worktree: Path) -> list[str]:
        """Return the paths of a worktree that differ from its HEAD, ignored files left out."""
        return [os.fsdecode(item[3:]) for item in self._status(worktree)]

    def _status(self, worktree: Path) -> list[bytes]:
        # 'dirty': git would start itself inside of each submodule, with the configuration that it finds there
        argv = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty")
        return [item for item in self.within(worktree, *argv)[1].split(b"\0") if item]

    def unmerged(self, worktree: Path) -> list[str]:
        """Return the paths with conflicts in a worktree."""
        out = self.within(worktree, "diff", "--name-only", "--diff-filter=U", "-z", "--ignore-submodules=dirty")[1]
        return [os.fsdecode(item) for item in out.split(b"\0") if item]

    def read_index(self, worktree: Path) -> None:
        """Make a worktree's index that of its HEAD; the files stay as they are."""
        self.within(worktree, "read-tree", "HEAD")

    def stage_all(self, worktree: Path) -> None:
        """Put every change and untracked file of a worktree into its index; `git add` would run git in submodules."""
        found = [item for item in self._status(worktree) if item[1:2] != b" "]  # else the index has it already
        gone = [item for item in found if item[1:2] == b"D" and item[:1] != b"U"]
        there = [item for item in found if item[1:2] != b"D" or item[:1] == b"U"]
        # what is gone first, and by name alone, as its directory may have become a link
        for items, options in ((gone, ["--force-remove"]), (there, ["--add", "--remove", "--replace"])):
            if items:
                paths = b"".join(item[3:].rstrip(b"/") + b"\0" for item in items)
                self.within(worktree, "update-index", *options, "-z", "--stdin", data=paths)

    def commit_all(self, worktree: Path, message: str) -> str:
        """Commit every change and untracked file of a worktree and return the commit."""
        self.stage_all(worktree)
        argv = ("commit", "--quiet", "--no-verify", "--allow-empty", "--file", "-")  # a title can be longer than a word
        self.within(worktree, *argv, data=message.encode(errors="surrogateescape"))
        return self.within(worktree, "rev-parse", "HEAD")[1].decode().strip()

    def snapshot(self, worktree: Path, parent: str, message: str) -> str:
        """Return a commit of all that a worktree holds, ignored files left out; its HEAD stays where it is."""
        self.stage_all(worktree)
        tree = self.within(worktree, "write-tree")[1].decode().strip()
        return self.git("commit-tree", tree, "-p", parent, "-m", message)[1].decode().strip()

    def merge(self, worktree: Path, commit: str, message: str, *, undo: bool = True) -> list[str]:
        """Merge a commit into a worktree's branch; return the conflicting paths, the merge undone then if asked."""
        strange = self._strange_links(worktree)
        if strange:  # git looks for changes inside of submodules before it merges
            raise GitError(("merge",), 128, f"fatal: '{strange[0]}' is a repository of its own")
        status, _, err = self.within(
            worktree, "merge", "--quiet", "--no-edit", "--no-stat", "--no-verify", "-m", message, commit,
            accept=(0, 1, 2, 128),
        )  # fmt: skip
        if status == 0:
            return []
        failure = GitError(("merge",), status, err)
        conflicts = [] if failure.system else self.unmerged(worktree)
        if undo or not conflicts:
            self.within(worktree, "merge", "--abort", accept=(0, 128))
        if not conflicts:
            raise failure
        return conflicts

    def _strange_links(self, worktree: Path) -> list[str]:
        """Return the links of a worktree to commits whose repository lies elsewhere than in ours, as git has it."""
        out = self.within(worktree, "ls-files", "--stage", "-z")[1].split(b"\0")
        links = [os.fsdecode(item.partition(b"\t")[2]) for item in out if item.startswith(b"160000 ")]
        return [link for link in links if (worktree / link / ".git").exists() and not self._submodule(worktree / link)]

    def _submodule(self, path: Path) -> Path | None:
        """Return the git directory of a submodule, where that lies within ours; an agent's own is what it says."""
        try:
            directory = (path / _link(path / ".git")).resolve()
        except (OSError, ValueError, RuntimeError):
            return None
        return directory if directory.is_relative_to(self.common_dir.resolve()) else None

    def fast_forward(self, checkout: Path, branch: str, commit: str) -> list[str]:
        """Move a checked-out branch with its files to a descendant; return the files that stand in the way."""
        # options of the branch are for merges of the user's own: --squash would move the files alone
        plain = ("-c", f"branch.{branch}.mergeOptions=")
        # an ignored file is the user's as any other, and git's default is to overwrite it
        argv = ("merge", "--ff-only", "--no-overwrite-ignore", "--quiet", "--no-stat", commit)
        status, _, err = self._in(checkout, *WITH_INDEX, *plain, *argv)
        if status == 0:
            return []
        # git lists the paths indented by a tab between two sentences
        blocking = [line.strip() for line in err.splitlines() if line.startswith("\t")]
        if not blocking:
            raise GitError(("merge",), status, err)
        return blocking

    def unfinish(self, checkout: Path, files: Iterable[str], commit: str) -> bool:
        """Remove what a killed fast-forward had written of a commit; False, and nothing done, for anything else."""
        for file in files:
            found = self.objects.read(f"{commit}:{file}")
            try:
                begun = b"?" if (checkout / file).is_symlink() else (checkout / file).read_bytes()
            except OSError:
                return False
            if found is None or not found.data.startswith(begun):
                return False
        for file in files:
            (checkout / file).unlink()  # which git takes for a file to be written
        return True

    def follow(self, checkout: Path, old: str, new: str) -> bool:
        """Bring a checkout from ``old`` to ``new``; False, and nothing changed, when edits are in the way."""
        return self._in(checkout, *WITH_INDEX, "read-tree", "-m", "-u", old, new)[0] == 0

    def could_follow(self, checkout: Path, old: str, new: str) -> bool:
        """Tell whether `follow` would work, without changing anything."""
        return self._in(checkout, "read-tree", "--dry-run", "-m", "-u", old, new)[0] == 0

    def _in(self, checkout: Path, *argv: str) -> tuple[int, bytes, str]:
        # a working tree that core.worktree names may know nothing of its repository
        where = () if (checkout / ".git").exists() else ("--git-dir", str(self.common_dir))
        return run(*where, *argv, cwd=checkout, accept=(0, 1, 2, 128))

    def reset(self, worktree: Path, commit: str) -> None:
        """Make a worktree of ours exactly a commit, untracked files gone, ignored ones kept."""
        self.within(worktree, "reset", "--quiet", "--hard", commit)
        self.within(worktree, "clean", "--quiet", "-ffd")

    def reset_detached(self, worktree: Path, commit: str) -> None:
        """Do the same with HEAD detached first, so that a branch which somebody checked out there stays."""
        self.within(worktree, "update-ref", "--no-deref", "HEAD", commit)
        self.reset(worktree, commit)

    def patches(self, old: str, new: str) -> bytes:
        """Return messages and patches of the commits of ``new`` that ``old`` does not contain; empty for none.

        Without context, and of a merge what is in none of its parents. A huge file counts as binary.
        """
        form = "--format=commit %H%n%w(0,1,1)%B"  # a message is indented, so that it is no patch
        plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-notes", "--no-show-signature")
        shape = ("--patch", "--cc", "--unified=0", "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/")
        return self.git("-c", "core.bigFileThreshold=16m", "log", form, *plain, *shape, f"{old}..{new}")[1]

    def holds(self, commit: str, text: str) -> bool:
        """Tell whether a text stands in a file of a commit."""
        pattern = text.partition("\n")[0].encode(errors="surrogateescape")  # by stdin, as everybody sees arguments
        return self.git("grep", "--quiet", "--fixed-strings", "-f", "-", commit, data=pattern, accept=(0, 1))[0] == 0

    def take_back(self, worktree: Path, commit: str) -> None:
        """Undo the commits of a worktree's branch that another commit does not contain; their changes stay, staged."""
        base = self.within(worktree, "merge-base", "HEAD", commit)[1].decode().strip()
        self.within(worktree, "reset", "--quiet", "--soft", base)

    def changed_links(self, old: str, new: str) -> dict[str, str]:
        """Return the links to commits of other repositories that differ in ``new``: path to commit."""
        out = self.git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", old, new)[1].split(b"\0")
        pairs = zip(out[::2], out[1::2], strict=False)
        return {os.fsdecode(path): facts.split()[3].decode() for facts, path in pairs if facts[8:14] == b"160000"}

    def links(self, commit: str) -> dict[str, str]:
        """Return all links of a commit to commits of other repositories: path to commit."""
        lines = (line.split(b"\t", 1) for line in self.git("ls-tree", "-r", "-z", commit)[1].split(b"\0") if line)
        return {os.fsdecode(path): facts.split()[2].decode() for facts, path in lines if facts[:6] == b"160000"}

    def unpushed(self, worktree: Path, links: Mapping[str, str]) -> list[str]:
        """Return the links of a worktree whose commit no remote knows: it goes with the worktree."""
        found = []
        for path, commit in links.items():
            if not (worktree / path / ".git").exists():
                continue
            argv = ("for-each-ref", "--count=1", "--contains", commit, "refs/remotes", "refs/tags")
            directory = self._submodule(worktree / path)
            if directory is None or not run("--git-dir", str(directory), *argv)[1]:
                found.append(path)
        return found

    def embedded(self, commit: str, links: Mapping[str, str]) -> list[str]:
        """Return the links of a commit that are no submodules: repositories whose files are in no commit of ours."""
        if not links:
            return []
        argv = ("config", "--null", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"^submodule\..*\.path$")
        named = {os.fsdecode(line.partition(b"\n")[2]) for line in self.git(*argv, accept=(0, 1, 128))[1].split(b"\0")}
        return [path for path in links if path not in named]

    def diff_names(self, old: str, new: str) -> list[str]:
        """Return the paths that differ between two commits."""
        out = self.git("diff-tree", "-r", "-z", "--name-only", old, new)[1]
        return [os.fsdecode(item) for item in out.split(b"\0") if item]
