"""`--debug` shows the origin of a failure; after a verb it belongs to the verb."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Project, write_script

PLAIN = "scriptorium: there is no branch 'scriptorium/plan'\nhint: run 'scriptorium --init' in this repository\n"


@pytest.mark.parametrize("argv", [("--debug", "status"), ("status", "--debug")])
def test_a_failure_comes_with_its_traceback(project: Project, argv: tuple[str, str]) -> None:
    code, out, err = project.run(*argv)
    assert (code, out) == (78, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(PLAIN)


def test_without_it_a_failure_is_one_line_and_a_hint(project: Project) -> None:
    assert project.run("status") == (78, "", PLAIN)


def test_an_extension_gets_the_word(project: Project, tmp_path: Path) -> None:
    write_script(tmp_path / "home" / "bin" / "scriptorium-echo", 'echo "$@"')
    assert project.run("echo", "a", "--debug", "b") == (0, "a --debug b\n", "")


def test_a_request_keeps_the_word(project: Project) -> None:
    project.init()
    project.agent("tail -n 1")
    assert project.run("plan", "--", "add", "a", "--debug", "switch").out == "add a --debug switch\n"
