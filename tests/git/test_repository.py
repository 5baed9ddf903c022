"""Discovery and reading of all kinds of repositories, and updates of their refs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scriptorium.errors import ScriptoriumError
from scriptorium.git.errors import GitError
from scriptorium.git.objects import TreeEntry
from scriptorium.git.repository import RefUpdate, Repository
from scriptorium.project.paths import Paths
from tests.support import PLAN, Project, write_script


@pytest.fixture
def repository(project: Project) -> Repository:
    return Repository.discover(project.root)


@pytest.mark.parametrize("where", [".", "src/deep"])
def test_any_directory_of_the_working_tree_finds_it(project: Project, where: str) -> None:
    project.commit({"src/deep/file": ""})

    found = Repository.discover(project.root / where)
    assert (found.root, found.common_dir) == (project.root, project.root / ".git")


def test_a_linked_worktree_finds_the_main_one(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))

    found = Repository.discover(tmp_path / "linked")
    assert (found.root, found.common_dir) == (project.root, project.root / ".git")


def test_a_git_directory_elsewhere_is_followed(project: Project, tmp_path: Path) -> None:
    project.git("init", "--quiet", f"--separate-git-dir={tmp_path / 'store'}")

    found = Repository.discover(project.root)
    assert (found.root, found.common_dir) == (project.root, tmp_path / "store")


def test_a_submodule_is_a_repository_of_its_own(project: Project, tmp_path: Path) -> None:
    part = Project(tmp_path / "part")
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part.root), "part")

    assert Repository.discover(project.root / "part").root == project.root / "part"


ELSEWHERE = [
    ("project", "git init -q --separate-git-dir=store project"),
    ("project", "git init -q x; mkdir x/y; git init -q --separate-git-dir=x/y/.git project"),
    ("project", "mv project/.git store; ln -s ../store project/.git"),
    ("away", "mkdir away; git -C project config core.worktree ../../away; mv project/Makefile away"),
    ("s/part", "git init -q s; git -C s -c protocol.file.allow=always submodule --quiet add ../project part"),
]


@pytest.mark.parametrize(("main", "make"), ELSEWHERE)
def test_a_linked_worktree_finds_the_main_one_of_a_repository_of_any_form(
    project: Project, tmp_path: Path, main: str, make: str
) -> None:
    write_script(tmp_path / "make", make)
    assert os.system(f"cd '{tmp_path}' && ./make") == 0
    found = Repository.discover(tmp_path / main.replace("away", "project"))
    assert found.root == tmp_path / main
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"), cwd=found.common_dir)

    linked = Repository.discover(tmp_path / "linked")

    assert (linked.root, linked.common_dir) == (found.root, found.common_dir)
    assert Paths.of(linked.common_dir, linked.root) == Paths.of(found.common_dir, found.root)


@pytest.mark.parametrize("moved", [False, True])
def test_a_linked_worktree_whose_main_one_nobody_knows_is_refused(
    project: Project, tmp_path: Path, moved: bool
) -> None:
    project.git("init", "--quiet", f"--separate-git-dir={tmp_path / 'store'}")
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    if moved:
        Repository.discover(project.root)
        project.root.rename(tmp_path / "moved")

    with pytest.raises(ScriptoriumError) as caught:
        Repository.discover(tmp_path / "linked")
    assert str(caught.value) == (
        f"cannot tell where the main working tree of '{tmp_path / 'store'}' is\n"
        "hint: run 'scriptorium status' there once, then try again"
    )


def test_nothing_is_noted_in_a_repository_of_the_usual_form(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    Repository.discover(project.root)
    Repository.discover(tmp_path / "linked")
    assert list((project.root / ".git").glob("scriptorium*")) == []


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        ("mkdir x", "'{0}/x' is not a git repository", "run 'git init' there first"),
        ("git init -q --bare x", "'{0}/x' is a bare repository", "run scriptorium in a clone of it"),
        ("git init -q y && ln -s y/.git x", "'{0}/y/.git' is inside a git directory", "go to the working tree"),
        ("true", "'{0}/x' is not a directory", "name a directory inside a git repository"),
        ("touch x", "'{0}/x' is not a directory", "name a directory inside a git repository"),
    ],
)
def test_elsewhere_there_is_a_line_and_a_hint(tmp_path: Path, make: str, message: str, hint: str) -> None:
    script = write_script(tmp_path / "make", make)
    assert os.system(f"cd '{tmp_path}' && '{script}'") == 0

    with pytest.raises(ScriptoriumError) as caught:
        Repository.discover(tmp_path / "x")
    assert str(caught.value) == f"{message.format(tmp_path)}\nhint: {hint}"


def test_a_tree_is_read_with_any_name(project: Project, repository: Repository) -> None:
    names = ["größe.md", "line\nbreak", "latin-\udce9", 'quote" and \\', "  spaces  ", "tab\t", "folder/file"]
    project.commit_plan(dict.fromkeys(names, "text"))

    entries = repository.tree(repository.tree_of(PLAN))
    assert entries.keys() == {name.partition("/")[0] for name in names}
    assert entries["folder"].mode == "40000"
    assert entries["größe.md"] == TreeEntry("100644", "größe.md", repository.resolve(f"{PLAN}:größe.md"))


def test_a_file_is_found_by_any_name(project: Project, repository: Repository) -> None:
    project.commit_plan({"line\nbreak": "1", "caf\udce9/in\u2028it": "2"})
    commit, text = repository.resolve(PLAN), repository.resolve(f"{PLAN}:caf\udce9/in\u2028it")

    assert repository.blob(commit, "caf\udce9/in\u2028it") == text != ""
    assert repository.blob(commit, "line\nbreak") not in ("", text)
    assert {repository.blob(commit, path) for path in ("gone", "gone/in", "caf\udce9", "line\nbreak/in")} == {""}


def test_what_is_no_commit_and_no_tree_is_an_error(repository: Repository) -> None:
    blob = repository.resolve("master:Makefile")
    with pytest.raises(ScriptoriumError, match="is not a commit"):
        repository.tree_of(blob)
    with pytest.raises(ScriptoriumError, match="is not a tree"):
        repository.tree(blob)


@pytest.mark.parametrize("branch", ["master", "main", "trunk"])
def test_the_default_branch_is_the_one_there_is(tmp_path: Path, branch: str) -> None:
    project = Project(tmp_path / "named", branch)
    assert Repository.discover(project.root).default_branch() == branch


def test_master_is_preferred_to_main_and_to_what_is_checked_out(project: Project, repository: Repository) -> None:
    project.git("branch", "main")
    project.git("checkout", "--quiet", "-b", "feature")
    assert repository.default_branch() == "master"

    project.git("branch", "--delete", "--force", "master")
    assert repository.default_branch() == "main"


def test_the_default_branch_of_the_remote_comes_before_main(project: Project, tmp_path: Path) -> None:
    project.git("checkout", "--quiet", "-b", "develop")
    project.git("clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    project.git("checkout", "--quiet", "-b", "main", cwd=tmp_path / "clone")

    assert Repository.discover(tmp_path / "clone").default_branch() == "develop"


def test_without_a_commit_there_is_no_default_branch(tmp_path: Path, project: Project) -> None:
    project.git("init", "--quiet", str(tmp_path / "empty"))
    with pytest.raises(ScriptoriumError, match="has no commits"):
        Repository.discover(tmp_path / "empty").default_branch()


def test_refs_move_together_or_not_at_all(project: Project, repository: Repository) -> None:
    old = project.git("rev-parse", "master")
    new = project.commit({"file": "text"})
    updates = [RefUpdate("refs/heads/a", new, "0" * 40), RefUpdate("refs/heads/b", new, "0" * 40)]
    assert repository.update_refs(*updates)

    assert not repository.update_refs(RefUpdate("refs/heads/a", old, new), RefUpdate("refs/heads/b", old, old))
    assert not repository.update_refs(*updates)
    assert repository.refs("refs/heads/") == dict.fromkeys(("refs/heads/a", "refs/heads/b", "refs/heads/master"), new)

    assert repository.update_refs(RefUpdate("refs/heads/a", "", new))
    assert repository.resolve("refs/heads/a") == ""


def test_refs_of_any_name_are_told_and_moved(project: Project, repository: Repository) -> None:
    branches = ["x/a\u2028b", "x/a\x85b", "x/caf\udce9"]
    for branch in branches:
        project.git("branch", branch)
    tip = project.git("rev-parse", "master")

    assert repository.refs("refs/heads/x/") == {f"refs/heads/{branch}": tip for branch in branches}
    assert repository.branches_not_in(repository.resolve(project.commit({"x": "1"})), "x/") == []
    assert repository.update_refs(*(RefUpdate(f"refs/heads/{branch}", "", tip) for branch in branches))
    assert repository.refs("refs/heads/x/") == {}


def test_a_stream_that_git_refuses_leaves_no_crash_report(project: Project, repository: Repository) -> None:
    with pytest.raises(GitError, match="'git fast-import' failed: fatal: "):
        repository.fast_import(b"what is this\n")
    assert list(project.root.rglob("fast_import_crash*")) == []


def test_a_branch_of_ours_is_never_the_one_that_work_lands_on(tmp_path: Path) -> None:
    project = Project(tmp_path / "trunk", branch="trunk")
    project.init()
    project.git("checkout", "--quiet", PLAN)

    with pytest.raises(ScriptoriumError, match="cannot determine on which branch"):
        Repository.discover(project.root).default_branch()


def test_a_git_directory_that_is_a_link_is_followed(project: Project, tmp_path: Path) -> None:
    (project.root / ".git").rename(tmp_path / "git")
    (project.root / ".git").symlink_to(tmp_path / "git")

    assert Repository.discover(project.root).root == project.root
