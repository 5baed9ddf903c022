"""Paths outside the repository: worktrees, locks, logs and gate results."""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium.system.files import DRAFT, DRAFT_AGE, private_directory

SOCKET_NAME = f"{'0' * 32}.sock"
"""A name with the length of a socket's name."""

MAX_SOCKET_PATH = 103
"""Bytes of a socket's path: macOS allows 104 with the final NUL, Linux 108."""


SHORT_DIRECTORY = Path("/tmp")
"""Not TMPDIR, which may be long, nor XDG_RUNTIME_DIR, which is removed at logout while a run goes on."""


def state_root() -> Path:
    """Return the root of all paths: ``SCRIPTORIUM_ROOT``, or ``/tmp/scriptorium``."""
    return Path(os.environ.get("SCRIPTORIUM_ROOT") or "/tmp/scriptorium").absolute()


@dataclass(frozen=True)
class Paths:
    """The paths of one repository below the root. None is created before `ensure`."""

    root: Path
    project: str
    key: str

    @classmethod
    def of(cls, common_dir: Path, root: Path) -> Paths:
        """Derive the paths from the common git directory, which all worktrees share."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-.") or "repository"
        digest = hashlib.sha256(os.fsencode(common_dir.resolve())).hexdigest()[:12]
        return cls(state_root(), root.name or "repository", f"{name}-{digest}")

    @property
    def home(self) -> Path:
        return self.root / self.key

    @property
    def plan_worktree(self) -> Path:
        return self.home / "worktrees" / "plan"

    @property
    def health_worktree(self) -> Path:
        return self.home / "worktrees" / "health"

    def ticket_worktree(self, ticket: str) -> Path:
        return self.home / "worktrees" / "tickets" / ticket

    def ask_directory(self, name: str) -> Path:
        """The directory of the checkouts for one question: ``source`` and ``plan``."""
        return self.home / "worktrees" / "ask" / name

    def ask_lock(self, name: str) -> Path:
        return self.home / "locks" / "ask" / f"{name}.lock"

    def lock(self, name: str) -> Path:
        return self.home / "locks" / f"{name}.lock"

    def ticket_lock(self, ticket: str) -> Path:
        return self.home / "locks" / "tickets" / f"{ticket}.lock"

    @property
    def gates(self) -> Path:
        return self.home / "gates"

    @property
    def backends(self) -> Path:
        """The cooldown of each backend."""
        return self.home / "backends"

    @property
    def sandboxes(self) -> Path:
        """The state of each backend's sandbox."""
        return self.home / "sandboxes"

    @property
    def sockets(self) -> Path:
        """The sockets of runs. If their paths would be too long, they are in a short directory below /tmp."""
        directory = self.home / "sockets"
        if len(os.fsencode(directory / SOCKET_NAME)) <= MAX_SOCKET_PATH:
            return directory
        key = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return SHORT_DIRECTORY / f"scriptorium-{os.geteuid()}" / key

    @property
    def attempts(self) -> Path:
        """Raw output of agents and gates, one directory per ticket."""
        return self.home / "logs"

    @property
    def conversation(self) -> Path:
        """The conversation of the planning sessions."""
        return self.home / "conversation.jsonl"

    @property
    def typed(self) -> Path:
        """The input history of the planning sessions."""
        return self.home / "typed"

    @property
    def hook_log(self) -> Path:
        """Output of the steps that git hooks start. The hooks rely on its place two levels below the root."""
        return self.home / "hooks.log"

    @property
    def sessions(self) -> Path:
        """Session logs of `scriptorium run`, shared by clones of the same name."""
        return self.root / self.project

    def remove_stale_drafts(self) -> None:
        """Remove incomplete files of killed writers."""
        for draft in (*self.home.glob(f".*{DRAFT}"), *self.home.glob(f"*/.*{DRAFT}")):
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > DRAFT_AGE:
                    draft.unlink()

    def ensure(self, directory: Path) -> Path:
        """Create a private directory below the root, with private parents."""
        private_directory(self.root)
        if self.home in (directory, *directory.parents):
            private_directory(self.home)
        else:
            private_directory(directory.parent)
            private_directory(directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory
