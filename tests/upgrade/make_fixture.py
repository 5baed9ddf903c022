"""Make the fixture of the upgrade tests: a repository and a state directory as version 1.0.0 leaves them.

Run this script with version 1.0.0 and no other, because the tests ask whether a later version continues what 1.0
wrote. It needs Linux, a checkout of the commit that was released as 1.0.0, and an interpreter that has the
dependencies of that checkout and its group ``test``::

    python tests/upgrade/make_fixture.py ../checkout-of-1.0.0

The script installs that checkout below ``ROOT``. Then it acts as a user does: by git, by an editor and by the command
line of the product. The agent is a shell script named codex, because codex resumes sessions. Some commands are
killed: while their agent works, or right before or after a git call. The result is written to ``fixture/``;
`tests.upgrade.unpack` describes how a test gets it back.

Commit ids, tokens and times differ each time. The tests therefore know the fixture by names, never by ids.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

VERSION = "1.0.0"
ROOT = Path("/tmp/scriptorium-1.0")
"""Everything is made in here, so that no other path of the machine gets into the fixture."""
PROJECT, PLAN, STATE, HOME, FACTS = (ROOT / name for name in ("project", "plan", "root", "home", "facts"))
PROGRAM = ROOT / "program" / "bin" / "scriptorium"
FIXTURE = Path(__file__).parent / "fixture"

CONFIG = {
    "models": {"architect": "gpt-5.1-codex-mini", "manager": "gpt-5.1-codex-mini", "coding": "gpt-5.1-codex-mini"},
    "gate": "make test",
    "environment": ["FACTS"],
    "endpoints": {"local": "http://127.0.0.1:0"},
    "timeouts": {"gate": 600, "codingAgentNoOutputTimeoutMs": 300000},
    "max_attempts": 2,
    "concurrency": {"maxAgents": 1, "tokenBudgetMB": 4},
}

MAKEFILE = """\
test:
\t@git rev-parse 'HEAD^{tree}' >>"$$FACTS/gates"
\t@! grep -s broken *.txt
"""

CODEX = """\
#!/bin/sh
# Stands in for codex and does what $FACTS/turn says. Calls other than 'exec' ask for its version or sandbox.
[ "$1" = exec ] || exit 0
cat >/dev/null
echo '{"type":"thread.started","thread_id":"session-'"$SCRIPTORIUM_ROLE$SCRIPTORIUM_TICKET"'"}'
. "$FACTS/turn"
echo '{"type":"item.completed","item":{"type":"agent_message","text":"That is all."}}'
echo '{"type":"turn.completed","usage":{"input_tokens":1200,"cached_input_tokens":200,"output_tokens":34}}'
"""

GIT = """\
#!/bin/sh
# Kills the caller before or after the git that has $KILL_BEFORE or $KILL_AFTER among its arguments.
arguments=" $* "
kill_at() {
    [ -z "$1" ] || case $arguments in *" $1 "*) kill -9 $PPID; exit ;; esac
}
kill_at "$KILL_BEFORE"
"$REAL_GIT" "$@"
status=$?
kill_at "$KILL_AFTER"
exit $status
"""

TICKETS = {
    "land": "It landed.",
    "stick": "Both of its attempts did not submit; the command was killed before it updated a checkout of the plan.",
    "clash": "It conflicts with master; the command was killed while it began that merge for the second attempt.",
    "break": "Its first attempt was red.",
    "retry": "Its first attempt did not submit.",
    "killed": "Command and agent were killed with work in the worktree.",
    "queued": "It waits in the merge queue.",
    "landing": "The command was killed while it landed.",
    "wait": "It depends on another ticket.",
}
"""The tickets 0001 to 0009, and how each came to the state that it is left in."""

MOVE_FILES = "read-tree -m -u"
"""Arguments of the git call that updates a checkout of the user's, of master or of the plan branch."""

USAGE_LIMIT = "exceeded retry limit, last status: 429 Too Many Requests: try again in 30m"


