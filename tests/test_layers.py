"""The order of the packages: each imports only from the packages below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "scriptorium"

# from bottom to top; packages of one layer do not import each other
LAYERS = (
    {"errors", "version"},
    {"system"},
    {"git"},
    {"plan"},
    {"project"},
    {"integrations", "worktrees"},
    {"gate"},
    {"agents"},
    {"planning", "coding", "review", "merge_queue"},
    {"reports", "scheduler"},
    {"web"},
    {"cli", "records"},
    {"commands"},
    {"main"},
    {"__main__"},
)
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
FILES = sorted(SOURCE.rglob("*.py"))


def package_of(file: Path) -> str:
    """Return the package of a file, or the name of a file at the top level."""
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line of each import of the project, wherever it stands, and the package that it names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "scriptorium":
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scriptorium."):
            yield node.lineno, (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("scriptorium.")]
            yield from ((node.lineno, name.split(".")[1]) for name in names)


def violations(file: Path, source: str) -> list[str]:
    """Return the imports of a file that break the order."""
    package = package_of(file)
    return [
        f"{file.relative_to(SOURCE.parent)}:{line} imports {other}"
        for line, other in imported(ast.parse(source))
        if other != package and LEVEL[other] >= LEVEL[package]
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_file_imports_only_from_the_packages_below(file: Path) -> None:
    if file != SOURCE / "__init__.py":
        assert violations(file, file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from scriptorium.commands.run import main",
        "from scriptorium import scheduler",
        "import scriptorium.agents.run",
        "def late():\n    from scriptorium.agents.run import run_agent",
    ],
)
def test_an_import_from_above_is_found(source: str) -> None:
    assert len(violations(SOURCE / "gate" / "command.py", source)) == 1


def test_an_import_from_the_same_layer_is_found() -> None:
    assert violations(SOURCE / "coding" / "attempt.py", "from scriptorium.planning.drafts import Draft")


def test_the_top_level_holds_only_what_all_verbs_share() -> None:
    files = {file.name for file in SOURCE.glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "main.py", "cli.py", "records.py", "errors.py", "version.py"}


def test_modules_of_a_package_do_not_import_each_other_in_a_cycle() -> None:
    names = {".".join(["scriptorium", *file.relative_to(SOURCE).with_suffix("").parts]): file for file in FILES}
    needs = {name: set(modules(file, names)) for name, file in names.items()}
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    assert needs == {}


def modules(file: Path, names: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of the project that a file imports at its top level."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module in names:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in names)
