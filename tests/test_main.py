"""The entry point: verbs, usage errors, exit codes, and no traceback without --debug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scriptorium.main import VERBS
from scriptorium.version import VERSION
from tests.support import CHECKOUT, Project, Result, write_script


def broken(project: Project) -> Path:
    """Return a directory for PYTHONPATH that makes `scriptorium status` fail with a bug."""
    path = project.root.parent / "broken"
    path.mkdir()
    (path / "sitecustomize.py").write_text(
        "import scriptorium.commands.status as status\ndef main(argv): raise KeyError('oops')\nstatus.main = main\n"
    )
    return path


def test_version_is_printed_everywhere_even_outside_a_repository(project: Project, tmp_path: Path) -> None:
    for argv in (("--version",), ("-V",)):
        assert project.run(*argv, cwd=tmp_path) == (0, f"scriptorium {VERSION}\n", "")


def test_help_lists_every_verb_and_every_exit_code(project: Project, tmp_path: Path) -> None:
    result = project.run("--help", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    for verb in VERBS:
        assert f"\n  {verb} " in result.out
    for code in (
        "1 failed",
        "2 usage",
        "3 held back",
        "4 bug",
        "75 lock held",
        "78 bad configuration",
        "130 interrupted",
    ):
        assert code in result.out
    assert project.run("help", cwd=tmp_path) == result


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_text(project: Project, tmp_path: Path, verb: str) -> None:
    result = project.run(verb, "--help", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert f"scriptorium {verb}" in result.out
    assert project.run("help", verb, cwd=tmp_path).out == result.out


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (("statsu",), "'statsu' is not a scriptorium command", "did you mean 'scriptorium status'?"),
        (("quux",), "'quux' is not a scriptorium command", "see 'scriptorium --help'"),
        (("--quux",), "'--quux' is not a scriptorium command", "see 'scriptorium --help'"),
        (("../sh",), "'../sh' is not a scriptorium command", "see 'scriptorium --help'"),
        (("status", "--jsn"), "unknown switch --jsn", "see 'scriptorium status --help'"),
        (("run", "--once", "--until-idle"), "given --once, the following are invalid ", ""),
        (("status", "extra"), "unexpected argument 'extra'", "see 'scriptorium status --help'"),
        (("rescue",), "'rescue' needs an action", "one of: list, restore, drop"),
        (
            ("hooks",),
            "'hooks' needs an action",
            "one of: install, uninstall, status",
        ),
        (("init", "a", "b"), "unexpected argument 'b'", "see 'scriptorium init --help'"),
        (("submit-pr",), "the summary is empty", 'scriptorium submit-pr "what changed and why"'),
        (("submit-pr", "done"), "this is not the run of a coding agent", ""),
    ],
)
def test_usage_error_is_one_line_and_a_hint_on_stderr(
    project: Project, argv: tuple[str, ...], message: str, hint: str
) -> None:
    result = project.run(*argv)
    assert (result.code, result.out) == (2, "")
    first, last = result.err.splitlines()
    assert first.lower().startswith(f"scriptorium: {message}")
    assert last.startswith("hint: ")
    assert last.endswith(hint)


def test_no_verb_shows_the_usage_on_stderr(project: Project) -> None:
    result = project.run()
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("usage: scriptorium <verb> [arguments]\n")


def test_program_on_path_is_a_verb_with_its_arguments_and_exit_code(project: Project, tmp_path: Path) -> None:
    write_script(tmp_path / "home" / "bin" / "scriptorium-hello", 'echo "hello $1 from $(pwd -P)"; cat; exit 7')
    result = project.run("hello", "big world", input="stdin, too\n")
    assert result == (7, f"hello big world from {project.root}\nstdin, too\n", "")


def test_program_on_path_does_not_replace_a_verb(project: Project, tmp_path: Path) -> None:
    write_script(tmp_path / "home" / "bin" / "scriptorium-status", "echo mine")
    project.init()
    assert "mine" not in project.run("status").out


@pytest.mark.parametrize("verb", VERBS)
def test_verb_runs_under_its_own_name_from_a_clone(project: Project, tmp_path: Path, verb: str) -> None:
    def run(*argv: str) -> Result:
        done = subprocess.run(
            argv, cwd=tmp_path, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, check=False
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    own = run(str(CHECKOUT / "bin" / f"scriptorium-{verb}"), "--help")
    assert own.code == 0
    assert own == run(str(CHECKOUT / "bin" / "scriptorium"), verb, "--help")


def test_bug_is_one_line_without_a_traceback(project: Project) -> None:
    path = {"PYTHONPATH": f"{broken(project)}{os.pathsep}{CHECKOUT}"}
    assert project.run("status", env=path) == (
        4,
        "",
        "scriptorium: this is a bug: KeyError: 'oops'\nhint: run it again with --debug and report what that prints\n",
    )


@pytest.mark.parametrize("argv", [("--debug", "status"), ("status", "--debug")])
def test_debug_shows_the_traceback_of_a_bug(project: Project, argv: tuple[str, ...]) -> None:
    result = project.run(*argv, env={"PYTHONPATH": f"{broken(project)}{os.pathsep}{CHECKOUT}"})
    assert (result.code, result.out) == (4, "")
    assert "Traceback (most recent call last):" in result.err
    assert "KeyError: 'oops'" in result.err


def test_debug_shows_the_traceback_of_a_failure_and_keeps_its_exit_code(project: Project) -> None:
    plain = project.run("status")
    assert "Traceback" not in plain.err
    for result in (project.run("status", "--debug"), project.run("status", env={"SCRIPTORIUM_DEBUG": "1"})):
        assert (result.code, result.out) == (plain.code, "")
        assert "Traceback (most recent call last):" in result.err
        assert result.err.endswith(plain.err)


def test_names_that_are_no_text_go_through_a_pipeline_in_any_locale(project: Project) -> None:
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as where a language is set
    project.init()
    project.agent("echo 1 >made; scriptorium submit-pr x")
    name = project.ticket("0001-caf\udce9")

    assigned = project.run("assign", env=strict)
    coded = project.run("code", input=assigned.out, env=strict)

    assert (assigned.code, assigned.err) == (0, "")
    assert (coded.code, coded.out) == (0, f"{name}\n")


def test_missing_package_is_told_with_the_remedy(project: Project, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['plumbum'] = None\n")
    result = project.run("status", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{CHECKOUT}"})
    assert (result.code, result.out) == (78, "")
    assert result.err.startswith("scriptorium: the Python package 'plumbum' is not installed\nhint: pip install ")


def test_reader_that_leaves_early_is_no_traceback(project: Project) -> None:
    project.init()
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m scriptorium status --json | true"],
        cwd=project.root,
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
