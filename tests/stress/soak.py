"""`make soak`: lands many tickets with random faults, and reports growth.

`python -m tests.stress.soak [TICKETS]`. In the first fifth the daemon is killed again and again. One daemon
lands the other tickets; its resources and files after that fifth are compared with those at the end. Agents crash,
fall silent, forget to submit, break the gate, conflict with commits of the user, or leave a mess. The user commits
to master all the time.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path

from scriptorium.git.environment import scrub_environment
from scriptorium.plan.snapshot import REF
from scriptorium.plan.ticket import State
from scriptorium.scheduler import housekeeping
from scriptorium.system.watchdog import members
from tests import figures
from tests.bench.projects import name, project
from tests.chance import chance, repeat
from tests.stress.growth import Held, Left, Trend
from tests.support import sealed, until

TICKETS = 1000
FAULTY = 0.3
"""The share of tickets that get one or two faults before they are done."""

ACTS = {
    "crash": "echo half >half-$me; exit 7",
    "kill": "echo half >half-$me; kill -9 $$",
    "nothing": "exit 0",
    "silent": "exec sleep 60",
    "red": 'touch red; scriptorium submit-pr "Break it"; exit 0',
    "conflict": """\
touch $FACTS/want-$me; while [ ! -e $FACTS/had-$me ]; do sleep 0.02; done
echo $me >shared; scriptorium submit-pr "Collide"; exit 0""",
    "mess": """\
