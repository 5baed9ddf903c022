"""One flow with a real shortage of a resource: `python -m tests.crash.starved DIRECTORY WANT AMOUNT`.

It creates its own mount namespace, in a user namespace unless root calls. A flow of one ticket must report the
shortage in a line or two, end, and leave a sound state. Without the shortage it must end as any other flow.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from scriptorium.git.environment import scrub_environment
from tests.crash.test_faults import ill_taken, unsound
from tests.support import Project, Result, sealed

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000  # <linux/sched.h>
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18  # <linux/mount.h>
SIZE = 24 * 1024 * 1024

AGENT = """\
echo "$SCRIPTORIUM_TICKET" >work || exit 9
scriptorium submit-pr "Do it"
"""


def _libc(call: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(*arguments):
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Call mount(2)."""
    _libc("mount", source.encode(), os.fsencode(target), kind.encode(), flags, data.encode())


def leave_the_mounts() -> None:
    """Move this process into its own mount namespace; raises OSError if that fails."""
    user, group = os.getuid(), os.getgid()
    _libc("unshare", CLONE_NEWNS | (CLONE_NEWUSER if user else 0))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)


@contextmanager
def full(place: Path, room: int) -> Iterator[str]:
    """Fill the file system of the test except for so many KiB."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        file.write(b"\0" * max(0, free - room * 1024))
    yield ""
    ballast.unlink()


@contextmanager
def read_only(place: Path, _: int) -> Iterator[str]:
    """Make a file system read-only."""
    mount("none", place, flags=MS_REMOUNT | MS_RDONLY | MS_BIND)
    yield ""
    mount("none", place, flags=MS_REMOUNT | MS_BIND)


@contextmanager
def few_files(_place: Path, most: int) -> Iterator[str]:
    """Limit the open files of a process."""
    yield f"ulimit -n {most}; "


@contextmanager
def short_files(_place: Path, most: int) -> Iterator[str]:
    """Limit files to so many blocks of 512 bytes."""
    yield f"ulimit -f {most}; "


WANTS: dict[str, Callable[[Path, int], AbstractContextManager[str]]] = {
    "full": full, "read-only": read_only, "few-files": few_files, "short-files": short_files
}  # fmt: skip


ERRORS = {"full": "ENOSPC", "read-only": "EROFS", "few-files": "EMFILE", "short-files": "EFBIG"}

TELLING = re.compile(r"(?m)^.*\[(?:ERROR|WARN)\].*|^(?:scriptorium|hint): .*|^.*could not be submitted.*")
MAX_REPORTS = 6


def run(project: Project, limit: str = "") -> tuple[Result, float]:
    """Run the flow, perhaps with a limit of the shell, and return its result and its duration in seconds."""
    started = time.monotonic()
    argv = ["/bin/sh", "-c", f"{limit}exec {shlex.quote(sys.executable)} -m scriptorium run --until-idle"]
    done = subprocess.run(argv, cwd=project.root, capture_output=True, text=True, timeout=120, check=False)
    return Result(done.returncode, done.stdout, done.stderr), time.monotonic() - started


def furnish(base: Path, where: str) -> Project:
    """Return a project with one open ticket, with its repository or its state on a separate small file system."""
    for name in ("repository", "state"):
        (base / name).mkdir(parents=True)
    mount("none", base / where, "tmpfs", data=f"size={SIZE}")
    environment = sealed(os.environ, base / "home", base / "state" / "root")
    os.environ.clear()
    os.environ.update(environment)
    scrub_environment()
    project = Project(base / "repository" / "project")
    project.init()
    spec = project.commit_plan({"spec.md": "# Spec\n\nA file.\n"})
    project.commit_plan({"planned": f"{project.git('rev-parse', f'{spec}:spec.md')} spec.md\n"})
    project.ticket("0001")
    project.agent(AGENT)
    project.configure(gate="test ! -e broken", disk_floor=0, endpoints={"local": "http://127.0.0.1:0"})
    return project


def report_errors(result: Result, want: str) -> list[str]:
    """Return the errors in the report of a shortage, which must take only a few lines."""
    out = result.out + result.err
    reports = TELLING.findall(out)
    wrong = [f"{len(reports)} lines tell: {reports}"] if not 1 <= len(reports) <= MAX_REPORTS else []
    wrong += [] if result.code else ["exit code 0"]
    return wrong + ill_taken(result.code, out, ERRORS[want])


def taken_up(project: Project) -> list[str]:
    """Run the flow again without the shortage, and return the errors of its end."""
    result, _ = run(project)
    wrong = [] if result.code == 0 else [f"exit code {result.code}: {result.out[-1500:]}{result.err}"]
    fsck = project.run("fsck")
    wrong += [f"fsck: {fsck.out}{fsck.err}"] if fsck.code else []
    try:
        wrong += [f"git fsck: {said}" for said in project.git("fsck", "--strict", "--no-dangling").splitlines()]
        wrong += [f"not clean: {said}" for said in project.git("status", "--porcelain").splitlines()]
        content = project.git("show", "master:work")
    except AssertionError as error:
        return [*wrong, str(error)]
    if content != "0001-thing" or project.plan_log().count("scriptorium: complete ticket 0001-thing") != 1:
        wrong.append(f"master has '{content}' after {project.plan_log()}")
    return wrong + [f"left: {lock}" for lock in (project.root / ".git").rglob("*.lock")]


def main() -> None:
    base, where, want, amount = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    leave_the_mounts()
    project = furnish(base, where)
    project.run("health")  # this creates the state
    with WANTS[want](base / where, amount) as limit:
        starved, seconds = run(project, limit)
    wrong = [*report_errors(starved, want), *unsound(project), *taken_up(project)]
    counted = sum("reopen" in line for line in project.plan_log())
    last = (starved.out + starved.err).strip().splitlines()[-3:]
    case = f"{where} {want} {amount}"
    print(f"{case}: exit code {starved.code} in {seconds:.1f} s, {counted} attempts came to nothing; {last}")
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
