"""Helpers of the tests: a project in a real repository, used as from a shell."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryDirectory
from typing import Any

from scriptorium.agents.tools.server import Tools
from scriptorium.project.paths import Paths
from scriptorium.project.workspace import Workspace
from tests import fork_server
from tests.fork_server import MODULE
from tests.processes import BUSY as BUSY
from tests.processes import WITHOUT_TOOLS as WITHOUT_TOOLS
from tests.processes import Process, launch
from tests.processes import Result as Result
from tests.processes import Started as Started
from tests.processes import busy_pids as busy_pids
from tests.processes import is_alive as is_alive
from tests.processes import until as until
from tests.queued import submit_work
from tests.template import Template

CHECKOUT = Path(__file__).parent.parent
PLAN = "scriptorium/plan"
ROLES = ("architect", "manager", "coding", "reviewer")
DATE = "1700000000 +0000"

GITCONFIG = """\
[user]
	name = Person
	email = person@example.com
[init]
	defaultBranch = master
"""


def sealed(environ: Mapping[str, str], home: Path, root: Path) -> dict[str, str]:
    """Return an environment without any settings of the user."""
    foreign = ("SCRIPTORIUM_", "GIT_", "XDG_", "LC_", "MAKE", "MFLAGS", "PYTHON")
    kept = {name: value for name, value in environ.items() if not name.startswith(foreign)}
    (home / "bin").mkdir(parents=True)
    (home / ".gitconfig").write_text(GITCONFIG)
    write_script(home / "bin" / "scriptorium", f'exec {shlex.quote(sys.executable)} -m scriptorium "$@"')
    return {
        **kept,
        "HOME": str(home),
        "PATH": f"{home / 'bin'}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(CHECKOUT),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "SCRIPTORIUM_ROOT": str(root),
    }


def quote(path: str) -> str:
    """Quote a path as fast-import reads it, every byte by its octal number."""
    return '"' + "".join(f"\\{byte:03o}" for byte in os.fsencode(path)) + '"'


def write_script(path: Path, text: str) -> Path:
    """Write an executable shell script that stops at its first failure."""
    path.write_text(f"#!/bin/sh\nset -e\n{text}\n", errors="surrogateescape")
    path.chmod(0o755)
    return path


def submit_pr(take: Callable[[str], str]) -> Tools:
    """Return the tools of a coding run whose replies are a function of the summary."""
    return {"submit_pr": lambda given: take(given["summary"])}


def mcp_call(url: str, headers: Mapping[str, str], tool: str, arguments: Mapping[str, Any]) -> tuple[bool, str]:
    """Call an MCP tool by the official client; return whether it is an error, and its text."""
    import asyncio

    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    async def call() -> tuple[bool, str]:
        async with (
            httpx2.AsyncClient(headers=dict(headers), timeout=30) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool(tool, dict(arguments))
        return bool(result.is_error), "".join(getattr(part, "text", "") for part in result.content)

    return asyncio.run(call())


def trailers(project: Project, *without: str) -> dict[str, str]:
    """Return the trailers of the newest change of the plan, without trailers that differ from run to run."""
    lines = project.git("log", "-1", "--format=%(trailers:only,unfold)", PLAN).splitlines()
    found = dict(line.split(": ", 1) for line in lines)
    return {name: value for name, value in found.items() if name not in ("Transaction", "Seconds", *without)}


def gates(facts: Path) -> int:
    """Return how often a gate has run; the gate must add a line to ``$FACTS/gates`` each time."""
    return len((facts / "gates").read_text().splitlines()) if (facts / "gates").exists() else 0


def kept(project: Project) -> str:
    """Return the only rescue ref."""
    (ref,) = project.refs("refs/scriptorium/rescue/")
    return ref


class Project:
    """A repository on branch master whose gate, `make test`, passes."""

    def __init__(self, root: Path, branch: str = "master", object_format: str = "sha1") -> None:
        self._begin(root)
        root.mkdir()
        self.git("init", "--quiet", f"--initial-branch={branch}", f"--object-format={object_format}")
        (root / ".git" / "info" / "exclude").write_text("scriptorium.json\n")
        self.gate("true")

    def _begin(self, root: Path) -> None:
        self.root = root
        self.python: Sequence[str] = MODULE
        self.started: list[Process] = []
        self._has_plan = False

    @classmethod
    def at(cls, root: Path) -> Project:
        """Return a project whose repository is there already."""
        project = cls.__new__(cls)
        project._begin(root)
        return project

    @classmethod
    def copied(cls, root: Path) -> Project:
        """Return a project as ``Project(root)`` does, but by a copy, unless the test has configured git differently."""
        configured = {name for name in os.environ if name.startswith("GIT_")}
        config = Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text()
        if configured != {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"} or config != GITCONFIG:
            return cls(root)
        _template().write(root)
        project = cls.at(root)
        project.git("update-index", "--refresh")  # the index does not know the copied files
        return project

    def git(self, *argv: str, cwd: Path | None = None) -> str:
        """Run git as the user would and return what it printed."""
        environment = {**os.environ, "GIT_AUTHOR_DATE": DATE, "GIT_COMMITTER_DATE": DATE}
        done = subprocess.run(["git", *argv], cwd=cwd or self.root, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, f"git {shlex.join(argv)}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode(errors="surrogateescape").rstrip("\n")

    def run(
        self,
        *argv: str,
        input: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> Result:
        """Run `scriptorium <argv>` to its end, with further variables in its environment.

        It runs in a fork of a prepared interpreter, or in a new interpreter with ``fresh``.
        """
        place, environ = cwd or self.root, {**os.environ, **(env or {})}
        if not fresh and fork_server.can_serve(environ):
            process = fork_server.server().fork(argv, place, environ, PIPE, PIPE, PIPE, self.python)
            out, err = process.communicate(input or "")
            return Result(process.wait(), out, err)
        data = (input or "").encode(errors="surrogateescape")
        command = [sys.executable, *self.python, *argv]
        done = subprocess.run(command, cwd=place, env=environ, input=data, capture_output=True, check=False)
        return Result(done.returncode, *(text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr)))

    @property
    def workspace(self) -> Workspace:
        """The project for calls within this process, each of which is a third of a second faster."""
        return Workspace.open(self.root)

    def start(self, *argv: str, stdin: int = DEVNULL, **env: str) -> Process:
        """Start `scriptorium <argv>` and return the process, which ends with the test."""
        process = launch(argv, self.root, env, stdin, PIPE, PIPE, self.python)
        self.started.append(process)
        return process

    @contextmanager
    def running(self, *argv: str, python: Sequence[str] = (), **env: str) -> Iterator[Started]:
        """Run `scriptorium <argv>` in the background for the length of a block; it is killed at the end of the block.

        The interpreter is given ``python``, by default ``-m scriptorium``.
        """
        number = len(list(self.root.parent.glob("*.stdout")))
        out, err = (self.root.parent / f"{number}.{name}" for name in ("stdout", "stderr"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = launch(argv, self.root, env, DEVNULL, stdout.fileno(), stderr.fileno(), python or self.python)
        try:
            yield Started(process, out, err)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def init(self) -> None:
        """Make the plan branch, as `scriptorium --init` does."""
        self.workspace.plan.create()

    def commit(self, files: Mapping[str, str], message: str = "Change files") -> str:
        """Commit files on the branch that is checked out and return the commit."""
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        self.git("add", "--", *files)
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def gate(self, recipe: str) -> str:
        """Commit a Makefile whose target `test` is one shell command."""
        return self.commit({"Makefile": f"test:\n\t@{recipe}\n"}, "Set the gate")

    def configure(self, **keys: Any) -> None:
        """Set keys of scriptorium.json, which git ignores here."""
        file = self.root / "scriptorium.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**known, **keys}))

    def agent(self, script: str) -> Path:
        """Make a shell script the agent of every role, with `scriptorium` on its PATH."""
        path = write_script(self.root.parent / "agent", script)
        self.configure(
            models=dict.fromkeys(ROLES, "script"),
            harnesses={"script": {"command": [str(path)]}},
            environment=["FACTS"],  # where a script leaves facts for its test
        )
        return path

    def calling(self, *calls: tuple[str, Mapping[str, Any]], then: str = "", **env: str) -> None:
        """Make an agent of every role that calls tools, one after the other, and records the replies.

        With $URL in ``env`` it uses the official MCP client, else the socket of the run.
        """
        (self.root.parent / "calls.json").write_text(json.dumps(calls))
        path = self.agent(f'cd "$SCRIPTORIUM_WORKTREE"; {shlex.quote(sys.executable)} -c {shlex.quote(_CALLS)}\n{then}')
        keys = {"FACTS": str(self.root.parent), "PYTHONPATH": str(CHECKOUT), **env}
        self.configure(harnesses={"script": {"command": [str(path)], "env": keys}})

    @property
    def replies(self) -> list[str]:
        """The replies of the tools to the agent; a refusal starts with '!'."""
        replies = (self.root.parent / "replies.json").read_text().splitlines()
        return [json.loads(line) for line in replies]

    def commit_plan(self, files: Mapping[str, str | None], message: str = "Edit the plan by hand") -> str:
        """Commit files to the plan branch as the user would, None removes a file; return the commit."""
        stream = [f"feature done\ncommit refs/heads/{PLAN}\nmark :1\ncommitter Person <person@example.com> {DATE}\n"]
        stream.append(f"data {len(message.encode(errors='surrogateescape'))}\n{message}\n")
        self._has_plan = self._has_plan or bool(self.git("for-each-ref", f"refs/heads/{PLAN}"))
        if self._has_plan:
            stream.append(f"from refs/heads/{PLAN}^0\n")
        for path, text in files.items():
            quoted = quote(path)
            if text is None:
                stream.append(f"D {quoted}\n")
            else:
                size = len(text.encode(errors="surrogateescape"))
                stream.append(f"M 100644 inline {quoted}\ndata {size}\n{text}\n")
        data = "".join([*stream, "get-mark :1\ndone\n"]).encode(errors="surrogateescape")
        argv = ["git", "fast-import", "--quiet", "--done"]
        done = subprocess.run(argv, cwd=self.root, input=data, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode().strip()

    def plan_files(self) -> dict[str, str]:
        """Return the files of the plan branch."""
        tar = subprocess.run(["git", "archive", PLAN], cwd=self.root, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            files = [(member.name, archive.extractfile(member)) for member in archive if member.isfile()]
            return {name: file.read().decode(errors="surrogateescape") for name, file in files if file}

    def plan_log(self) -> list[str]:
        """Return the subjects of the plan branch, the oldest first."""
        return self.git("log", "--first-parent", "--reverse", "--format=%s", PLAN).splitlines()

    def ticket(
        self, id: str, area: str = "core", depends: Iterable[str] = (), body: str = "Do it.", state: str = "open"
    ) -> str:
        """Add a ticket to the plan by hand and return its name; an id alone becomes ``<id>-thing``."""
        name = f"{id}-thing" if id.isdigit() else id
        text = f"---\narea: {area}\ndepends: [{', '.join(depends)}]\n---\n# {name}\n\n{body}\n"
        self.commit_plan({f"tickets/{state}/{name}.md": text}, f"Add ticket {name}")
        return name

    @property
    def paths(self) -> Paths:
        """The places of this repository below SCRIPTORIUM_ROOT."""
        return Paths.of(self.root / ".git", self.root)

    def worktree(self, ticket: str) -> Path:
        """Return the worktree of a ticket."""
        return self.paths.ticket_worktree(ticket)

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """Return the refs below a prefix with their commits."""
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
        return dict(line.rsplit(" ", 1) for line in lines)

    def queued(self, id: str = "0001", script: str = 'echo "$SCRIPTORIUM_TICKET" >file', body: str = "Do it.") -> str:
        """Bring a new ticket into the merge queue and return its name.

        The script does the work. The state is the same as after an agent that runs the script and submits.
        """
        name = self.ticket(id, body=body, state="in-progress")
        self.agent(script)
        submit_work(self.workspace, name)
        self.agent(f"{script}\nscriptorium submit-pr 'done'")  # for the next attempt, if there is one
        return name


@cache
def _template() -> Template:
    """Return the repository of a project, which git creates only once."""
    with TemporaryDirectory() as directory:
        return Template(Project(Path(directory, "project")).root)


_CALLS = """
import json, os
from pathlib import Path
from scriptorium.agents.tools.client import SubmitError, submit
facts, token = Path(os.environ["FACTS"]), os.environ["SCRIPTORIUM_TOKEN"]
for tool, arguments in json.loads((facts / "calls.json").read_text()):
    try:
        if "URL" in os.environ:
            from tests.support import mcp_call
            failed, text = mcp_call(os.environ["URL"], {"Authorization": f"Bearer {token}"}, tool, arguments)
            text = f"!{text}" if failed else text
        else:
            text = submit(os.environ["SCRIPTORIUM_SOCKETS"], token, tool, arguments)
    except SubmitError as error:
        text = f"!{error}"
    with (facts / "replies.json").open("a") as replies:
        replies.write(json.dumps(text) + "\\n")
"""
