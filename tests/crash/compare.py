"""What is compared between an undisturbed flow and one that was broken off and taken up again."""

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
"""A file that one attempt alone writes."""


@dataclass(frozen=True)
class Ending:
    """How everything stands at the end; equal to the undisturbed one's, or something is wrong."""

    tickets: dict[str, str]
    """The state of each."""
    texts: dict[str, str]
    """What each says, the notes of its attempts included."""
    attempts: dict[str, str]
    """By ticket, how its attempts came out that counted."""
    landings: list[str]
    """The tickets in the order of their becoming done."""
    queue: list[str]
    areas: dict[str, str]
    """What they say, the spec, and what was planned from."""
    master: dict[str, str]
    """The tree."""
    moves_of_master: int
    """In its reflog, so that nothing has landed twice."""
    backward: list[str]
    """The moves of master that are no fast-forward."""
    lost: list[str]
    """The files that an attempt alone has written and that are nowhere any more."""
    refs: dict[str, str]
    """All but rescue refs; of our own branches only the names."""
    theirs: dict[str, bytes]
    """The user's files, index, stash and settings."""
    git_directory: set[str]
    """Locks, worktrees and files that a git leaves only when it is killed."""
    state_directory: set[str]
    """All but logs."""
    findings: list[str]
    """Of fsck, ours and git's."""
    running: list[str]
    kept: dict[str, str] = field(compare=False)
    """What rescue refs keep and neither master nor the plan has: object id to path."""
    objects: frozenset[str] = field(compare=False)
    """All objects that there are, so all that the agent ever writes."""

    def differences(self, other: Ending) -> list[str]:
        """Return, in words, where this ending is not like the other."""
        found = []
        for item in fields(self):
            mine, wanted = getattr(self, item.name), getattr(other, item.name)
            if item.compare and mine != wanted:
                found.append(f"{item.name}: {_told(mine, wanted)}")
        # a rescue ref is in order where it holds what the agent has done once more since
        return found + [
            f"only a rescue ref has '{path}'" for oid, path in self.kept.items() if oid not in other.objects
        ]


LANDED = tuple(f"{where}{name}" for where in (INDEX, "project/") for name in ("song", "first-is-new", "second-is-new"))
"""The files that the tickets change."""

AS_TOLD = {
    "attempts": {"0001-first": "gate conflict"},
    "landings": ["0002-second", "0001-first"],
    "queue": [],
    "backward": [],
    "lost": [],
    "findings": [],
    "running": [],
    "kept": {},
}
"""What the flow is made for."""


def undue(before: Ending, clean: Ending) -> list[str]:
    """Return, in words, what is wrong with the undisturbed end itself: what is always lost, no comparison misses."""
    found: list[tuple[str, object, object]] = [(name, getattr(clean, name), told) for name, told in AS_TOLD.items()]
    found.append(("theirs", _not_landed(clean.theirs), _not_landed(before.theirs)))
    found.append(("refs", clean.refs, before.refs))
    return [f"{name}: {_told(mine, wanted)}" for name, mine, wanted in found if mine != wanted]


def _not_landed(theirs: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in theirs.items() if name not in LANDED}


def _told(mine: object, wanted: object) -> str:
    if isinstance(mine, set) and isinstance(wanted, set):
        return f"more {sorted(mine - wanted)[:5]}, less {sorted(wanted - mine)[:5]}"
    if isinstance(mine, dict) and isinstance(wanted, dict):
        keys = [key for key in {**mine, **wanted} if mine.get(key) != wanted.get(key)]
        return ", ".join(f"{key}: {mine.get(key)!r} and not {wanted.get(key)!r}" for key in keys)
    return f"{mine!r} and not {wanted!r}"


def look(flow: Flow) -> Ending:
    """Look at everything after a flow has come to its end and nothing of it runs any more."""
    project, workspace = flow.project, flow.workspace
    still = running(flow)
    plan = workspace.plan.snapshot()
    areas = [f"areas/{name}.md" for name in plan.areas]
    states: dict[str, str] = {name: state for state in State for name in plan.tickets(state)}
    told = project.git("log", "--reverse", "--format=%(trailers:key=Ticket,valueonly,separator=) "
                       "%(trailers:key=Move,valueonly,separator=) %(trailers:key=Cause,valueonly,separator=)",
                       "scriptorium/plan").splitlines()  # fmt: skip
    moves = [line.split(" ", 1) for line in told if "->" in line]
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
        # a move that is noted and then not made, as git was killed in between, is noted again
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
    """Return lines of git's by the paths at their ends, without files of single attempts: there may be more of them."""
    by_path = ((line.rpartition("\t")[2], line) for line in listed.splitlines())
    return {path: line for path, line in by_path if not OWN.fullmatch(path)}


def _backward(flow: Flow) -> Iterator[str]:
    """Yield the moves of master that have left something behind."""
    reflog = flow.project.root / ".git/logs/refs/heads/master"
    noted = reflog.read_text().splitlines() if reflog.exists() else []  # a loss of power may take it
    for line in noted:
        old, new = line.split()[:2]
        if old.strip("0") and flow.project.git("merge-base", old, new) != old:
            yield f"{old} -> {new}"


def _lost(flow: Flow) -> Iterator[str]:
    """Yield what an attempt has noted that neither a ref reaches nor a directory of ours holds."""
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
    """Yield what lies in our state directory and in that for temporary files, without names that are chance."""
    home = flow.project.paths.home
    for file in [*home.rglob("*"), *(flow.base / "tmp").rglob("*")]:
        name = str(file.relative_to(flow.base))
        if file.parent.name == "gates":
            name = re.sub(r"[0-9a-f]{40}", "TREE", name)
        if not re.search(r"/logs(/|$)", name):
            yield name


def _kept(flow: Flow, rescued: list[str]) -> dict[str, str]:
    """Return the files that only rescue refs have, half-made merges left out."""
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
    """Return the processes of the flow that go on for longer than a watchdog needs."""
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
    """Return what agents were called for more often than undisturbed, when that is more than so many calls."""
    extra = Counter(flow.calls) - Counter(undisturbed)
    return sorted(extra.elements()) if extra.total() > more else []
