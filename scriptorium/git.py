"""The one module that runs git: in what environment, with what settings, and what its failures mean.

Object data is bytes, names are text. Sources: git(1), git-config(1), git-cat-file(1).
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from signal import SIGKILL, strsignal
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import Any, NamedTuple

from scriptorium import leftlocks
from scriptorium.errors import ExitCode, ScriptoriumError

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
    "core.ignoreStat": "false",
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
    "log.showRoot": "true",
    "log.showSignature": "false",
}

PLAIN_HEAD = {"core.preferSymlinkRefs": "false"}
"""HEAD as a link cannot be read where its branch is not there, or leads elsewhere from a worktree."""

WHOLE = {"core.sparseCheckout": "false"}
"""A worktree of ours has all files, also where the user's checkout does not, or an agent has told git otherwise."""

# What git says is committed has to outlast a loss of power, and by default it is not: objects and then the ref
# that names them go to the disk before git ends. Not by `batch`, one flush for all objects of a process: where a
# `git gc` has just removed the directory that an object is to be put in, it ends as if all were well.
DURABLE = (
    ((2, 36), {"core.fsync": "committed,reference", "core.fsyncMethod": "fsync"}),
    ((0, 0), {"core.fsyncObjectFiles": "true"}),  # later versions warn of it each time
)
"""Settings by the version of git from which on they hold."""


_durable: dict[str, str] = {}
"""Those of the version at hand, once it is known."""


LIMIT = 1800.0
"""Seconds for git in a worktree, where an agent may have left a pipe that nobody ever writes to."""


# what git passes on from the operating system, in the C locale
_SYSTEM = re.compile(
    r"insufficient permission|read-only file system|no space left|out of diskspace|disk quota exceeded|file too large"
    r"|file size limit exceeded"
    r"|input/output error|too many open files|cannot allocate memory|out of memory"
    r"|resource temporarily unavailable|cannot fork|cannot create (async )?thread"
    r"|unable to write|couldn't set '"  # for which git does not say why
    r"|unable to create temporary file",
    re.I,
)
_GONE = "unable to create temporary file: No such file or directory"
"""What is said where a `git gc` has just removed the empty directory that an object is to be written to."""

AGAIN = 5
"""How often that is tried."""

UNWRITABLE = re.compile(rf"permission denied|unable to create directory|{_SYSTEM.pattern}", re.I)


def _remedy(stderr: str) -> str:
    """Return what a person can do about a failure of git's, '' when that is not known."""
    if lock := re.search(r"Unable to create '(.+\.lock)': File exists", stderr):
        return f"if no git is at work, remove '{lock[1]}'"
    if owned := re.search(r"dubious ownership in repository at '(.+)'", stderr):
        return f"if you trust it: git config --global --add safe.directory '{owned[1]}'"
    if "external filter" in stderr:
        return "see that the filters that '.gitattributes' names are installed"
    if UNWRITABLE.search(stderr):
        return "see whether you may write to the repository and the disk has room"
    return ""


def _end(status: int) -> str:
    """Return how git ended that has said nothing, a signal by the system's words for it."""
    return f"{strsignal(-status) or 'signal'} (signal {-status})".lower() if status < 0 else f"exit {status}"


class GitError(ScriptoriumError):
    """git exited with a status that was not expected."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        lines = [line for line in stderr.strip().split("\n") if line and not line.startswith("hint:")]
        # "fatal:" and "error:" lines say what is wrong, wherever they stand
        telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
        # a name by chance would make the same failure a new one each time
        words = re.sub(r"\b(tmp_(?:pack|idx|obj)_)\w{6}\b", r"\1*", telling[0]) if telling else _end(status)
        super().__init__(f"'git {_command(argv)}' failed: {words}", _remedy(stderr or words))
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
    settings = SETTINGS | PLAIN_HEAD | _durable
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


@cache
def _ignores_case(directory: Path) -> bool:
    """Tell whether the disk of a directory takes names for the same that differ by case alone."""
    for place in (directory, *directory.parents):
        other = place.parent / place.name.swapcase()
        if other != place:
            return other.exists() and other.samefile(place)
    return False


def _of_disk(worktree: Path) -> dict[str, str]:
    """Return what git is to know of a worktree's disk, which need not be as that on which the repository was made.

    Where it takes names for the same that the disk does not, it neither adds nor tells of the second file.
    """
    return {"core.ignoreCase": str(_ignores_case(worktree.parent)).lower()}


def options_for(worktree: Path) -> tuple[str, ...]:
    """Return the options of git's by which it works in a worktree of ours as that is, whatever is configured."""
    settings = WHOLE | _of_disk(worktree)
    return tuple(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))