mkdir -p "a mess"; head -c 5000 /dev/urandom >"a mess/ü.bin"; ln -s nowhere dangling-$me; mkfifo fifo-$me
touch $(git rev-parse --git-dir)/index.lock; exit 1""",
}

AGENT = """\
me=$SCRIPTORIUM_TICKET; acts=$FACTS/acts-$me; act=work
echo $me
if [ -s $acts ]; then read act <$acts; sed -i 1d $acts; fi
if [ -e $FACTS/had-$me ]; then echo $me >shared; fi
case $act in
{acts}
esac
rm -rf red half-* dangling-* fifo-* "a mess"
echo $me >$me.txt
scriptorium submit-pr "Do it"
"""

# short cooldowns after a failure and housekeeping every second, so that a soak does not wait
DAEMON = """
from scriptorium import main
from scriptorium.scheduler import backoff, driver
backoff.RETRY_DELAY, driver.HOUSEKEEPING_INTERVAL = (0.02, 0.2), 1.0
main.main()
"""


class Soak:
    """One soak: the project, its user, its daemon and the measurements."""

    def __init__(self, scratch: Path, tickets: int, chances: random.Random) -> None:
        self.random = chances
        self.facts = scratch / "facts"
        self.facts.mkdir()
        os.environ["FACTS"] = str(self.facts)
        self.project = project(scratch / "project", tickets)
        self.names = [name(number) for number in range(1, tickets + 1)]
        self.dealt: Counter[str] = Counter()
        self.commits: list[str] = []
        self.kills = 0
        self.held: list[Held] = []
        self.left: list[Left] = []
        self._set_up()
        self.plan = self.project.workspace.plan
        self.output = scratch / "daemon.out"

    def _set_up(self) -> None:
        self.project.commit({"shared": "nobody\n"})
        self.project.agent(AGENT.format(acts="\n".join(f"{act}) {what} ;;" for act, what in ACTS.items())))
        self.project.configure(gate="test ! -e red", max_attempts=50, timeouts={"no_output": 2})
        for ticket in self.names:
            if self.random.random() < FAULTY:
                acts = self.random.choices(list(ACTS), k=self.random.choice((1, 1, 2)))
                self.dealt.update(acts)
                (self.facts / f"acts-{ticket}").write_text("".join(f"{act}\n" for act in acts))

    @property
    def done(self) -> int:
        return len(self.plan.snapshot().tickets(State.DONE))

    # -- the person -----------------------------------------------------------------------------------

    def person(self, *, landed: bool) -> None:
        """Commit to master when an agent waits for a conflict, and now and then without a reason."""
        for wish in self.facts.glob("want-*"):
            self._commit("shared")
            wish.rename(wish.with_name(wish.name.replace("want", "had")))
        if landed and self.random.random() < 0.2:
            self._commit(f"by-hand/{len(self.commits)}")

    def _commit(self, path: str) -> None:
        file = self.project.root / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"person {len(self.commits)}\n")

        def commit() -> bool:  # a landing may hold git's lock
            argv = ["git", "add", "--", path], ["git", "commit", "--quiet", "--message", "By hand", "--", path]
            return all(subprocess.run(one, cwd=self.project.root, capture_output=True).returncode == 0 for one in argv)

        until(commit)
        self.commits.append(path)

    # -- the daemon -----------------------------------------------------------------------------------

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the daemon for the length of a block; it is killed at the end."""
        with self.output.open("ab") as output:
            argv = [sys.executable, "-c", DAEMON, "run"]
            process = subprocess.Popen(argv, cwd=self.project.root, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def killed_now_and_then(self, goal: int) -> None:
        """Land tickets with a daemon that is killed at random moments, a few tickets apart."""
        while self.done < goal:
            with self.daemon() as daemon:
                ahead = min(goal, self.done + self.random.randint(1, 6))
                moment = self.random.random() * 0.4
                self.watch(daemon, ahead)
                end = time.monotonic() + moment
                until(lambda end=end: time.monotonic() > end)  # type: ignore[misc]
            self.kills += 1

    def undisturbed(self, goal: int) -> None:
        """Land the other tickets with one daemon, measure it all the time, and stop it as a user does."""
        with self.daemon() as daemon:
            self.watch(daemon, goal, look=True)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == 143, self.output.read_text()[-2000:]

    def watch(self, daemon: subprocess.Popen[bytes], goal: int, *, look: bool = False) -> None:
        """Act as the user until so many tickets are done; fail if none is done for a long time."""
        done, step = self.done, max(1, len(self.names) // 20)
        heard = time.monotonic()
        while done < goal:
            assert daemon.poll() is None, self.output.read_text()[-2000:]
            assert time.monotonic() < heard + 120, f"nothing landed for long: {self.output.read_text()[-2000:]}"
            now = self.done
            self.person(landed=now != done)
            if now != done:
                heard = time.monotonic()
            # it uses least between two tickets, which few samples may miss; before the first it has not begun to work
            if look and (self.held or now != done) and (held := Held.by(daemon.pid, now)) is not None:
                self.held.append(held)
            if look and now // step != done // step:
                self.look()
                self.weeks_pass()
            done = now
            time.sleep(0.05)

    def look(self) -> None:
        """Record the files on the disk."""
        paths = self.project.paths
        self.left.append(Left.on_disk(self.done, self.project.root / ".git", paths.root))
        print(f"{self.left[-1].done} tickets, {sum(self.left[-1].files.values())} files", file=sys.stderr, flush=True)

    def weeks_pass(self) -> None:
        """Make the files of finished tickets in the state directory look old."""
        paths, then = self.project.paths, time.time() - housekeeping.KEPT_SECONDS - 1
        for file in (*paths.attempts.glob("*/*"), *paths.gates.iterdir()):
            with suppress(FileNotFoundError):
                os.utime(file, (then, then))


# -- what must hold at the end ------------------------------------------------------------------------------


def check(soak: Soak) -> None:
    """Assert that every ticket was done once, and that master and its surroundings are sound."""
    of = soak.project
    result = of.run("run", "--until-idle")
    assert (result.code, result.err) == (0, ""), result
    assert sorted(soak.plan.snapshot().tickets(State.DONE)) == soak.names
    landed = Counter(line for line in of.plan_log() if line.startswith("scriptorium: complete"))
    assert landed == Counter(f"scriptorium: complete ticket {ticket}" for ticket in soak.names)
    files = set(of.git("ls-files", "-z").split("\0")[:-1])
    assert files == {"Makefile", "shared", *soak.commits, *(f"{ticket}.txt" for ticket in soak.names)}
    assert all((of.root / f"{ticket}.txt").read_text() == f"{ticket}\n" for ticket in soak.names)
    assert of.git("status", "--porcelain") == ""
    assert of.run("fsck").code == 0, of.run("fsck")
    assert of.git("fsck", "--strict", "--no-dangling") == ""
    check_leftovers(soak)


def check_leftovers(soak: Soak) -> None:
    """Assert that finished tickets leave no process, worktree, branch, lock or socket behind."""
    of, paths = soak.project, soak.project.paths
    assert not members(f"SCRIPTORIUM_REPO={of.root}")
    assert list(paths.ticket_worktree("x").parent.iterdir()) == []
    assert len(of.git("worktree", "list").splitlines()) == 1
    assert list((of.root / ".git").rglob("*.lock")) == []
    assert list(paths.sockets.iterdir()) == []
    assert set(of.refs("refs/heads/")) == {"refs/heads/master", REF}


FLAT = {"resident": 8 * 1024, "anonymous": 8 * 1024, "handles": 2, "threads": 1, "processes": 1}
"""The allowed growth of the daemon by the end. A new daemon takes most memory, in KiB, in its first hundred tickets,
while its caches of trees and tickets fill."""

EACH = {"resident": 8, "anonymous": 8}
"""The further growth allowed for each landed ticket: the caches are bounded, but not full after a thousand tickets
(`repository.TREE_ENTRIES_MOST`, `plan.PARSED_MOST`)."""

LOOSE_MOST = 12_000
"""The limit of loose objects. git packs at 6,700, estimated by 27 objects in one directory of 256; with 12,000 objects
the estimate misses this in one case of a thousand."""


def check_flat(soak: Soak, trends: dict[str, Trend]) -> None:
    """Assert that neither the daemon nor what it leaves on the disk grows with the tickets."""
    looked_at = soak.held[-1].done - soak.held[0].done
    for figure, flat in FLAT.items():
        most = flat + EACH.get(figure, 0) * looked_at
        assert trends[figure].growth <= most, f"{figure} grew from {trends[figure].early} to {trends[figure].late}"
    first, last = soak.left[0], soak.left[-1]
    assert max(left.files[".git/objects"] for left in soak.left) <= LOOSE_MOST
    # a twentieth of the tickets is young enough to have files left
    young = len(soak.names) / 20 * 2
    for place, each in (("state/logs", 12), ("state/gates", 3)):
        assert last.files[place] <= first.files[place] + young * each, f"{place}: {last.files[place]} files"
    for place in ("state/sockets", "state/worktrees", "state/worktrees/tickets", ".git/refs", ".git/worktrees"):
        assert last.files[place] <= first.files[place] + 10, f"{place}: {last.files[place]} files"


def report(soak: Soak, trends: dict[str, Trend], seconds: float) -> None:
    """Print the files by place, and publish the counts."""
    first, last = soak.left[0], soak.left[-1]
    between = max(1, last.done - first.done)
    for place in sorted(last.files):
        files, size = last.files[place], last.sizes[place]
        each = [(files - first.files[place]) / between, (size - first.sizes[place]) / between]
        print(f"{place:25} {files:7} files {size:10} bytes; {each[0]:+.2f} files {each[1]:+.0f} bytes a ticket")
    counts = [
        ("tickets, each done once", len(soak.names)),
        ("attempts that were dealt a fault", soak.dealt.total()),
        ("kills of the daemon", soak.kills),
        ("commits by hand meanwhile", len(soak.commits)),
        ("ms a ticket", round(seconds / len(soak.names) * 1000)),
        ("loose objects, at most", max(left.files[".git/objects"] for left in soak.left)),
    ]
    units = {"resident": "KiB resident", "anonymous": "KiB of its own", "handles": "open files"}
    held = [
        (units.get(figure, figure), f"{trend.early:g} -> {trend.late:g} ({trend.each:+.2g} a ticket)")
        for figure, trend in trends.items()
    ]
    figures.publish("soak", [*counts, *held])


def main() -> None:
    tickets = int(sys.argv[1]) if len(sys.argv) > 1 else TICKETS
    chances = chance()
    print(f"soak: {tickets} tickets", flush=True)
    try:
        land(tickets, chances)
    except BaseException:
        print(f"to repeat: {repeat(f'make soak TICKETS={tickets}')}", flush=True)
        raise


def land(tickets: int, chances: random.Random) -> None:
    """Land so many tickets, and check every guarantee."""
    with tempfile.TemporaryDirectory(prefix="scriptorium-soak-") as directory:
        scratch = Path(directory)
        environment = sealed(os.environ, scratch / "home", scratch / "root")
        os.environ.clear()
        os.environ.update(environment)
        scrub_environment()  # so that plumbum sees it as well
        soak, started = Soak(scratch, tickets, chances), time.monotonic()
        soak.killed_now_and_then(tickets // 5)
        soak.look()
        soak.undisturbed(tickets)
        seconds = time.monotonic() - started
        check(soak)
        soak.look()  # idle: the last ticket is done before its worktree is removed
        trends = {figure: Trend.of(soak.held, attrgetter(figure)) for figure in FLAT}
        report(soak, trends, seconds)
        check_flat(soak, trends)


if __name__ == "__main__":
    main()
