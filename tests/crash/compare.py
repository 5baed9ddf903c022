"""Compares the end of an undisturbed flow with the end of an interrupted flow."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from scriptorium.plan.ticket import State
from scriptorium.reports.fsck import fsck
from tests.crash.flow import Flow
from tests.support import until

RESCUE = "refs/scriptorium/rescue/"

INDEX = "index: "

OWN = re.compile(r"attempt-\d+")
"""A file that only one attempt writes."""


@dataclass(frozen=True)
class Ending:
    """The state at the end of a flow, which must equal the undisturbed state."""

    tickets: dict[str, str]
    """The state of each."""
    texts: dict[str, str]
    """The text of each ticket, with the notes of its attempts."""
    attempts: dict[str, str]
    """The results of the attempts that counted, by ticket."""
    landings: list[str]
    """The tickets in the order of their completion."""
    queue: list[str]
    areas: dict[str, str]
    """The texts of the areas, the spec, and the files they were planned from."""
    master: dict[str, str]
    """The tree."""
    moves_of_master: int
    """The subjects in the reflog of master; a duplicate has landed twice."""
    backward: list[str]
    """The moves of master that are not fast-forwards."""
    lost: list[str]
    """The files that only one attempt wrote and that exist nowhere any more."""
    refs: dict[str, str]
    """All refs except rescue refs; only the names of ticket branches."""
    theirs: dict[str, bytes]
    """The user's files, index, stash and settings."""
    git_directory: set[str]
    """Locks, worktrees and files that only a killed git leaves behind."""
    state_directory: set[str]
    """All files of the state directory except logs."""
    findings: list[str]
    """The findings of `scriptorium fsck` and of `git fsck`."""
    running: list[str]
    kept: dict[str, str] = field(compare=False)
    """The files that only rescue refs keep, object id to path."""
    objects: frozenset[str] = field(compare=False)
    """All objects of the repository, so everything that the agent ever wrote."""

    def differences(self, other: Ending) -> list[str]:
        """Return the differences from another ending, in words."""
        found = []
        for item in fields(self):
            mine, wanted = getattr(self, item.name), getattr(other, item.name)
            if item.compare and mine != wanted:
                found.append(f"{item.name}: {_difference(mine, wanted)}")
        # a rescue ref is right if it holds work that the agent has since repeated
        return found + [
            f"only a rescue ref has '{path}'" for oid, path in self.kept.items() if oid not in other.objects
        ]


LANDED = tuple(f"{where}{name}" for where in (INDEX, "project/") for name in ("song", "first-is-new", "second-is-new"))
"""The files that the tickets change."""

EXPECTED = {
    "attempts": {"0001-first": "gate conflict"},
    "landings": ["0002-second", "0001-first"],
    "queue": [],
    "backward": [],
    "lost": [],
    "findings": [],
    "running": [],
    "kept": {},
}
"""The values of an undisturbed end that the flow must reach."""


def undue(before: Ending, clean: Ending) -> list[str]:
    """Return the errors of the undisturbed end itself; a comparison cannot see a file that is always lost."""
    found: list[tuple[str, object, object]] = [
        (name, getattr(clean, name), wanted) for name, wanted in EXPECTED.items()
    ]
    found.append(("theirs", _not_landed(clean.theirs), _not_landed(before.theirs)))
    found.append(("refs", clean.refs, before.refs))
    return [f"{name}: {_difference(mine, wanted)}" for name, mine, wanted in found if mine != wanted]


def _not_landed(theirs: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in theirs.items() if name not in LANDED}


def _difference(mine: object, wanted: object) -> str:
    if isinstance(mine, set) and isinstance(wanted, set):
        return f"more {sorted(mine - wanted)[:5]}, less {sorted(wanted - mine)[:5]}"
    if isinstance(mine, dict) and isinstance(wanted, dict):
        keys = [key for key in {**mine, **wanted} if mine.get(key) != wanted.get(key)]
        return ", ".join(f"{key}: {mine.get(key)!r} and not {wanted.get(key)!r}" for key in keys)
    return f"{mine!r} and not {wanted!r}"


def look(flow: Flow) -> Ending:
    """Return the state after a flow has ended; no process of the flow may run any more."""
    project, workspace = flow.project, flow.workspace
    still = running(flow)
    plan = workspace.plan.snapshot()
    areas = [f"areas/{name}.md" for name in plan.areas]
    states: dict[str, str] = {name: state for state in State for name in plan.tickets(state)}
    log = project.git("log", "--reverse", "--format=%(trailers:key=Ticket,valueonly,separator=) "
                      "%(trailers:key=Move,valueonly,separator=) %(trailers:key=Cause,valueonly,separator=)",
                      "scriptorium/plan").splitlines()  # fmt: skip
    moves = [line.split(" ", 1) for line in log if "->" in line]
    causes = [(ticket, move.rpartition(" ")[2]) for ticket, move in moves if "in-progress -> open" in move]
    refs = project.refs()
    return Ending(
        tickets=states,
        texts={name: plan.read(f"tickets/{state}/{name}.md").decode() for name, state in states.items()},
        attempts={name: " ".join(cause for ticket, cause in causes if ticket == name) for name, _ in causes},
        landings=[ticket for ticket, move in moves if move.startswith("in-progress -> done")],
        queue=[item.ticket for item in plan.queue()],
        areas={name: plan.read(name).decode() for name in (*areas, "spec.md", "planned")},
        master=_by_path(project.git("ls-tree", "-r", "master")),
        # git logs a move again if it was killed between the log entry and the move
        moves_of_master=len(set(project.git("reflog", "show", "--format=%H", "master").splitlines())),
        backward=list(_backward(flow)),
        lost=list(_lost(flow)),
        refs={ref: "" if _ours(ref) else oid for ref, oid in refs.items() if not ref.startswith(RESCUE)},
        theirs=_theirs(flow),
        git_directory=set(_git_leftovers(project.root / ".git")),
        state_directory=set(_state(flow)),
        findings=[str(finding) for finding in fsck(workspace)] + project.git("fsck", "--no-dangling").splitlines(),
        running=still,
        kept=_kept(flow, [oid for ref, oid in refs.items() if ref.startswith(RESCUE)]),
        objects=frozenset(project.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()),
    )


