"""The kinds of failures of git, recognized by the messages on its stderr.

No other module matches git's stderr: it asks for the kind, the lock or the files instead. git runs in the C locale.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path
from signal import strsignal

from scriptorium.errors import ScriptoriumError


class ErrorKind(Enum):
    """The reason why git failed, as far as callers react to it."""

    DIRTY = auto()
    """Uncommitted or untracked files, or submodules, are in the way; git has changed nothing."""
    PRUNED = auto()
    """A concurrent `git gc` removed the empty directory that an object was to be written to."""
    SYSTEM = auto()
    """The system ran out of a resource, or a write failed."""
    INTERRUPTED = auto()
    """A signal ended git, or it left an operation half done."""
    DENIED = auto()
    """The user may not write, or something else prevents a directory."""
    CONTENTION = auto()
    """A ref is locked, or not at its expected value."""
    LOCKED = auto()
    """Another git holds the lock of another file, or a killed git left it."""
    NOT_A_REPOSITORY = auto()
    OWNERSHIP = auto()
    """The repository belongs to another user (safe.directory)."""
    FILTER = auto()
    """A clean or smudge filter failed."""
    OTHER = auto()


# Each pattern lists git's messages at present, then those of other versions. The first match counts: a ref lock that
# cannot be created for lack of space is SYSTEM, not CONTENTION.
_PATTERNS = {
    ErrorKind.DIRTY: re.compile(
        r"^error: (?:Entry|Updating|Untracked working tree file) '(.+?)' (?:would|not uptodate)"
        r"|contains modified or untracked files|containing submodules",
        re.M | re.S,
    ),
    ErrorKind.PRUNED: re.compile(r"unable to create temporary file: No such file or directory"),
    ErrorKind.SYSTEM: re.compile(
        r"insufficient permission|read-only file system|no space left|out of diskspace|disk quota exceeded"
        r"|file too large|file size limit exceeded"
        r"|input/output error|too many open files|cannot allocate memory|out of memory"
        r"|resource temporarily unavailable|cannot fork|cannot create (async )?thread"
        r"|unable to write|couldn't set '"  # for these git gives no reason
        r"|unable to create temporary file",
        re.I,
    ),
    ErrorKind.DENIED: re.compile(r"permission denied|unable to create directory", re.I),
    ErrorKind.CONTENTION: re.compile(
        r"cannot lock ref|is at \S+ but expected|reference already exists|reference is missing but expected"
        r"|Not updating \S"  # fast-import
    ),
    ErrorKind.LOCKED: re.compile(r"Unable to create '(.+\.lock)': File exists"),
    ErrorKind.NOT_A_REPOSITORY: re.compile(r"not a git repository"),
    ErrorKind.OWNERSHIP: re.compile(
        r"dubious ownership in repository at '(.+)'"
        r"|unsafe repository \('(.+)' is owned by someone else\)"  # the first security releases, such as 2.34.2
    ),
    ErrorKind.FILTER: re.compile(r"external filter"),
}

_SYSTEM_FAILURES = frozenset({ErrorKind.PRUNED, ErrorKind.SYSTEM, ErrorKind.INTERRUPTED})


def classify(stderr: str, status: int) -> ErrorKind:
    """Return the kind of a failure. A negative status is a signal, as in `subprocess`."""
    words = stderr.strip() or _exit_text(status)
    kind = next((kind for kind, pattern in _PATTERNS.items() if pattern.search(words)), ErrorKind.OTHER)
    return ErrorKind.INTERRUPTED if status < 0 and kind is not ErrorKind.SYSTEM else kind


def lock_in(stderr: str) -> Path | None:
    """Return the lock that stopped git, or None."""
    found = _PATTERNS[ErrorKind.LOCKED].search(stderr)
    return Path(found[1]) if found and found[1].startswith("/") else None


def blocking_files(stderr: str) -> list[str]:
    """Return the files that `git read-tree` refuses to overwrite; it names the first alone."""
    return [name for name in _PATTERNS[ErrorKind.DIRTY].findall(stderr) if name]


def _remedy(kind: ErrorKind, stderr: str) -> str:
    """Return the hint for a failure, or '' if none is known."""
    match kind:
        case ErrorKind.LOCKED | ErrorKind.CONTENTION if lock := _PATTERNS[ErrorKind.LOCKED].search(stderr):
            return f"if no git is at work, remove '{lock[1]}'"
        case ErrorKind.OWNERSHIP if owned := _PATTERNS[kind].search(stderr):
            return f"if you trust it: git config --global --add safe.directory '{owned[1] or owned[2]}'"
        case ErrorKind.FILTER:
            return "see that the filters that '.gitattributes' names are installed"
        case ErrorKind.SYSTEM | ErrorKind.PRUNED | ErrorKind.DENIED:
            return "see whether you may write to the repository and the disk has room"
    return ""


def _exit_text(status: int) -> str:
    """Return a message for a git that printed none: its exit status, or the system's name for the signal."""
    return f"{strsignal(-status) or 'signal'} (signal {-status})".lower() if status < 0 else f"exit {status}"


class GitError(ScriptoriumError):
    """git exited with an unexpected status."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str, kind: ErrorKind | None = None) -> None:
        lines = [line for line in stderr.strip().split("\n") if line and not line.startswith("hint:")]
        # "fatal:" and "error:" lines give the reason, wherever they stand
        telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
        # with a random file name, the same failure would be logged again as a new one
        words = re.sub(r"\b(tmp_(?:pack|idx|obj)_)\w{6}\b", r"\1*", telling[0]) if telling else _exit_text(status)
        found = classify(stderr, status)
        super().__init__(f"'git {_command(argv)}' failed: {words}", _remedy(found, stderr))
        self.kind = kind or found
        self.status = status
        self.lock = lock_in(stderr)

    @property
    def system(self) -> bool:
        """Whether git failed for a reason outside of its input, so that the same call may succeed later."""
        return self.kind in _SYSTEM_FAILURES

    @property
    def is_index_locked(self) -> bool:
        """Whether the lock of an index stopped git, before it changed any file."""
        return self.kind is ErrorKind.LOCKED and self.lock is not None and self.lock.name == "index.lock"


def _command(argv: Sequence[str]) -> str:
    """Return the git subcommand: the first word that is neither an option nor its value."""
    words = iter(argv)
    for word in words:
        if word not in ("--git-dir", "--work-tree", "-C", "-c"):
            return word
        next(words, None)
    return ""
