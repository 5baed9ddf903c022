"""Bad neighbours with real programs: the pre-commit framework, husky and git-lfs in the user's repository."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from tests.neighbours.cases import in_order, kept, lands, shell, show, submitted
from tests.support import Project


@pytest.fixture(autouse=True)
def _plan(project: Project) -> None:
    project.init()


def needs(program: str, hint: str = "make integration-test") -> str:
    """Return the path of a program; without it the test fails, as a skipped test proves nothing."""
    found = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found, f"'{program}' is not on PATH\nhint: {hint}"
    return found


# -- hooks -------------------------------------------------------------------------------------------------

PRE_COMMIT = """\
repos:
- repo: local
  hooks:
  - {{id: mine, name: mine, entry: sh -c '{entry}', language: system, always_run: true, pass_filenames: false}}
"""


def pre_commit(project: Project, entry: str) -> None:
    """Make the pre-commit framework run a command before each commit, with a committed configuration."""
    project.commit({".pre-commit-config.yaml": PRE_COMMIT.format(entry=entry)})
    shell(project, f"{needs('pre-commit')} install")
    assert (project.root / ".git" / "hooks" / "pre-commit").exists()


def husky(project: Project, entry: str) -> None:
    """Do the same with husky, which points core.hooksPath at its own directory in the tree."""
    project.commit({".husky/pre-commit": f"{entry}\n"})
    shell(project, needs("husky"))
    assert project.git("config", "core.hooksPath") == ".husky/_"


FRAMEWORKS = pytest.mark.parametrize("framework", [pre_commit, husky])


@FRAMEWORKS
def test_a_hook_that_refuses_keeps_no_ticket_from_landing(
    project: Project, facts: Path, framework: Callable[[Project, str], None]
) -> None:
    """The hook runs for commits of users and agents; the gate decides what lands."""
    framework(project, 'echo asked >>"$FACTS/asked"; exit 1')
    with pytest.raises(AssertionError, match="git commit"):
        project.commit({"mine": "1\n"})
    project.git("reset", "--quiet", "--hard")

    lands(project, "echo 1 >file; git add file; git commit -qm One || true")

    # the directory of husky is ignored, so it is in no worktree of a ticket
    assert (facts / "asked").read_text().split() == ["asked"] * (2 if framework is pre_commit else 1)
    assert (show(project), project.git("status", "--porcelain")) == ("1", "")


@FRAMEWORKS
def test_a_hook_that_hangs_holds_up_no_step(project: Project, framework: Callable[[Project, str], None]) -> None:
    framework(project, "exec sleep 600")
    lands(project, "echo 1 >file")
    assert project.git("status", "--porcelain") == ""


def test_what_a_hook_makes_of_a_file_is_what_lands(project: Project) -> None:
    pre_commit(project, "test ! -e file || echo formatted >file")
    lands(project, "echo 1 >file; git add file; git commit -qm One || git commit -qam One")
    assert show(project) == "formatted"


# -- git-lfs -----------------------------------------------------------------------------------------------

POINTER = "version https://git-lfs.github.com/spec/v1\n"


@pytest.fixture
def lfs(project: Project) -> Project:
    """A project that keeps *.bin in git-lfs, with one such file."""
    needs("git-lfs", "apt-get install git-lfs")
    shell(project, "git lfs install --local; git lfs track '*.bin'")
    (project.root / "one.bin").write_bytes(b"\0one")
    shell(project, "git add .gitattributes one.bin; git commit -qm 'Track by git-lfs'")
    assert show(project, "one.bin").startswith(POINTER)
    return project


def test_lfs_files_are_whole_for_agents_and_gates_and_pointers_on_master(lfs: Project) -> None:
    lfs.configure(gate="test $(wc -c <one.bin) = 4 && { test ! -e two.bin || test $(wc -c <two.bin) = 8; }")

    lands(lfs, r"test $(wc -c <one.bin) = 4; printf '\0another' >two.bin")

    assert show(lfs, "two.bin").startswith(POINTER)
    assert (lfs.root / "two.bin").read_bytes() == b"\0another"
    assert lfs.git("status", "--porcelain") == ""
    assert lfs.git("lfs", "fsck") == "Git LFS fsck OK"


def test_lfs_files_that_were_not_submitted_are_kept_whole(lfs: Project) -> None:
    name = submitted(lfs, r"printf '\0agent' >one.bin")
    (lfs.worktree(name) / "mine.bin").write_bytes(b"\0of a person")

    assert process_next(lfs.workspace) == ItemResult(name, ItemOutcome.LANDED)

    assert [text.startswith(POINTER) for text in kept(lfs, "mine.bin")] == [True]
    _, row = lfs.run("rescue", "list").out.splitlines()
    restored = lfs.run("rescue", "restore", row.split("\t")[0])
    assert restored.code == 0, restored
    lfs.git("checkout", "--quiet", restored.out.split("\t")[1].strip())
    assert (lfs.root / "mine.bin").read_bytes() == b"\0of a person"
    assert (lfs.root / "one.bin").read_bytes() == b"\0agent"


def test_a_conflict_in_a_file_of_git_lfs_is_for_the_agent_to_resolve(lfs: Project) -> None:
    name = submitted(lfs, r"printf '\0agent' >one.bin")
    (lfs.root / "one.bin").write_bytes(b"\0person")
    lfs.git("commit", "--quiet", "--all", "--message", "Theirs")

    assert process_next(lfs.workspace) == ItemResult(name, ItemOutcome.REOPENED)
    assert (lfs.root / "one.bin").read_bytes() == b"\0person"
    assert submitted(lfs, r"printf '\0both' >one.bin") == name
    assert process_next(lfs.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert (lfs.root / "one.bin").read_bytes() == b"\0both"
    in_order(lfs, name)


def test_content_that_git_lfs_cannot_get_is_no_fault_of_the_ticket(lfs: Project) -> None:
    objects, elsewhere = lfs.root / ".git" / "lfs" / "objects", lfs.root.parent / "elsewhere"
    objects.rename(elsewhere)  # as if its server cannot be reached
    name = lfs.ticket("0001")
    lfs.agent("echo 1 >file; scriptorium submit-pr x")

    result = lfs.run("assign")

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"scriptorium: ticket '{name}': cannot create its worktree: ")
    shutil.copytree(elsewhere, objects, dirs_exist_ok=True)
    assert lfs.run("code", name)[:2] == (0, f"{name}\n")
    assert process_next(lfs.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert "attempts:" not in lfs.plan_files()[f"tickets/done/{name}.md"]
