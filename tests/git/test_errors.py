"""The kinds of git's failures. The installed git is made to fail for real; messages of other versions are marked."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scriptorium.git.environment import git_environment
from scriptorium.git.errors import ErrorKind, GitError, blocking_files, classify, lock_in
from tests.support import Project


def failure(
    project: Project, *argv: str, stdin: str = "", before: Callable[[], None] | None = None, **env: str
) -> GitError:
    """Run git as the package does, and return its failure."""
    environment = {**os.environ, **git_environment(), **env}
    done = subprocess.run(
        ["git", *argv], cwd=project.root, env=environment, input=stdin, capture_output=True, text=True, check=False,
        preexec_fn=before,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout
    return GitError(argv, done.returncode, done.stderr)


def drop_capabilities() -> None:
    """Let a process of root obey the modes of files, as others do."""
    import ctypes

    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def limit_open_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))


def limit_file_size() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))


def test_an_edited_file_and_an_untracked_one_are_dirty_and_named(project: Project) -> None:
    old = project.git("rev-parse", "master")
    new = project.commit({"added": "new\n", "Makefile": "test:\n"})
    project.git("reset", "--quiet", "--hard", old)
    (project.root / "added").write_text("mine\n")
    found = failure(project, "read-tree", "-m", "-u", old, new)
    assert found.kind is ErrorKind.DIRTY
    assert not found.system

    (project.root / "added").unlink()
    (project.root / "Makefile").write_text("mine:\n")
    assert failure(project, "read-tree", "-m", "-u", old, new).kind is ErrorKind.DIRTY


@pytest.mark.parametrize("name", ["added", "no space left on device", "two\nlines", "it's"])
def test_the_file_in_the_way_is_named_whatever_it_is_called(project: Project, name: str) -> None:
    old = project.git("rev-parse", "master")
    new = project.commit({name: "new\n"})
    project.git("reset", "--quiet", "--hard", old)
    (project.root / name).write_text("mine\n")
    environment = {**os.environ, **git_environment()}
    argv = ["git", "read-tree", "-m", "-u", old, new]
    done = subprocess.run(argv, cwd=project.root, env=environment, capture_output=True, text=True, check=False)
    assert classify(done.stderr, done.returncode) is ErrorKind.DIRTY
    assert blocking_files(done.stderr) == [name]


def test_a_worktree_with_changes_or_submodules_is_dirty(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    (tmp_path / "linked" / "new").write_text("")
    found = failure(project, "worktree", "remove", str(tmp_path / "linked"))
    assert found.kind is ErrorKind.DIRTY

    (tmp_path / "linked" / "new").unlink()
    with_file = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(project.root), "sub")
    project.git(*with_file, cwd=tmp_path / "linked")
    project.git("commit", "--quiet", "-m", "Add a submodule", cwd=tmp_path / "linked")
    found = failure(project, "worktree", "remove", str(tmp_path / "linked"))
    assert found.kind is ErrorKind.DIRTY


def test_an_object_whose_directory_is_pruned_at_that_moment(project: Project) -> None:
    # a dangling link stands for a directory that `git gc` removes between the check and the write
    for number in range(256):
        place = project.root / ".git" / "objects" / f"{number:02x}"
        if not place.exists():
            place.symlink_to("nowhere")
    found = failure(project, "hash-object", "-w", "--stdin", stdin="some text that no object has yet")
    assert found.kind is ErrorKind.PRUNED
    assert found.system


@pytest.mark.parametrize(
    ("limit", "argv"), [(limit_open_files, ("read-tree", "HEAD")), (limit_file_size, ("hash-object", "-w", "--stdin"))]
)
def test_a_resource_that_runs_out_is_a_system_failure(
    project: Project, limit: Callable[[], None], argv: tuple[str, ...]
) -> None:
    found = failure(project, *argv, stdin="text", before=limit)
    assert found.kind is ErrorKind.SYSTEM
    assert found.system
    assert found.hint == "see whether you may write to the repository and the disk has room"


def test_a_killed_git_is_interrupted_and_a_file_size_signal_is_the_systems(project: Project) -> None:
    found = failure(project, "-c", "alias.end=!kill -KILL $PPID", "end")
    assert (found.kind, found.system, found.hint) == (ErrorKind.INTERRUPTED, True, "")
    assert found.message == "'git end' failed: killed (signal 9)"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))

    found = failure(project, "hash-object", "-w", "--stdin", stdin="text", before=limit)
    assert (found.kind, found.system) == (ErrorKind.SYSTEM, True)
    assert found.message == "'git hash-object' failed: file size limit exceeded (signal 25)"


def test_a_read_only_directory_is_denied(project: Project) -> None:
    closed = project.root / ".git" / "refs" / "heads"
    closed.chmod(0o500)
    found = failure(project, "update-ref", "refs/heads/new", "HEAD", before=drop_capabilities)
    closed.chmod(0o700)
    assert found.kind is ErrorKind.DENIED
    assert not found.system
    assert found.hint == "see whether you may write to the repository and the disk has room"


def test_a_ref_at_another_value_is_contention(project: Project) -> None:
    old = project.git("rev-parse", "master")
    new = project.commit({"a": ""})
    moves = (
        f"update refs/heads/master {new} {old}\n",
        f"create refs/heads/master {old}\n",
        f"update refs/heads/gone {new} {old}\n",
        f"delete refs/heads/gone {old}\n",
    )
    for line in moves:
        assert failure(project, "update-ref", "--stdin", stdin=line).kind is ErrorKind.CONTENTION, line

    stream = (
        f"feature done\nreset refs/heads/master\nfrom {project.git('commit-tree', 'HEAD^{tree}', '-m', 'x')}\n\ndone\n"
    )
    assert failure(project, "fast-import", "--quiet", stdin=stream).kind is ErrorKind.CONTENTION


def test_packed_refs_at_another_value_are_contention(project: Project) -> None:
    old = project.git("rev-parse", "master")
    new = project.commit({"a": ""})
    project.git("pack-refs", "--all", "--prune")
    found = failure(project, "update-ref", "--stdin", stdin=f"delete refs/heads/master {old}\n")
    assert found.kind is ErrorKind.CONTENTION
    assert project.git("rev-parse", "master") == new


def test_a_locked_ref_is_contention_and_names_its_lock(project: Project) -> None:
    lock = project.root / ".git" / "refs" / "heads" / "master.lock"
    lock.touch()
    found = failure(project, "--git-dir", str(project.root / ".git"), "update-ref", "refs/heads/master", "HEAD~0")
    assert (found.kind, found.lock, found.is_index_locked) == (ErrorKind.CONTENTION, lock, False)
    assert found.hint == f"if no git is at work, remove '{lock}'"


@pytest.mark.parametrize("name", ["index.lock", "packed-refs.lock"])
def test_another_lock_is_named(project: Project, name: str) -> None:
    lock = project.root / ".git" / name
    lock.touch()
    argv = ("read-tree", "HEAD") if name == "index.lock" else ("pack-refs", "--all")
    found = failure(project, "--git-dir", str(project.root / ".git"), *argv)
    assert (found.kind, found.lock) == (ErrorKind.LOCKED, lock)
    assert found.is_index_locked is (name == "index.lock")
    assert found.hint == f"if no git is at work, remove '{lock}'"
    assert not found.system


def test_a_directory_outside_of_a_repository(project: Project, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    found = failure(project, "-C", str(tmp_path / "outside"), "rev-parse", GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert found.kind is ErrorKind.NOT_A_REPOSITORY


def test_a_repository_of_another_user(project: Project) -> None:
    found = failure(project, "rev-parse", "HEAD", GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    assert found.kind is ErrorKind.OWNERSHIP
    assert found.hint == f"if you trust it: git config --global --add safe.directory '{project.root}'"


def test_a_filter_that_fails(project: Project) -> None:
    project.git("config", "filter.bad.clean", "false")
    project.git("config", "filter.bad.required", "true")
    (project.root / ".gitattributes").write_text("x filter=bad\n")
    (project.root / "x").write_text("text")
    found = failure(project, "add", "x")
    assert found.kind is ErrorKind.FILTER
    assert found.hint == "see that the filters that '.gitattributes' names are installed"


def test_anything_else_is_other(project: Project) -> None:
    found = failure(project, "rev-parse", "--verify", "nowhere")
    assert (found.kind, found.hint, found.system) == (ErrorKind.OTHER, "", False)


NOT_RUN = {
    "fatal: unsafe repository ('/x' is owned by someone else)": ErrorKind.OWNERSHIP,  # 2.34.2, 2.35.2
    "fatal: cannot update ref 'refs/heads/x': is at 1234 but expected 5678": ErrorKind.CONTENTION,  # packed-backend.c
    "fatal: cannot update ref 'refs/heads/x': reference is missing but expected 12": ErrorKind.CONTENTION,
    "fatal: cannot update ref 'refs/heads/x': reference already exists": ErrorKind.CONTENTION,
    "fatal: update_ref failed for ref 'ORIG_HEAD': couldn't set 'ORIG_HEAD'": ErrorKind.SYSTEM,
    "error: couldn't set 'refs/heads/master'": ErrorKind.SYSTEM,
    "fatal: Unable to create '/x/index.lock': No space left on device": ErrorKind.SYSTEM,
    "fatal: refusing to merge unrelated histories": ErrorKind.OTHER,
    "CONFLICT (content): Merge conflict in file": ErrorKind.OTHER,
    "fatal: cannot lock ref 'HEAD': Unable to create '/x/HEAD.lock': No space left on device": ErrorKind.SYSTEM,
    "fatal: cannot lock ref 'HEAD': Unable to create '/x/HEAD.lock': Permission denied": ErrorKind.DENIED,
}
"""Messages that the tests above do not provoke: from git's sources, or seen once when a disk was full."""


@pytest.mark.parametrize(("stderr", "kind"), NOT_RUN.items())
def test_messages_of_other_versions_and_of_full_disks(stderr: str, kind: ErrorKind) -> None:
    assert classify(f"{stderr}\n", 128) is kind
    assert GitError(("merge",), 128, stderr).system is (kind is ErrorKind.SYSTEM)


def test_a_relative_lock_is_not_taken_for_one_to_remove() -> None:
    assert lock_in("fatal: Unable to create '.git/index.lock': File exists.") is None


def test_a_caller_that_knows_better_names_the_kind() -> None:
    found = GitError(("merge", "--abort"), 128, "fatal: could not reset", ErrorKind.INTERRUPTED)
    assert (found.kind, found.system) == (ErrorKind.INTERRUPTED, True)
