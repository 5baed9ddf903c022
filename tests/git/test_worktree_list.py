"""The branches of worktrees, and the pruning of missing worktrees."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from scriptorium.git.repository import Repository
from scriptorium.git.worktree_list import add, present_worktrees_on, rebase_in_progress, remove_if_clean, worktrees_on
from scriptorium.worktrees.prune import prune
from tests.support import Project


@pytest.fixture
def repository(project: Project) -> Repository:
    return Repository.discover(project.root)


def test_checkouts_of_a_branch_are_found_wherever_they_are(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    assert present_worktrees_on(repository, "master") == [project.root]
    assert present_worktrees_on(repository, "work") == []

    add(repository, tmp_path / "linked", "work", "master")
    assert present_worktrees_on(repository, "work") == [tmp_path / "linked"]


def test_checkouts_are_found_beside_branches_and_heads_that_are_no_text(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    project.git("worktree", "add", "--quiet", "-b", "caf\udce9", str(tmp_path / "linked"))
    torn = project.root / ".git" / "worktrees" / "torn"
    torn.mkdir()
    (torn / "HEAD").write_bytes(b"\xff")
    (torn / "gitdir").write_text("/nowhere/.git\n")

    assert present_worktrees_on(repository, "master") == [project.root]
    assert present_worktrees_on(repository, "caf\udce9") == [tmp_path / "linked"]


def test_a_checkout_is_found_by_a_relative_path(project: Project, tmp_path: Path, repository: Repository) -> None:
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    # as git 2.48 writes it with worktree.useRelativePaths
    (project.root / ".git" / "worktrees" / "linked" / "gitdir").write_text("../../../../linked/.git\n")

    assert present_worktrees_on(repository, "work") == [tmp_path / "linked"]


@pytest.mark.parametrize("name", ["bare", "hub/.git"])
def test_a_bare_repository_has_the_checkouts_of_its_worktrees_alone(
    project: Project, tmp_path: Path, name: str
) -> None:
    bare, linked = tmp_path / name, tmp_path / "linked"
    project.git("clone", "--quiet", "--bare", str(project.root), str(bare))
    project.git("worktree", "add", "--quiet", str(linked), "master", cwd=bare)

    assert present_worktrees_on(Repository.discover(linked), "master") == [linked]


def test_a_checkout_that_cannot_be_read_for_now_is_not_taken_for_none(project: Project) -> None:
    repository = Repository.discover(project.root)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            present_worktrees_on(repository, "master")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert present_worktrees_on(repository, "master") == [project.root]


def test_a_missing_worktree_that_git_cannot_read_is_pruned(project: Project, repository: Repository) -> None:
    place = project.paths.ensure(project.paths.health_worktree.parent) / "health"
    add(repository, place, start="master")
    record = project.root / ".git" / "worktrees" / "health"
    (record / "commondir").write_text("")  # it ends every git that goes through the worktrees
    shutil.rmtree(place)

    prune(repository, project.paths.home)

    assert not record.exists()
    project.git("fsck")


def test_a_file_that_differs_by_case_alone_makes_a_worktree_unclean(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    project.git("config", "core.ignoreCase", "true")
    add(repository, tmp_path / "linked", "work", "master")
    (tmp_path / "linked" / "MAKEFILE").touch()
    assert not remove_if_clean(repository, tmp_path / "linked")

    (tmp_path / "linked" / "MAKEFILE").unlink()
    assert remove_if_clean(repository, tmp_path / "linked")


@pytest.mark.parametrize("link", ["missing", "empty"])
def test_an_incomplete_worktree_is_pruned_after_a_minute(project: Project, repository: Repository, link: str) -> None:
    begun = project.root / ".git" / "worktrees" / "health"
    begun.mkdir(parents=True)
    if link == "empty":
        (begun / "gitdir").touch()
    (begun / "locked").write_text("initializing\n")
    prune(repository, project.paths.home)
    assert begun.exists()

    os.utime(begun / "locked", (0, 0))
    prune(repository, project.paths.home)
    assert not begun.exists()


def test_a_missing_worktree_has_its_branch_only_while_it_is_locked(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    for name in ("away", "removed", "emptied"):
        project.git("worktree", "add", "--quiet", "--force", str(tmp_path / name), "master")
    project.git("worktree", "lock", str(tmp_path / "away"))
    for name in ("away", "removed", "emptied"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "emptied").mkdir()

    assert present_worktrees_on(repository, "master") == [project.root]
    assert [(holder.path, holder.is_missing_but_locked) for holder in worktrees_on(repository, "master")] == [
        (project.root, False),
        (tmp_path / "away", True),
    ]


def test_a_worktree_that_cannot_be_looked_at_holds_its_branch(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    (tmp_path / "linked" / ".git").unlink()
    (tmp_path / "linked" / ".git").symlink_to(".git")  # a circle: ELOOP, as it could be EACCES or EIO

    assert present_worktrees_on(repository, "work") == [tmp_path / "linked"]


def test_a_main_working_tree_that_cannot_be_looked_at_holds_its_branch(project: Project, tmp_path: Path) -> None:
    project.git("init", "--quiet", f"--separate-git-dir={tmp_path / 'store'}")
    repository = Repository.discover(project.root)
    project.root.rename(tmp_path / "moved")
    assert present_worktrees_on(repository, "master") == []

    project.root.symlink_to(project.root.name)
    assert present_worktrees_on(repository, "master") == [project.root]
    project.root.unlink()


def test_who_is_on_a_branch_that_stands_for_another_holds_that(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    project.git("branch", "trunk")
    project.git("symbolic-ref", "refs/heads/between", "refs/heads/trunk")
    project.git("symbolic-ref", "refs/heads/master", "refs/heads/between")
    (project.root / ".git" / "rebase-merge").mkdir()
    (project.root / ".git" / "rebase-merge" / "head-name").write_text("refs/heads/master\n")

    assert present_worktrees_on(repository, repository.resolve_branch("master")) == [project.root]
    assert rebase_in_progress(repository, "trunk") == project.root / ".git"
    assert present_worktrees_on(repository, "master") == []


def test_a_head_that_is_a_link_names_a_branch_as_well(project: Project, repository: Repository) -> None:
    project.git("-c", "core.preferSymlinkRefs=true", "symbolic-ref", "HEAD", "refs/heads/master")
    assert (project.root / ".git" / "HEAD").is_symlink()

    assert present_worktrees_on(repository, "master") == [project.root]


@pytest.mark.parametrize("place", ["home", "elsewhere"])
def test_an_inaccessible_worktree_is_not_pruned_and_blocks_nothing(
    project: Project, repository: Repository, tmp_path: Path, place: str
) -> None:
    project.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    record = project.root / ".git" / "worktrees" / "linked"
    above = {"home": project.paths.ensure(project.paths.home), "elsewhere": tmp_path}[place]
    strange = above / ("x" * 300)  # ENAMETOOLONG, for EACCES
    (record / "gitdir").write_text(f"{strange}/.git\n")

    prune(repository, project.paths.home)

    assert (record / "index").exists()


@pytest.mark.parametrize(
    ("branch", "name"), [("scriptorium/ticket-0001", "0001-thing"), ("", "health"), ("topic", "theirs")]
)
@pytest.mark.parametrize("emptied", [True, False])
def test_remains_of_a_worktree_without_its_gitdir_file_are_pruned(
    project: Project, repository: Repository, tmp_path: Path, branch: str, name: str, emptied: bool
) -> None:
    add(repository, tmp_path / name, branch, "master")
    record = project.root / ".git" / "worktrees" / name
    shutil.rmtree(tmp_path / name)
    (record / "gitdir").unlink()
    if emptied:
        (record / "index").write_text("")

    prune(repository, project.paths.home)

    assert record.exists() == (name == "theirs" and not emptied)


def test_a_copy_of_a_repository_has_none_of_the_worktrees_of_the_first(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    shutil.copytree(project.root, tmp_path / "copy", symlinks=True)

    assert present_worktrees_on(Repository.discover(tmp_path / "copy"), "work") == []
    assert present_worktrees_on(Repository.discover(project.root), "work") == [tmp_path / "linked"]


def test_a_repository_that_was_moved_has_its_worktrees_still(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    project.root.rename(tmp_path / "moved")

    assert present_worktrees_on(Repository.discover(tmp_path / "moved"), "work") == [tmp_path / "linked"]


def test_a_rebase_counts_as_long_as_its_worktree_is_there(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    git_dir = project.root / ".git" / "worktrees" / "linked"
    (git_dir / "rebase-merge").mkdir()
    (git_dir / "rebase-merge" / "head-name").write_text("refs/heads/work\n")
    assert rebase_in_progress(repository, "work") == git_dir

    shutil.rmtree(tmp_path / "linked")
    assert rebase_in_progress(repository, "work") is None
