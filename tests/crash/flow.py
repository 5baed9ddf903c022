"""The flow that is interrupted: from a spec to two landed tickets, in a repository whose user is at work.

The first ticket fails its gate. Then it conflicts with the second ticket, which its agent has assigned from a
shell. The agent decides by the files it finds, so that an attempt can be repeated. Repeated work would hide the
loss of the first attempt, so each attempt also leaves its own file.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scriptorium.git.environment import scrub_environment
from scriptorium.project.workspace import Workspace
from tests.support import CHECKOUT, Project, sealed, write_script

LIMIT = 60
"""Seconds for a flow; it takes two or three."""

INSIDE = f"{Path(__file__).with_name('inside')}{os.pathsep}{CHECKOUT}"
"""The directory on PYTHONPATH that makes processes of a flow load sitecustomize.py."""

AGENT = r"""
echo "$SCRIPTORIUM_ROLE $SCRIPTORIUM_TICKET" >>"$FACTS/calls"
asked=$(cat)
if [ "$SCRIPTORIUM_ROLE" = coding ]; then
    own=attempt-$(wc -l <"$FACTS/calls"); echo "$own" >"$own"; echo "$own" >>"$FACTS/written"
fi
case "$SCRIPTORIUM_ROLE $SCRIPTORIUM_TICKET" in
architect*)
    printf '# Core\n\nA song of three lines.\n' >areas/core.md
    exit ;;
manager*)
    printf '# First\n\nThe first line.\n' >tickets/open/1-first.md
    printf '# Second\n\nThe second line.\n' >tickets/open/2-second.md
    exit ;;
*0001-first)
    case $asked in
    *'failed: conflict'*) printf 'song\nfirst\nsecond\n' >song; rm -f broken ;;
    *'failed: gate'*) grep -q first song || sed -i 1afirst song; rm -f broken ;;
    *)
        (cd "$SCRIPTORIUM_REPO" && scriptorium assign >/dev/null)
        grep -q first song || sed -i 1afirst song
        echo >broken ;;
    esac
    echo 1 >first-is-new ;;
*0002-second)
    case $asked in
    *'failed: conflict'*) printf 'song\nfirst\nsecond\n' >song ;;  # where a fault has let the other go first
    *) grep -q second song || echo second >>song ;;
    esac
    git commit --quiet --all --message 'Sing the second line' || true
    echo 2 >second-is-new ;;
esac
scriptorium submit-pr 'a line more' 2>/dev/null
"""

SPEC = "# Song\n\nA song of three lines.\n"


@dataclass(frozen=True)
class Ended:
    """The end of a run of the flow; ``status`` is negative for a signal."""

    status: int
    out: str


class Flow:
    """A repository with its user, in a directory with everything that the flow touches."""

    def __init__(self, base: Path, library: Path, *, checked_out: bool = True) -> None:
        self.base = base
        self.library = library
        self.template = base.with_name(f"{base.name}.template")
        self.checked_out = checked_out
        environment = sealed(os.environ, base / "home", base / "root")
        for name in ("facts", "tmp"):
            (base / name).mkdir()
        own = {"FACTS": str(base / "facts"), "TMPDIR": str(base / "tmp")}
        os.environ.clear()
        os.environ.update(environment | own)
        scrub_environment()
        self.project = Project(base / "project")
        self._furnish()
        shutil.copytree(base, self.template, symlinks=True)

    def _furnish(self) -> None:
        """Set up the agent, the gate, the spec and the uncommitted files of the user."""
        project, root = self.project, self.project.root
        agent = write_script(self.base / "agent", AGENT)
        project.configure(
            models=dict.fromkeys(("architect", "manager", "coding"), "script"),
            harnesses={"script": {"command": [str(agent)]}},
            environment=["FACTS", "CRASH_*", "LD_PRELOAD"],
            endpoints={"local": "http://127.0.0.1:0"},
            gate="test ! -e broken",
            sandbox="off",
        )
        project.commit({"song": "song\n", "notes": "notes\n", "other": "other\n"})
        project.init()
        project.commit_plan({"spec.md": SPEC})
        project.git("branch", "feature/theirs")
        project.git("tag", "v0")
        (root / "other").write_text("stashed\n")
        project.git("stash", "push", "--quiet")
        if not self.checked_out:
            project.git("switch", "--quiet", "feature/theirs")
        (root / "notes").write_text("notes\nedited\n")
        (root / "staged").write_text("staged\n")
        project.git("add", "staged")
        (root / "scratch").write_text("not tracked\n")

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.project.root)

    def reset(self) -> None:
        """Restore the initial state."""
        self.restore(self.template)

    def restore(self, source: Path) -> None:
        shutil.rmtree(self.base)
        shutil.copytree(source, self.base, symlinks=True)

    def run(self, env: Mapping[str, str] | None = None, limit: float = LIMIT) -> Ended:
        """Run the flow until it ends or is killed."""
        with self.start(**env or {}) as process, suppress(subprocess.TimeoutExpired):
            process.wait(limit)
            return Ended(process.returncode, (self.base / "out").read_text())
        return Ended(1, f"not within {limit:g} s: {(self.base / 'out').read_text()}")

    @contextmanager
    def start(self, *argv: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start `scriptorium run` in its own session; it is killed at the end of the block."""
        words = argv or ("run", "--until-idle")
        with (self.base / "out").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "scriptorium", *words],
                cwd=self.project.root,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def traced(self, trace: Path, steps: Path | None = None) -> Ended:
        """Run the flow undisturbed, and record its points, one line each, and the steps of its gits in a directory."""
        more = {} if steps is None else {"CRASH_STEPS": str(steps)}
        return self.run(self._watched(CRASH_TRACE=str(trace), **more))

    def broken_off(self, point: str, action: str = "kill") -> Ended:
        """Run the flow up to a point, where it is killed or fails."""
        return self.run(self._watched(CRASH_AT=point, CRASH_ACTION=action))

    def without(self, function: str) -> Ended:
        """Run the flow to its end while one function of the product, ``module:name``, does nothing."""
        return self.run(
            {"PYTHONPATH": INSIDE, "CRASH_BREAK": function}, LIMIT * 2
        )  # it may wait for damage that nobody repairs

    def _watched(self, **env: str) -> Mapping[str, str]:
        for file in self.base.glob("*.count"):
            file.unlink()
        return {
            "PYTHONPATH": INSIDE,
            "CRASH_BASE": str(self.base),
            "CRASH_LIBRARY": str(self.library),
            **env,
        }

    @property
    def written(self) -> list[str]:
        """The files that only one attempt writes; each contains its own name."""
        file = self.base / "facts" / "written"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def calls(self) -> list[str]:
        """The agent calls, in order."""
        return (self.base / "facts" / "calls").read_text().splitlines()
