"""Every row of docs/support.md has a status, every tested row names its tests, and these exist."""

from __future__ import annotations

import re

from scriptorium.git.command import MINIMUM
from tests.support import CHECKOUT

PAGE = (CHECKOUT / "docs" / "support.md").read_text()
ROWS = [row.strip("| ").split(" | ") for row in re.findall(r"^\| .+ \|$", PAGE, re.MULTILINE)]
MATRIX = [row for row in ROWS if len(row) == 3 and row[1] not in ("status", "---")]


def test_every_row_has_one_of_the_three_statuses_and_a_reason() -> None:
    assert len(MATRIX) > 50
    assert {row[1] for row in MATRIX} == {"tested", "untested", "unsupported"}
    assert all(row[2] for row in MATRIX)


def test_every_named_test_and_file_exists() -> None:
    named = re.findall(r"`([\w/]+\.(?:py|json)|\w+/)(?:::(test_\w+))?`", "".join(row[2] for row in MATRIX))
    files = {file: CHECKOUT / "tests" / file for file, _ in named}
    assert [file for file, path in files.items() if not path.exists()] == []
    missing = [test for file, test in named if test and f"def {test}(" not in files[file].read_text(encoding="utf-8")]
    assert missing == []


def test_the_versions_are_those_of_the_code() -> None:
    minimum = ".".join(map(str, MINIMUM))
    assert [row[0] for row in MATRIX if "git that is too old" in row[2].replace("_", " ")] == [f"before {minimum}"]
    packages = (CHECKOUT / "tests" / "integration" / "package.json").read_text()
    for program, package in (("codex", "@openai/codex"), ("claude-code", "claude-code"), ("opencode", "opencode-ai")):
        [row] = [row for row in MATRIX if re.match(rf"{program} [\d.]+$", row[0])]
        assert f'{package}": "{row[0].split()[1]}"' in packages
    project = (CHECKOUT / "pyproject.toml").read_text()
    [python] = re.findall(r'^requires-python = ">=(.+)"$', project, re.MULTILINE)
    assert any(row[0] == f"before {python}" and row[1] == "unsupported" for row in MATRIX)
    build = (CHECKOUT / ".github" / "workflows" / "build.yml").read_text()
    [built] = re.findall(r"^ +python: \[(.+)\]$", build, re.MULTILINE)
    section = PAGE.split("## Python\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| ([\d.]+) \| tested \|", section, re.MULTILINE) == re.findall(r"[\d.]+", built)
