"""scriptorium demo: watch a scripted agent build a small project."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from scriptorium.cli import Command
from scriptorium.errors import ScriptoriumError
from scriptorium.git.command import run_git
from scriptorium.system import process
from scriptorium.system.resources import share

REQUEST = "A tool that counts the words of a text, with a command line"


class Demo(Command):
    """Build a small project in a temporary directory, from a spec to commits on master.

    The agent is a script, not a model; git, the plan branch, the gate and the merge queue are real. One
    ticket first fails the gate, is reopened, and lands.
    """

    def main(self) -> int:
        home = Path(tempfile.mkdtemp(prefix="scriptorium-demo-"))
        project = home / "tally"
        _narrate(
            "A small project, and a scripted agent",
            "The agent in this demo is a script that knows its answers: no model, no key, no network.",
            f"Everything else is the real thing. The project is in {project}",
        )
        _make_project(project)
        os.environ["SCRIPTORIUM_ROOT"] = str(home / "state")
        _narrate("The plan branch", "All planning state lives on the branch scriptorium/plan.")
        _type(project, "--init")
        _narrate("The spec", "You say what you want; the Architect writes spec.md.")
        _type(project, "plan", REQUEST)
        _narrate(
            "From the spec to master",
            "The Architect splits the spec into areas, the Manager writes tickets, the coding agent works on one",
            "ticket at a time in a worktree of its own, and the merge queue lands what passes 'make test'.",
            "Watch ticket 0002: its first attempt fails the gate and is reopened, its second one lands.",
        )
        _type(project, "run", "--until-idle")
        _show(project, home)
        return 0


def _make_project(project: Path) -> None:
    """Create a repository with a Makefile and one passing test, configured for the scripted agent."""
    project.mkdir()
    agent = share("templates") / "demo" / "scripted_agent.py"
    settings = {
        "models": dict.fromkeys(("architect", "manager", "coding"), "scripted"),
        "harnesses": {"scripted": {"command": [sys.executable, str(agent)]}},
        "endpoints": {"local": "http://127.0.0.1:0"},
    }
    files = {
        "Makefile": f"test:\n\t{sys.executable} -m unittest --quiet\n",
        "README.md": "# tally\n\nCounts words.\n",
        "test_readme.py": (
            "import pathlib\nimport unittest\n\n\nclass Readme(unittest.TestCase):\n"
            "    def test_exists(self):\n        self.assertTrue(pathlib.Path('README.md').exists())\n"
        ),
        ".gitignore": "__pycache__/\n",
        "scriptorium.json": json.dumps(settings, indent=2) + "\n",
    }
    for name, text in files.items():
        (project / name).write_text(text)
    run_git("init", "--quiet", "--initial-branch=master", cwd=project)
    run_git("add", "--all", cwd=project)
    run_git("commit", "--quiet", "--message", "A project with one test", cwd=project)


def _show(project: Path, home: Path) -> None:
    """Print the status, the log of master, and commands for a closer look."""
    _narrate("The board")
    _type(project, "status")
    _narrate("Master", "It only moved to commits that had passed the gate, by fast-forward.")
    print(run_git("log", "--graph", "--oneline", "--no-decorate", "master", cwd=project)[1].decode())
    _narrate("The plan branch", "Every move of a ticket is one commit.")
    print(run_git("log", "--oneline", "--no-decorate", "scriptorium/plan", cwd=project)[1].decode())
    _narrate(
        "Where to look next",
        f"cd {project}",
        "git show scriptorium/plan:tickets/done/0002-ignore-case-and-punctuation.md   # a note about its first attempt",
        "python3 -m tally README.md                                                   # the new program",
        f"ls {home / 'state'}/tally-*/logs/*   # output of agents and gates",
        "",
        "With a real agent: install codex ('npm i -g @openai/codex'), sign in, and in a project of yours run",
        'scriptorium --init, scriptorium plan "what you want", scriptorium run. Any other agent program goes',
        "into scriptorium.json under 'harnesses'; see the README.",
        f"When you have seen enough: rm -r {home}",
    )


def _narrate(title: str, *lines: str) -> None:
    from plumbum import colors

    print()
    print((colors.bold | f"== {title}") if sys.stdout.isatty() else f"== {title}")
    for line in lines:
        print(f"   {line}" if line else "")
    print(flush=True)


def _type(project: Path, *words: str) -> None:
    """Run scriptorium as a user would. Raises if it fails."""
    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    print(f"$ scriptorium {shown}", flush=True)
    code = process.run_in_foreground([sys.executable, "-m", "scriptorium", *words], project)
    if code:
        raise ScriptoriumError(f"'scriptorium {shown}' failed with exit code {code}", f"inspect '{project}'")


main = Demo.launch