def for_agents(worktree: Path) -> dict[str, str]:
    """Return what an agent's own git has to know: what it commits is to be as durable as the ref that we move to it.

    And its HEAD is to be a file, or the worktree is broken as soon as it checks a branch out.
    """
    return _by_environment(PLAIN_HEAD | _durable | _of_disk(worktree))


def _missing() -> ScriptoriumError:
    return ScriptoriumError("'git' is not on PATH", "install git", ExitCode.CONFIG)


def run(
    *argv: str, cwd: Path | None = None, data: bytes = b"", accept: Container[int] = (0,)
) -> tuple[int, bytes, str]:
    """Run git to its end and return (exit status, stdout, stderr); a status not accepted raises GitError.

    Again, where the lock of a git that was killed stands in its way, which leaves more than one, or
    where another git clears up at that moment.
    """
    tries = 1
    while (found := _run(argv, cwd, data))[0] and _may_pass(found[2], tries):
        tries += 1
    return _accepted(argv, found, accept)


def _may_pass(stderr: str, tries: int) -> bool:
    """Tell whether what failed is worth another try, now that what stood in its way is gone."""
    return leftlocks.discard(stderr) or (_GONE in stderr and tries < AGAIN)


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


def lines_of(out: bytes) -> list[str]:
    """Return the lines that git printed; what else ends a line of text, such as U+2028, may be part of a name."""
    return os.fsdecode(out).split("\n")[:-1]


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


@contextmanager
def locked_refs(git_dir: Path, *updates: str) -> Iterator[Callable[[], None]]:
    """Hold the locks of refs for a block, with updates that what it yields makes (git-update-ref, --stdin)."""
    argv = ("--git-dir", str(git_dir), "update-ref", "-m", "scriptorium", "--stdin")
    while True:
        process = _start(argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        try:
            _tell(process, argv, "start", *updates, "prepare")
            break
        except GitError as error:
            if not leftlocks.outwait(error.stderr):
                raise
    try:
        yield lambda: _tell(process, argv, "commit")
    finally:
        process.communicate()  # at the end of its input it lets go of them


def _tell(process: Popen[bytes], argv: Sequence[str], *orders: str) -> None:
    """Give orders to `git update-ref --stdin`, and wait until the last is done."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write("".join(f"{order}\n" for order in orders).encode())
        process.stdin.flush()
    while (line := process.stdout.readline()) != f"{orders[-1]}: ok\n".encode():
        if not line:
            _, err = process.communicate()
            raise GitError(argv, process.returncode, err.decode(errors="replace"))


class ObjectReader:
    """A running `git cat-file --batch`: objects and refs at a tenth of a millisecond each."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        self._process: Any = None
        self._packed: object = None
        self._lock = threading.Lock()

    def read(self, name: str) -> Object | None:
        """Return the object that ``name`` (an object id, a ref, ``<commit>:<path>``) names now, or None."""
        if "\n" in name:
            return None
        with self._lock:
            self._forget_packed()
            for _ in range(2):  # a reader that died meanwhile is started anew, once
                try:
                    return self._ask(name)
                except (BrokenPipeError, EOFError):
                    self._end()
                except BaseException:
                    self._end()  # half an answer is still in the pipe
                    raise
        raise ScriptoriumError(
            f"'git cat-file' ended unexpectedly when it was asked for '{name}'",
            "a partial clone asks its remote: is that there? 'git fsck' tells whether the repository is whole",
        )

    def _forget_packed(self) -> None:
        """End the process when refs have been packed: git looks at seconds, and takes an old list for the new one."""
        try:
            found = (self._git_dir / "packed-refs").stat()
        except OSError:
            packed = None
        else:
            packed = (found.st_ino, found.st_mtime_ns, found.st_size)
        if packed != self._packed:
            self._packed = packed
            self._end()

    def _ask(self, name: str) -> Object | None:
        if self._process is None:
            argv = ("--git-dir", str(self._git_dir), "cat-file", "--batch")
            self._process = _start(argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
        self._process.stdin.write(os.fsencode(name) + b"\n")
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