def environment() -> dict[str, str]:
    """Return the environment of all programs that this script starts, without the settings of its user."""
    config = "[user]\n\tname = Person\n\temail = person@example.com\n[init]\n\tdefaultBranch = master\n"
    (HOME / ".gitconfig").write_text(config)
    return {
        "HOME": str(HOME),
        "PATH": f"{HOME / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": str(ROOT / "tmp"),
        "REAL_GIT": shutil.which("git") or "git",
        "FACTS": str(FACTS),
        "SCRIPTORIUM_ROOT": str(STATE),
        "GIT_CONFIG_NOSYSTEM": "1",
        "KILL_BEFORE": "",
        "KILL_AFTER": "",
    }


def install(checkout: Path) -> None:
    """Install 1.0 below ROOT; its dependencies come from the interpreter that runs this script."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ROOT / "program"], check=True)
    [packages] = (ROOT / "program").glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text("".join(f"{place}\n" for place in site.getsitepackages()))
    pip = [sys.executable, "-m", "pip", "--python", str(ROOT / "program" / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--no-index", str(checkout)], check=True)
    version = subprocess.run([PROGRAM, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if version != f"scriptorium {VERSION}":
        raise SystemExit(f"'{checkout}' is '{version}'; the fixture is made with {VERSION}")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def git(*argv: str, cwd: Path = PROJECT) -> str:
    """Run git as the user does, and return what it prints."""
    done = subprocess.run(["git", *argv], cwd=cwd, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def scriptorium(*argv: str, turn: str = "exit 9", code: int = 0, **kill: str) -> None:
    """Run 1.0, whose agent does what ``turn`` says, and check the exit code.

    ``KILL_BEFORE`` or ``KILL_AFTER`` names the git call at which the command is killed.
    """
    write(FACTS / "turn", turn)
    done = subprocess.run([PROGRAM, *argv], cwd=PROJECT, env={**environment(), **kill}, check=False)
    wanted = -signal.SIGKILL if kill else code
    if done.returncode != wanted:
        raise SystemExit(f"scriptorium {' '.join(argv)}: exit code {done.returncode}, not {wanted}")


def submit(work: str) -> str:
    """Return the shell commands of an agent that does some work and submits it."""
    return f'{work}\nscriptorium submit-pr "Did it" >/dev/null'


def name_of(ticket: str) -> str:
    return f"{list(TICKETS).index(ticket) + 1:04d}-{ticket}"


def begin() -> None:
    """Make a project with a plan: a spec, one area, its tickets, a conversation and a rescue ref."""
    git("init", "--quiet", "--template=")
    write(PROJECT / "Makefile", MAKEFILE)
    write(PROJECT / "scriptorium.json", json.dumps(CONFIG, indent=2) + "\n")
    for name in ("mine.txt", "notes.txt", "readme.txt"):
        write(PROJECT / name, "first\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "A project with a gate")
    git("branch", "feature")
    scriptorium("--init")
    git("worktree", "add", "--quiet", str(PLAN), "scriptorium/plan")
    scriptorium("plan", "A tool", turn="echo 'A tool.' >spec.md")
    stray = "echo 'A better tool.' >spec.md; echo stray >decisions/stray.md"
    scriptorium("plan", "A better tool", turn=stray, code=1)
    scriptorium("architect", turn="echo 'The core.' >areas/core.md")
    files = [f"printf '# %s\\n\\n%s\\n' {name} '{text}' >tickets/open/{n}-{name}.md" for n, (name, text) in
             enumerate(TICKETS.items(), 1)]  # fmt: skip
    wait = f"printf -- '---\\ndepends: [killed]\\n---\\n# wait\\n\\n{TICKETS['wait']}\\n' >tickets/open/9-wait.md"
    scriptorium("manager", turn="\n".join([*files, wait]))


def work() -> None:
    """Bring the first five tickets to the states in which the tests find them."""
    scriptorium("run", "--once", turn=submit("echo land >land.txt"))
    for _ in range(7):
        scriptorium("assign")
    scriptorium("code", name_of("clash"), turn=submit("echo clash >notes.txt"))
    write(PROJECT / "notes.txt", "theirs\n")
    git("commit", "--quiet", "--all", "--message", "Edit the notes")
    scriptorium("merge")
    scriptorium("code", name_of("break"), turn=submit("echo broken >break.txt"))
    scriptorium("merge")
    scriptorium("code", name_of("retry"), turn="echo half >retry.txt", code=1)
    scriptorium("code", name_of("stick"), turn=":", code=1)
    scriptorium("assign")


def kill_agent(ticket: str) -> None:
    """Kill the command that runs an agent while the agent works, and wait until the agent is gone."""
    write(FACTS / "turn", 'echo half >killed.txt; echo half >>readme.txt; echo $$ >"$FACTS/pid"; exec sleep 600')
    process = subprocess.Popen([PROGRAM, "code", ticket], cwd=PROJECT, env=environment())
    while not (FACTS / "pid").exists() or not (FACTS / "pid").read_text():
        time.sleep(0.01)
    process.kill()
    process.wait()
    while Path("/proc", (FACTS / "pid").read_text().strip()).exists():
        time.sleep(0.01)


def end() -> None:
    """Kill some commands, let the backend cool down, and leave edits in the user's checkout."""
    scriptorium("assign")
    scriptorium("code", name_of("clash"), KILL_AFTER="merge --quiet --no-edit")
    kill_agent(name_of("killed"))
    scriptorium("code", name_of("landing"), turn=submit('echo landing >landing.txt; echo "# landing" >>Makefile'))
    scriptorium("code", name_of("queued"), turn=submit("echo queued >queued.txt"))
    write(PROJECT / ".git" / "hooks" / "post-commit", "#!/bin/sh\nexit 0\n", 0o755)
    scriptorium("hooks", "install")
    write(PLAN / "areas" / "extra.md", "More.\n")
    git("add", ".", cwd=PLAN)
    git("-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--message", "Add an area", cwd=PLAN)
    scriptorium("code", name_of("stick"), turn=":", KILL_BEFORE=MOVE_FILES)
    limit = json.dumps({"type": "turn.failed", "error": {"message": USAGE_LIMIT}})
    scriptorium("manager", turn=f"echo '{limit}'; exit 1", code=1)
    write(PROJECT / "mine.txt", "mine\n")
    write(PROJECT / "untracked.txt", "mine\n")
    scriptorium("merge", KILL_AFTER=MOVE_FILES)


