"""Documentation, prompts, hooks and source have none of the phrases that make prose hard to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import CHECKOUT

GAP = r"(?: |[ \t]*\n[ \t]*(?:# ?)?)"
"""Between two words: a space, or the end of a line, also of a comment."""

BEGINNING = r"(?:^[ \t]*(?:[-*] |\d+\. |\| )?|^[^#\n]*# |\"\"\"|(?<=[.!?:;] ))"
"""A sentence begins with a line, a list item, a cell, a comment or a docstring, or after another sentence."""

FORBIDDEN = {
    "'Return whether'": rf"(?i:\btells?{GAP}whether\b)",
    "'because' and the cause": rf"(?i:\bfor{GAP}want{GAP}of\b)",
    "'whether' or nothing": rf"(?i:\bbe{GAP}it\b)",
    "'our' or the owner": rf"(?i:\bof{GAP}ours\b)",
    "'their' or the owner": rf"(?i:\bof{GAP}theirs\b)",
    "\"the user's\" or 'your'": rf"(?i:\ba{GAP}person's\b)",
    "'submit'": rf"(?i:(?<!\bby )\bhand(?:s|ed|ing)?(?:-|{GAP})in\b)",
    "'repair'": r"(?i:\bmend(?:s|ed|ing)?\b(?!\.py))",
    "the noun instead of 'one'": rf"(?i:\bone{GAP}that\b)",
    "the noun instead of 'that'": rf"(?i:\bthat{GAP}of\b)",
    "a sentence with a noun as subject": BEGINNING + r"What\b(?![^.\n]*\?)",
}
"""The better wording, and a regular expression for the forbidden phrase."""


def sources() -> list[Path]:
    """Return every file of the source, relative to the checkout."""
    return sorted(path.relative_to(CHECKOUT) for path in (CHECKOUT / "scriptorium").rglob("*.py"))


def pages() -> list[Path]:
    """Return the documentation, the prompts and the hooks, relative to the checkout."""
    patterns = (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/**/*.md",
        "templates/prompts/*.md",
        "templates/*.mk",
        "hooks/*",
    )
    return sorted(path.relative_to(CHECKOUT) for pattern in patterns for path in CHECKOUT.glob(pattern))


def found_in(text: str, *, markdown: bool = False) -> list[str]:
    """Return each forbidden phrase in a text with its line and the remedy. Headings of Markdown may be questions."""
    text = re.sub(r"^#+ .*$", "", text, flags=re.MULTILINE) if markdown else text
    found = []
    for remedy, pattern in FORBIDDEN.items():
        for match in re.finditer(pattern, text, re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"line {line}: {' '.join(match[0].split())!r}: write {remedy}")
    return found


@pytest.mark.parametrize("path", [str(path) for path in pages()])
def test_a_page_has_no_forbidden_phrases(path: str) -> None:
    assert found_in((CHECKOUT / path).read_text(encoding="utf-8"), markdown=path.endswith(".md")) == []


@pytest.mark.parametrize("path", [str(path) for path in sources()])
def test_a_source_file_has_no_forbidden_phrases(path: str) -> None:
    assert found_in((CHECKOUT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "Tell whether it is there.",
        "It fails for want of\n# room.",
        "any file, be it large or small",
        "a worktree of ours",
        "a checkout of theirs",
        "in a person's checkout",
        "the ticket was handed in",
        "before handing\nin",
        "the hand-in was refused",
        "It mends the index.",
        "one that\n    was killed",
        "another ref than that of the plan",
        '"""What the file holds."""',
        "It is read.  What it says counts. What else.",
        "    # What is left is kept.",
        "- What is left is kept.",
    ],
)
def test_a_forbidden_phrase_is_found_with_its_line(text: str) -> None:
    [found] = found_in(f"first line\n{text}")
    assert found.startswith("line 2: ")


@pytest.mark.parametrize(
    "text",
    [
        "by hand in the worktree",
        "an amendment, and `test_nothing_is_handed_in`",
        "the content of their files",
        "What now? What is left?",
        "Whatever happens",
    ],
)
def test_other_words_are_not_found(text: str) -> None:
    assert found_in(text) == []


def test_a_heading_may_begin_with_what() -> None:
    assert found_in("## What it looks like\n", markdown=True) == []
