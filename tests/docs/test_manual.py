"""The manual pages say what the commands say of themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest

from scriptorium.errors import ExitCode
from scriptorium.main import VERBS
from tests.support import CHECKOUT

PAGES = CHECKOUT / "docs" / "commands"
SECTIONS = ["Synopsis", "Options", "Input and output", "Exit codes", "Files", "Example"]


@cache
def help_of(verb: str) -> str:
    """Return what `--help` prints, on a terminal of usual width."""
    argv = [sys.executable, "-m", "scriptorium", verb, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@cache
def page_of(verb: str) -> dict[str, str]:
    """Return the sections of a page by their headings; what precedes them goes by ''."""
    parts = re.split(r"^## (.+)\n", (PAGES / f"{verb}.md").read_text(), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def table(text: str) -> list[list[str]]:
    """Return the rows of the Markdown tables in a text, headings left out, code marks taken off."""
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
def test_every_page_has_the_whole_table_of_exit_codes(verb: str) -> None:
    rows = table(page_of(verb)["Exit codes"])
    assert [(int(row[0]), row[1]) for row in rows] == [(int(code), code.name) for code in ExitCode]
    assert rows == table(page_of("init")["Exit codes"])


def test_the_usage_lists_all_verbs_and_exit_codes() -> None:
    argv = [sys.executable, "-m", "scriptorium", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^  ([a-z-]+) ", text, re.MULTILINE) == list(VERBS)
    assert [int(code) for code in re.findall(r"\b(\d+) [a-z]", text.partition("exit codes:")[2])] == list(ExitCode)
