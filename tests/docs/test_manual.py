"""The manual pages agree with the help texts and with the exit codes of the verbs."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from scriptorium.errors import ExitCode
from scriptorium.main import VERBS
from tests.support import CHECKOUT, Project

PAGES = CHECKOUT / "docs" / "commands"
SECTIONS = ["Synopsis", "Options", "Input and output", "Exit codes", "Files", "Example"]
ARGUMENTS = {"plan": ("Do it",), "ask": ("Why?",), "hooks": ("status",), "rescue": ("list",), "submit-pr": ("done",)}

EVERY = {
    ExitCode.OK: "it succeeds",
    ExitCode.FAILED: "a system call fails",
    ExitCode.USAGE: "it checks its arguments",
    ExitCode.BUG: "any code may have a bug",
    ExitCode.INTERRUPTED: "Ctrl-C stops it",
}
PLAN = {ExitCode.CONFIG: "it needs git, a valid configuration or the plan branch"}
AGENT = {
    **PLAN,
    ExitCode.LOCKED: "it takes a lock that fails fast, and the backend may be cooling down",
    ExitCode.TERMINATED: "it terminates its agent first",
}
CODES: dict[str, dict[ExitCode, str]] = {
    "init": {**EVERY, **PLAN},
    "plan": {**EVERY, **AGENT},
    "ask": {**EVERY, **AGENT},
    "run": {**EVERY, **AGENT, ExitCode.REFUSED: "master is red at the end of --once or --until-idle"},
    "status": {**EVERY, **PLAN},
    "worktrees": {**EVERY, **PLAN},
    "architect": {**EVERY, **AGENT},
    "manager": {**EVERY, **AGENT},
    "assign": {
        **EVERY,
        **PLAN,
        ExitCode.REFUSED: "master is red and no ready ticket is a repair",
        ExitCode.LOCKED: "it writes the plan, and takes the locks of the ticket and of the worktrees",
    },
    "code": {**EVERY, **AGENT},
    "submit-pr": EVERY,  # the run that the demo starts reads the configuration and runs git
    "merge": {
        **EVERY,
        **PLAN,
        ExitCode.REFUSED: "master is red and no queued ticket is a repair",
        ExitCode.LOCKED: "it takes the lock of the merge queue",
        ExitCode.TERMINATED: "it terminates its gate first",
    },
    "health": {
        **EVERY,
        **PLAN,
        ExitCode.REFUSED: "master is red",
        ExitCode.LOCKED: "it takes the lock of the health check",
        ExitCode.TERMINATED: "it terminates its gate first",
    },
    "fsck": {**EVERY, **PLAN},
    "rescue": {**EVERY, **PLAN},
    "clean": {**EVERY, **PLAN, ExitCode.LOCKED: "it takes the lock of each ticket"},
    "doctor": {
        **EVERY,
        ExitCode.CONFIG: "a Python package is missing; anything else that is missing is a finding",
        ExitCode.TERMINATED: "it terminates the program that it checks first",
    },
    "hooks": {**EVERY, **PLAN, ExitCode.LOCKED: "it takes the lock of the hooks"},
    "demo": {**EVERY, ExitCode.CONFIG: "it needs git"},
}
"""The exit codes that each verb can give, with the reason; its page lists these."""


@cache
def help_of(verb: str) -> str:
    """Return what `--help` prints, on a terminal of usual width."""
    argv = [sys.executable, "-m", "scriptorium", verb, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@cache
def page_of(verb: str) -> dict[str, str]:
    """Return the sections of a page by their headings; the text before the first heading has the key ''."""
    parts = re.split(r"^## (.+)\n", (PAGES / f"{verb}.md").read_text(), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def table(text: str) -> list[list[str]]:
    """Return the rows of the Markdown tables in a text, without headings and code marks."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip().replace("`", "") for cell in row] for row in rows]
    return [row for row in cells if row[0] not in ("code", "option")]


def test_every_verb_has_a_page_and_every_page_a_verb() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_has_all_its_sections_and_is_linked_to_nothing_missing(verb: str) -> None:
    page = page_of(verb)
    assert page[""].startswith(f"# scriptorium {verb}\n")
    assert list(page) == ["", *SECTIONS]
    targets = re.findall(r"\]\(([^)#:]+)\)", (PAGES / f"{verb}.md").read_text())
    assert [target for target in targets if not (PAGES / target).exists()] == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_shows_the_usage_that_help_shows(verb: str) -> None:
    usage = re.findall(rf"^\s*(?:usage: )?(scriptorium {verb}.*?)\s*$", help_of(verb), re.MULTILINE)
    synopsis = page_of(verb)["Synopsis"].splitlines()
    assert usage[-1] in synopsis


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_lists_the_options_that_help_lists(verb: str) -> None:
    shown = options_in(re.split(r"^usage:", help_of(verb), flags=re.MULTILINE | re.IGNORECASE)[1])
    listed = set().union(*(options_in(row[0]) for row in table(page_of(verb)["Options"])))
    assert listed == shown
    assert "--help" in listed


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_lists_the_exit_codes_of_its_verb_and_no_others(verb: str) -> None:
    rows = table(page_of(verb)["Exit codes"])
    assert [(int(row[0]), row[1]) for row in rows] == [(int(code), code.name) for code in sorted(CODES[verb])]


@pytest.mark.parametrize("verb", VERBS)
def test_an_exit_code_has_one_wording_on_all_pages(verb: str) -> None:
    readme = (CHECKOUT / "README.md").read_text().split("### Exit codes\n")[1].split("\n#")[0]
    wording = {row[0]: row[1:] for row in table(readme)}
    rows = table(page_of(verb)["Exit codes"])
    assert {row[0]: row[1:] for row in rows} == {row[0]: wording[row[0]] for row in rows}


def test_every_exit_code_belongs_to_a_verb() -> None:
    assert list(CODES) == list(VERBS)
    assert set().union(*CODES.values()) == set(ExitCode)
    assert all(reason for codes in CODES.values() for reason in codes.values())


@pytest.mark.parametrize("verb", VERBS)
def test_without_git_a_verb_exits_with_a_code_of_its_page(project: Project, tmp_path: Path, verb: str) -> None:
    """The verbs that list CONFIG give it here, except `doctor`, whose result is that git is missing."""
    (tmp_path / "empty").mkdir()
    result = project.run(verb, *ARGUMENTS.get(verb, ()), env={"PATH": str(tmp_path / "empty")})
    wanted = {"doctor": ExitCode.FAILED, "submit-pr": ExitCode.USAGE}.get(verb, ExitCode.CONFIG)
    assert (result.code, result.code in CODES[verb]) == (wanted, True), result.err


def test_the_usage_lists_all_verbs_and_exit_codes() -> None:
    argv = [sys.executable, "-m", "scriptorium", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  ([a-z-]+) ", text, re.MULTILINE) == list(VERBS)
    assert [int(code) for code in re.findall(r"\b(\d+) [a-z]", text.partition("exit codes:")[2])] == list(ExitCode)
