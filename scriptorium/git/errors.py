"""What a failure of git means: its kind, told by its words on stderr."""

from __future__ import annotations

import re
from collections.abc import Sequence
from signal import strsignal

from scriptorium.errors import ScriptoriumError

# what git passes on from the operating system, in the C locale
SYSTEM = re.compile(
    r"insufficient permission|read-only file system|no space left|out of diskspace|disk quota exceeded|file too large"
    r"|file size limit exceeded"
    r"|input/output error|too many open files|cannot allocate memory|out of memory"
    r"|resource temporarily unavailable|cannot fork|cannot create (async )?thread"
    r"|unable to write|couldn't set '"  # for which git does not say why
    r"|unable to create temporary file",
    re.I,
)

GONE = "unable to create temporary file: No such file or directory"
"""What is said where a `git gc` has just removed the empty directory that an object is to be written to."""

UNWRITABLE = re.compile(rf"permission denied|unable to create directory|{SYSTEM.pattern}", re.I)


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


def _exit_text(status: int) -> str:
    """Return how git ended that has said nothing, a signal by the system's words for it."""
    return f"{strsignal(-status) or 'signal'} (signal {-status})".lower() if status < 0 else f"exit {status}"


class GitError(ScriptoriumError):
    """git exited with a status that was not expected."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        lines = [line for line in stderr.strip().split("\n") if line and not line.startswith("hint:")]
        # "fatal:" and "error:" lines say what is wrong, wherever they stand
        telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
        # a name by chance would make the same failure a new one each time
        words = re.sub(r"\b(tmp_(?:pack|idx|obj)_)\w{6}\b", r"\1*", telling[0]) if telling else _exit_text(status)
        super().__init__(f"'git {_command(argv)}' failed: {words}", _remedy(stderr or words))
        self.status = status
        self.stderr = stderr
        self.system = bool(SYSTEM.search(stderr)) or status < 0
        """Whether it failed for want of what the system gives, or was killed: whatever it was to do can be right."""


def _command(argv: Sequence[str]) -> str:
    """Return which of git's commands is called: the first word that is neither an option nor its value."""
    words = iter(argv)
    for word in words:
        if word not in ("--git-dir", "--work-tree", "-C", "-c"):
            return word
        next(words, None)
    return ""