def files() -> Iterator[Path]:
    """Yield what a bundle does not hold: the checkouts, the state directory, and .git without objects and refs."""
    common = PROJECT / ".git"
    inside = (common / "objects", common / "refs", common / "packed-refs")
    for path in (path for top in (PROJECT, PLAN, STATE) for path in (top, *top.rglob("*"))):
        if not any(part in (path, *path.parents) for part in inside) and not path.is_socket():
            yield path


def pack() -> None:
    """Write the fixture. Files keep the order of their last change, which the recovery of a landing depends on."""
    FIXTURE.mkdir(exist_ok=True)
    git("bundle", "create", "--quiet", str(FIXTURE / "refs.bundle"), "--all")
    [key] = (path.name for path in STATE.iterdir() if path.name.startswith("project-"))
    about = {"version": VERSION, "root": str(ROOT), "key": key, "made": int(time.time())}
    write(FIXTURE / "about.json", json.dumps(about, indent=2) + "\n")
    with (
        gzip.GzipFile(FIXTURE / "files.tar.gz", "wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(files(), key=lambda path: (path.lstat().st_ctime_ns, path)):
            tar.add(path, path.relative_to(ROOT), recursive=False, filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main(checkout: str) -> None:
    if ROOT.exists():
        raise SystemExit(f"'{ROOT}' is there already: remove it first")
    for directory in (PROJECT, HOME / "bin", FACTS, ROOT / "tmp"):
        directory.mkdir(parents=True)
    write(HOME / "bin" / "codex", CODEX, 0o755)
    write(HOME / "bin" / "git", GIT, 0o755)
    install(Path(checkout).absolute())
    begin()
    work()
    end()
    pack()
    shutil.rmtree(ROOT)


if __name__ == "__main__":
    main(*sys.argv[1:])
