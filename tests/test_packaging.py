"""The shipped packages: the same program from a wheel, an editable install and a clone.

Built and installed as a user does it, into fresh environments, but without a network: what it
depends on is lent by the environment that the tests run in.
"""

from __future__ import annotations

import os
import re
import shlex
import site
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from scriptorium.main import VERBS
from scriptorium.version import VERSION
from tests.docs.test_readme import block_with
from tests.support import CHECKOUT, Project, write_script

pytestmark = pytest.mark.slow

SCRIPTS = {"scriptorium", "git-scriptorium", *(f"scriptorium-{verb}" for verb in VERBS)}
OFFLINE = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]


def environment(path: Path) -> Path:
    """Make a virtual environment that has what we depend on, and return its directory of programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    [packages] = path.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text("".join(f"{place}\n" for place in site.getsitepackages()))
    return path / "bin"


def install(command: str, programs: Path) -> None:
    """Run a `pip install …` of the README for an environment."""
    pip = programs.parent / "tools"
    pip.mkdir()
    write_script(pip / "pip", f'exec {shlex.quote(sys.executable)} -m pip --python {programs / "python"} "$@"')
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        ["sh", "-ec", f"{command} {shlex.join(OFFLINE)}"],
        cwd=CHECKOUT,
        env={**env, "PATH": f"{pip}{os.pathsep}{env['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["wheel", "editable", "clone"])
def programs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the programs, installed in one of three ways."""
    monkeypatch.delenv("PYTHONPATH")
    if request.param == "clone":
        monkeypatch.setenv("PYTHON", sys.executable)
        return CHECKOUT / "bin"
    command = block_with("pip install .").strip()
    programs = environment(tmp_path / "environment")
    install(command.replace("install .", "install --editable .") if request.param == "editable" else command, programs)
    return programs


def test_every_program_is_there_and_finds_what_is_shipped_with_it(programs: Path, project: Project) -> None:
    found = {path.name for path in programs.iterdir() if "scriptorium" in path.name and os.access(path, os.X_OK)}
    assert found == SCRIPTS

    def run(*argv: str) -> str:
        done = subprocess.run(
            [programs / argv[0], *argv[1:]], cwd=project.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("scriptorium", "--version") == f"scriptorium {VERSION}\n"
    assert run("git-scriptorium", "--version") == f"scriptorium {VERSION}\n"
    run("scriptorium-init")
    # prompts are in templates/, hooks in hooks/
    project.agent('grep -q "You are the Architect" && echo "A thing." >spec.md')
    run("scriptorium-plan", "a thing")
    assert project.plan_files()["spec.md"] == "A thing.\n"
    assert run("scriptorium-hooks", "install") == "post-commit\tinstalled\npost-merge\tinstalled\n"
    assert run("scriptorium", "hooks", "status") == "post-commit\tinstalled\npost-merge\tinstalled\n"
    assert "Open: 0\n" in run("scriptorium-status")


def test_the_demo_runs_from_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    programs = environment(tmp_path / "environment")
    install(block_with("pip install .").strip(), programs)
    done = subprocess.run([programs / "scriptorium", "demo"], cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "Done: 3\n" in done.stdout


def test_the_wheel_holds_the_package_and_its_files_and_nothing_else(tmp_path: Path) -> None:
    build = f"import hatchling.build; hatchling.build.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=CHECKOUT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name == f"git_scriptorium-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        *(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "scriptorium").rglob("*.py")),
        "scriptorium/py.typed",
        *(
            f"scriptorium/_share/{path.relative_to(CHECKOUT).as_posix()}"
            for shared in ("hooks", "templates")
            for path in (CHECKOUT / shared).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ),
    }
    assert names == expected


def test_every_dependency_has_a_floor_and_a_ceiling() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    named = [one for group in groups for one in group if isinstance(one, str)]
    assert len(named) > len(project["project"]["dependencies"])
    assert [one for one in named if not re.fullmatch(r"[\w.-]+>=[\d.]+,<[\d.]+", one)] == []