def _by_path(listed: str) -> dict[str, str]:
    """Return lines of git's output by path, without the files of single attempts, of which there may be more."""
    by_path = ((line.rpartition("\t")[2], line) for line in listed.splitlines())
    return {path: line for path, line in by_path if not OWN.fullmatch(path)}


def _backward(flow: Flow) -> Iterator[str]:
    """Yield the moves of master that dropped commits."""
    reflog = flow.project.root / ".git/logs/refs/heads/master"
    noted = reflog.read_text().splitlines() if reflog.exists() else []  # it may be gone after a loss of power
    for line in noted:
        old, new = line.split()[:2]
        if old.strip("0") and flow.project.git("merge-base", old, new) != old:
            yield f"{old} -> {new}"


def _lost(flow: Flow) -> Iterator[str]:
    """Yield the work of attempts that is neither reachable from a ref nor in a directory of the tool."""
    reached = set(flow.project.git("rev-list", "--objects", "--no-object-names", "--all").split())
    for name in flow.written:
        data = f"{name}\n".encode()
        oid = hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()
        if oid not in reached and data not in map(Path.read_bytes, flow.project.paths.home.rglob(name)):
            yield name


def _ours(ref: str) -> bool:
    return ref == "refs/heads/master" or ref.startswith("refs/heads/scriptorium/")


def _theirs(flow: Flow) -> dict[str, bytes]:
    project, root = flow.project, flow.project.root
    files = [file for file in root.rglob("*") if ".git" not in file.relative_to(root).parts]
    files += [root / ".git" / name for name in ("config", "HEAD", "info/exclude", "refs/stash")]
    files += [*(root / ".git" / "hooks").iterdir(), flow.base / "home" / ".gitconfig"]
    asked = {
        "status": project.git("status", "--porcelain"),
        "stash": project.git("stash", "list"),
        **{f"{INDEX}{path}": line for path, line in _by_path(project.git("ls-files", "--stage")).items()},
    }
    read = {str(file.relative_to(flow.base)): file.read_bytes() for file in files if file.is_file()}
    return {name: data for name, data in read.items() if not OWN.search(name)} | {
        name: text.encode() for name, text in asked.items()
    }


LEFT = re.compile(r"worktrees/[^/]+$|scriptorium|fast_import_crash|(MERGE|REBASE|AUTO)_")


def _git_leftovers(git: Path) -> Iterator[str]:
    for file in git.rglob("*"):
        name = str(file.relative_to(git))
        if name.endswith(".lock") or LEFT.match(name):
            yield name


def _state(flow: Flow) -> Iterator[str]:
    """Yield the files of the state and temporary directories, with random names replaced."""
    home = flow.project.paths.home
    for file in [*home.rglob("*"), *(flow.base / "tmp").rglob("*")]:
        name = str(file.relative_to(flow.base))
        if file.parent.name == "gates":
            name = re.sub(r"[0-9a-f]{40}", "TREE", name)
        if not re.search(r"/logs(/|$)", name):
            yield name


def _kept(flow: Flow, rescued: list[str]) -> dict[str, str]:
    """Return the files that only rescue refs have, without unfinished merges."""
    if not rescued:
        return {}
    git = flow.project.git
    known = set(git("rev-list", "--objects", "--no-object-names", "master", "scriptorium/plan").split())
    found = {}
    for commit in git("rev-list", *rescued, "--not", "master", "scriptorium/plan").split():
        for line in git("ls-tree", "-r", commit).splitlines():
            oid, path = line.split()[2], line.rpartition("\t")[2]
            if oid not in known and not OWN.fullmatch(path) and "<<<<<<< " not in git("cat-file", "blob", oid):
                found[oid] = path
    return found


def running(flow: Flow) -> list[str]:
    """Return the processes of the flow that outlive the time a watchdog needs."""
    try:
        until(lambda: not list(_processes(flow)), 10)
    except AssertionError:
        return list(_processes(flow))
    return []


def _processes(flow: Flow) -> Iterator[str]:
    mark = f"SCRIPTORIUM_ROOT={flow.base / 'root'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


def again(flow: Flow, undisturbed: list[str], more: int) -> list[str]:
    """Return the extra agent calls compared with an undisturbed flow, if there are more than so many."""
    extra = Counter(flow.calls) - Counter(undisturbed)
    return sorted(extra.elements()) if extra.total() > more else []
