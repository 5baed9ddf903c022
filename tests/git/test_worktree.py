"""Git in a worktree that an agent can write to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scriptorium.git import command, worktree_list
from scriptorium.git.errors import GitError
from scriptorium.git.index import index_entries
from scriptorium.git.repository import Repository
from scriptorium.git.worktree import Worktree
from tests.support import Project, write_script


@pytest.fixture
def repository(project: Project) -> Repository:
    return Repository.discover(project.root)


@pytest.fixture
def worktree(project: Project, repository: Repository, tmp_path: Path) -> Path:
    path = tmp_path / "worktree"
    worktree_list.add(repository, path, "work", project.git("rev-parse", "HEAD"))
    return path


def test_a_broken_worktree_is_an_error_and_never_the_repository_around_it(project: Project) -> None:
    repository = Repository.discover(project.root)
    inside = project.root / "inside"
    worktree_list.add(repository, inside, start="master")
    tree = Worktree(repository, inside)
    (inside / ".git").unlink()
    (inside / "file").write_text("work\n")
    before = project.git("for-each-ref"), project.git("status", "--porcelain", "--ignored")

    for attempt in (
        lambda: tree.reset("master"),
        lambda: tree.commit([], "Not to be"),
        lambda: tree.changes(),
        lambda: tree.head(),
    ):
        with pytest.raises(GitError):
            attempt()
    assert (project.git("for-each-ref"), project.git("status", "--porcelain", "--ignored")) == before
    assert (inside / "file").read_text() == "work\n"


def test_hooks_and_signing_of_the_user_are_left_out(project: Project, repository: Repository, tmp_path: Path) -> None:
    for hook in ("pre-commit", "commit-msg", "post-commit", "post-checkout"):
        write_script(project.root / ".git" / "hooks" / hook, f"touch '{tmp_path}/{hook}'; exit 1")
    project.git("config", "commit.gpgSign", "true")
    project.git("config", "user.signingKey", "nobody")
    worktree = tmp_path / "worktree"
    worktree_list.add(repository, worktree, "work", "master")
    (worktree / "file").write_text("text")

    tree = Worktree(repository, worktree)
    tree.commit(tree.changes(), "Work")
    assert project.git("log", "-1", "--format=%an %s", "work") == "scriptorium Work"
    assert not list(tmp_path.glob("*-commit")) + list(tmp_path.glob("post-*"))


def test_a_merge_with_conflicts_is_undone_and_named(project: Project, repository: Repository, tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    worktree_list.add(repository, worktree, "work", "master")
    (worktree / "Makefile").write_text("theirs\n")
    tree = Worktree(repository, worktree)
    tree.commit(tree.changes(), "Work")
    tip = project.git("rev-parse", "work")
    master = project.gate("false")

    assert tree.merge(master, "Merge") == ["Makefile"]
    assert tree.head() == ("work", tip)
    assert tree.changes() == []


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a file `sprung` beside itself."""
    return write_script(tmp_path / "trap", f"touch '{tmp_path}/sprung'\ncat")


