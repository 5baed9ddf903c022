"""Bad configuration and missing programs: a line and a hint, exit code 78, and nothing changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.commands.bad_input_cases import picture, refused
from tests.support import Project, write_script


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('{\n  "gate": "true",\n  oops\n}\n', "line 3 is not JSON: ", "edit 'scriptorium.json'"),
        ("", "line 1 is not JSON: ", "edit 'scriptorium.json'"),
        ("[]", "it is not an object but a list", ""),
        ('{"modles": {}}', "unknown key 'modles'", "did you mean 'models'?"),
        ('{"models": {"codign": "x"}}', "unknown key 'models.codign'", "did you mean 'coding'?"),
        ('{"quux": 1}', "unknown key 'quux'", "known here: "),
        ('{"models": []}', "'models' is a list, and should be an object", ""),
        ('{"models": {"coding": 5}}', "'models.coding' is a number, and should be a string", ""),
        ('{"max_attempts": "5"}', "'max_attempts' is a string, and should be a number", ""),
        ('{"max_attempts": 0}', "'max_attempts' is 0, and should be 1 or more", ""),
        ('{"gate": true}', "'gate' is true or false, and should be a string", ""),
        ('{"gate": null}', "'gate' is null, and should be a string", ""),
        ('{"gate": "a", "gate": "b"}', "duplicate key 'gate'", ""),
        ('{"endpoints": {"local": "8097"}}', "'endpoints.local' is '8097'", "http://127.0.0.1:8097"),
        ('{"endpoints": {"local": "http://127.0.0.1"}}', "'endpoints.local' is 'http://127.0.0.1'", "8097"),
        ('{"endpoints": {"local": "http://127.0.0.1:99999"}}', "'endpoints.local' is 'http://127.0.0.1:99999'", ""),
        ('{"endpoints": {"local": "http://0.0.0.0:80"}}', "'endpoints.local' is 'http://0.0.0.0:80', not on", ""),
        ('{"harnesses": {"mine": {"command": "./agent"}}}', "'harnesses.mine.command' is a string", "edit"),
        ('{"reasoning_effort": {"coding": "huge"}}', "'reasoning_effort.coding' is 'huge'", "one of: minimal, low"),
        ('{"logLevel": "LOUD"}', "'logLevel' is 'LOUD'", "one of: DEBUG, INFO"),
    ],
)
def test_wrong_configuration(project: Project, text: str, message: str, hint: str) -> None:
    project.init()
    (project.root / "scriptorium.json").write_text(text)
    before = picture(project)
    for verb in ("health", "run"):
        result = project.run(verb)
        assert (result.code, result.out) == (78, "")
        first, last = result.err.splitlines()
        assert first.startswith(f"scriptorium: 'scriptorium.json': {message}")
        assert last.startswith("hint: ")
        assert hint in last
    assert picture(project) == before


def test_configuration_that_is_no_text(project: Project) -> None:
    project.init()
    (project.root / "scriptorium.json").write_bytes(b'{"gate": "\xff"}')
    result = project.run("run")
    assert (result.code, result.out) == (78, "")
    assert result.err.startswith("scriptorium: 'scriptorium.json': cannot be read: ")


def test_codex_that_is_not_on_path(project: Project, tmp_path: Path) -> None:
    project.init()
    project.commit_plan({"spec.md": "# Tool\n"})
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("git", "make", "sh"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    before = picture(project)
    for argv in (("run",), ("plan", "Write a tool"), ("architect",)):
        result = project.run(*argv, env={"PATH": str(tools)})
        refused(result, 78, "'codex' is not on PATH", "npm i -g @openai/codex")
    assert picture(project) == before


def test_agent_program_that_is_missing(project: Project) -> None:
    project.init()
    project.agent("true").unlink()
    before = picture(project)
    result = project.run("run")
    what = f"'{project.root.parent / 'agent'}' is not an executable file"
    refused(result, 78, what, "check 'harnesses.script.command'")
    assert picture(project) == before


@pytest.mark.parametrize(
    ("backend", "hint"),
    [
        ("claude", "did you mean 'claude-code'?"),
        ("scrip", "did you mean 'script'?"),
        ("zzz", "one of: codex, claude-code, typoi, script"),
    ],
)
def test_backend_that_there_is_not(project: Project, backend: str, hint: str) -> None:
    project.init()
    project.agent("true")
    project.configure(agents={"architect": {"harness": backend}})
    result = project.run("run")
    refused(result, 78, f"role 'architect' names the unknown backend '{backend}'", hint)


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("scirpt", "only typoi takes model 'scirpt'; did you mean 'script'?"),
        (
            "llama-5",
            "only typoi takes model 'llama-5'; "
            "known: 'gpt-…' and 'codex-…' (codex), 'claude-…' (claude-code), 'script'",
        ),
    ],
)
def test_model_of_typoi_where_that_is_not_installed(project: Project, model: str, hint: str) -> None:
    project.init()
    project.agent("true")
    project.configure(models={"architect": model})
    refused(project.run("run"), 78, "'typoi' is not on PATH", hint)


@pytest.mark.parametrize("verb", ["--init", "status", "run"])
def test_git_that_is_too_old(project: Project, tmp_path: Path, verb: str) -> None:
    write_script(tmp_path / "home" / "bin" / "git", "echo git version 2.30.2")
    result = project.run(verb)
    (tmp_path / "home" / "bin" / "git").unlink()
    refused(result, 78, "'git version 2.30.2' is too old", "install git 2.34 or newer")
    assert project.git("for-each-ref", "--format=%(refname)") == "refs/heads/master"


def test_git_that_is_missing(project: Project, tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    result = project.run("status", env={"PATH": str(tmp_path / "tools")})
    refused(result, 78, "'git' is not on PATH", "install git")