def laid(project: Project, path: Path, trap: Path) -> None:
    """Create a repository whose configuration and attributes name a program wherever git might run one."""
    project.git("init", "--quiet", str(path))
    for key in ("filter.trap.clean", "filter.trap.smudge", "diff.trap.textconv", "diff.trap.command", "core.fsmonitor"):
        project.git("config", key, str(trap), cwd=path)
    project.git("config", "merge.trap.driver", str(trap), cwd=path)
    write_script(path / ".git" / "hooks" / "post-index-change", f"'{trap}' </dev/null")
    (path / "file").write_text("one\n")
    project.git("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "add", "file", cwd=path)
    project.git(
        "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", "x", cwd=path
    )
    (path / ".gitattributes").write_text("* filter=trap diff=trap merge=trap\n")
    (path / "file").write_text("two\n")


CALLS: dict[str, Callable[[Worktree, str], object]] = {
    "head": lambda tree, _: tree.head(),
    "changes": lambda tree, _: tree.changes(),
    "snapshot": lambda tree, commit: tree.snapshot(tree.changes(), commit, "why"),
    "commit": lambda tree, _: tree.commit(tree.changes(), "why"),
    "merge": lambda tree, commit: tree.merge(commit, "why"),
    "take_back": lambda tree, commit: tree.take_back(commit),
    "reset_detached": lambda tree, commit: tree.reset_detached(commit),
    "reset": lambda tree, commit: tree.reset(commit),
    "unpushed": lambda tree, commit: tree.unpushed_submodules({"sub": commit}),
}


def test_a_repository_inside_of_a_worktree_runs_none_of_its_programs(
    project: Project, repository: Repository, worktree: Path, trap: Path
) -> None:
    laid(project, worktree / "sub", trap)
    head = project.git("rev-parse", "HEAD", cwd=worktree / "sub")
    trap.with_name("sprung").unlink(missing_ok=True)
    (worktree / ".gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = ../sub\n\tignore = none\n')
    master = project.commit({"other": "text"})

    for name, call in CALLS.items():
        if name == "merge":
            with pytest.raises(GitError, match="'sub' is a repository of its own"):
                call(Worktree(repository, worktree), master)
        else:
            call(Worktree(repository, worktree), master)
        assert not trap.with_name("sprung").exists(), name
        if name == "commit":
            assert project.git("rev-parse", "work:sub") == head

    assert Worktree(repository, worktree).changes() == []


@pytest.mark.parametrize("kind", ["file", "directory", "link", "pipe", "circle", "junk", "nothing"])
def test_a_replaced_git_file_is_refused_and_not_followed(
    project: Project, repository: Repository, worktree: Path, trap: Path, tmp_path: Path, kind: str
) -> None:
    laid(project, tmp_path / "own", trap)
    project.git("config", "core.worktree", str(project.root), cwd=tmp_path / "own")
    (project.root / "precious").write_text("not in any commit")
    trap.with_name("sprung").unlink(missing_ok=True)
    file, directory = worktree / ".git", tmp_path / "own" / ".git"
    file.unlink()
    match kind:
        case "file":
            file.write_text(f"gitdir: {directory}\n")
        case "directory":
            directory.rename(file)
        case "link":
            file.symlink_to(directory)
        case "pipe":
            os.mkfifo(file)
        case "circle":
            file.symlink_to(file)
        case "junk":
            file.write_bytes(b"gitdir: \0\xff\n")
    for name, call in CALLS.items():
        if name == "unpushed":
            continue  # it looks at what lies in a worktree
        with pytest.raises(GitError, match="is not a worktree of"):
            call(Worktree(repository, worktree), project.git("rev-parse", "HEAD"))
        assert not trap.with_name("sprung").exists(), name
    assert (project.root / "precious").read_text() == "not in any commit"


@pytest.mark.parametrize("version", [2, 3, 4])
def test_an_index_of_any_version_is_read_as_git_reads_it(project: Project, version: int) -> None:
    project.commit({f"{'d' * length}/{'x' * length}": "" for length in range(1, 200)})
    if version == 3:
        (project.root / "new").touch()
        project.git("add", "--intent-to-add", "new")
    project.git("update-index", "--index-version", str(version))
    index = (project.root / ".git" / "index").read_bytes()
    assert index[7] == version

    found = [(int.from_bytes(mode), said[:20].hex()) for mode, said in index_entries(index, 20)]

    lines = [line.split() for line in project.git("ls-files", "--stage").splitlines()]
    assert found == [(int(line[0], 8), line[1]) for line in lines]
    for junk in (b"", index[:200], index[:4] + bytes(8) + index[12:]):
        with pytest.raises(ValueError, match="index"):
            list(index_entries(junk, 20))


def test_a_link_in_place_of_a_worktree_is_refused_and_leads_nowhere(
    project: Project, repository: Repository, worktree: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(worktree)
    (worktree / "precious").write_text("not in any commit")
    for name, call in CALLS.items():
        if name == "unpushed":
            continue  # it looks at what lies in a worktree
        with pytest.raises(GitError, match="is not a worktree of"):
            call(Worktree(repository, link), project.git("rev-parse", "HEAD"))
    assert project.git("status", "--porcelain", cwd=worktree) == "?? precious"


def test_git_that_waits_for_a_pipe_is_ended(
    repository: Repository, worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(worktree / ".gitattributes")
    monkeypatch.setattr(command, "TIMEOUT", 0.2)
    with pytest.raises(GitError, match=r"'git status' failed: error: timed out after 0\.2 seconds"):
        Worktree(repository, worktree).changes()


def test_all_kinds_of_changes_are_staged(project: Project, repository: Repository, tmp_path: Path) -> None:
    start = project.commit({"gone": "", "file": "", "directory/in": "", "run": "", "kept": ""})
    path = tmp_path / "worktree"
    worktree_list.add(repository, path, "work", start)
    (path / "gone").unlink()
    (path / "file").unlink()
    (path / "file").mkdir()
    (path / "file" / "in a\nplace").write_text("now a directory")
    (path / "directory" / "in").unlink()
    (path / "directory").rmdir()
    (path / "directory").symlink_to("kept")
    (path / "run").chmod(0o755)
    (path / ":(top)*").write_text("no pathspec")
    (path / "-n").write_text("no option")
    os.mkfifo(path / "pipe")

    tree = Worktree(repository, path)
    tree.commit(tree.changes(), "All kinds")

    staged = [line.split()[::3] for line in project.git("ls-tree", "-r", "-z", "work").split("\0") if line]
    assert [line[0] for line in staged].count("120000") == 1
    names = project.git("ls-tree", "-r", "-z", "--name-only", "work").split("\0")[:-1]
    assert names == ["-n", ":(top)*", "Makefile", "directory", "file/in a\nplace", "kept", "run"]
    assert project.git("ls-tree", "work", "run").startswith("100755")
    assert tree.changes() == []
