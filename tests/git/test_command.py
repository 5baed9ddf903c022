"""Calls of git: its environment, its version, its retries and its errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scriptorium.git.command import MAX_TRIES, MINIMUM, check_version, run_git
from scriptorium.git.environment import PLAIN_HEAD, agent_git_variables, options_for, scrub_environment
from scriptorium.git.errors import GitError
from scriptorium.git.repository import Repository
from tests.support import Project, write_script


@pytest.fixture
def repository(project: Project) -> Repository:
    return Repository.discover(project.root)


def test_variables_of_a_surrounding_git_do_not_lead_to_its_repository(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    project.init()
    project.ticket("0001")

    inside_a_hook = {"GIT_DIR": str(other.root / ".git"), "GIT_WORK_TREE": str(other.root), "GIT_INDEX_FILE": "index"}
    result = project.run("assign", env=inside_a_hook)

    assert result.code == 0, result.err
    assert result.out.startswith("0001-thing\t")
    assert other.git("for-each-ref", "--format=%(refname)") == "refs/heads/master"
    assert other.git("status", "--porcelain") == ""


def test_a_hook_of_a_linked_worktree_works_on_the_whole_repository(project: Project, tmp_path: Path) -> None:
    project.init()
    project.ticket("0001")
    linked = tmp_path / "linked"
    project.git("worktree", "add", "--quiet", "--detach", str(linked))
    write_script(project.root / ".git" / "hooks" / "post-commit", f'scriptorium assign > "{tmp_path}/out"')

    project.git("commit", "--quiet", "--allow-empty", "--message", "Run the hook", cwd=linked)

    assert (tmp_path / "out").read_text().startswith("0001-thing\t")
    assert project.plan_log()[-1] == "scriptorium: assign ticket 0001-thing"


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("2.34.1", {"core.fsyncObjectFiles": "true"}),
        ("2.36.6", {"core.fsync": "committed,reference", "core.fsyncMethod": "fsync"}),
    ],
)
def test_git_is_asked_to_sync_in_the_words_of_its_version(
    tmp_path: Path, version: str, settings: dict[str, str]
) -> None:
    script = write_script(tmp_path / "home" / "bin" / "git", f"echo 'git version {version}'")

    check_version()

    given = agent_git_variables(tmp_path)
    count = range(int(given["GIT_CONFIG_COUNT"]))
    told = {given[f"GIT_CONFIG_KEY_{n}"]: given[f"GIT_CONFIG_VALUE_{n}"] for n in count}
    assert told.items() >= (PLAIN_HEAD | settings).items()
    assert not [key for key in told if "fsync" in key.lower() and key not in settings]
    script.unlink()
    check_version()  # so that the settings of the version are known


@pytest.mark.parametrize("place", ["Disk", "Disk/12"])
@pytest.mark.parametrize("ignores", ["true", "false"])
def test_whether_case_counts_goes_by_the_disk_of_a_worktree(tmp_path: Path, place: str, ignores: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "dISK").symlink_to("Disk" if ignores == "true" else ".")

    found = options_for(tmp_path / place / "worktree")

    assert f"core.ignoreCase={ignores}" in found


@pytest.mark.parametrize("version", ["git version 2.33.9", "git version 1.9.1", "no version at all"])
def test_a_git_that_is_too_old_is_refused(project: Project, tmp_path: Path, version: str) -> None:
    write_script(tmp_path / "home" / "bin" / "git", f"echo '{version}'")

    result = project.run("status")
    wanted = ".".join(map(str, MINIMUM))
    assert result == (78, "", f"scriptorium: '{version}' is too old\nhint: install git {wanted} or newer\n")


def test_a_machine_without_git_is_told_so(project: Project, tmp_path: Path) -> None:
    result = project.run("status", env={"PATH": str(tmp_path)})
    assert result == (78, "", "scriptorium: 'git' is not on PATH\nhint: install git\n")


def test_messages_of_git_are_cut_to_the_line_that_tells() -> None:
    error = GitError(["merge", "x"], 128, "hint: do this\nwarning: odd\nfatal: refusing to merge\nhint: do that\n")
    assert error.message == "'git merge' failed: fatal: refusing to merge"
    assert GitError(["gc"], 3, "").message == "'git gc' failed: exit 3"


def test_objects_are_read_by_any_name_and_missing_ones_are_none(project: Project, repository: Repository) -> None:
    found = repository.objects.read("master:Makefile")
    assert found is not None
    assert (found.kind, found.data) == ("blob", b"test:\n\t@true\n")
    project.commit({"caf\udce9": "text"})
    assert repository.objects.read("master:caf\udce9") is not None
    for name in ("master:gone", "nothing", "", "two\nlines", "\udce9", "0" * 40):
        assert repository.objects.read(name) is None
    assert repository.resolve("master") == project.git("rev-parse", "master")


def test_a_reader_that_was_killed_is_started_anew(repository: Repository) -> None:
    before = repository.resolve("master")
    repository.objects._process.kill()
    repository.objects._process.wait()

    assert repository.resolve("master") == before


def test_refs_that_were_packed_again_within_a_second_are_read_anew(project: Project, repository: Repository) -> None:
    commits = [project.git("commit-tree", "HEAD^{tree}", "-m", name) for name in "ab"]
    project.git("update-ref", "refs/heads/x", commits[0])
    project.git("pack-refs", "--all", "--prune")
    packed = project.root / ".git" / "packed-refs"
    for turn in range(20):
        old, new = commits[turn % 2], commits[(turn + 1) % 2]
        assert repository.resolve("x") == old
        packed.write_text(packed.read_text().replace(old, new))  # in place, since the new file may get the same inode
        assert repository.resolve("x") == new


def test_a_commit_is_complete_if_git_cannot_rename_an_object(project: Project) -> None:
    # the files stand for directories that a `git gc` has just removed, which no test can time
    project.git("config", "core.fsyncMethod", "batch")
    objects = project.root / ".git" / "objects"
    blocked = [objects / f"{number:02x}" for number in range(256) if not (objects / f"{number:02x}").exists()]
    for path in blocked:
        path.write_text("in the way")
    project.init()
    for path in blocked:
        path.unlink()
    project.git("fsck", "--connectivity-only")


@pytest.mark.parametrize(("failures", "passes"), [(MAX_TRIES - 1, True), (MAX_TRIES, False)])
def test_a_git_that_was_hindered_by_a_clean_up_is_run_again(tmp_path: Path, failures: int, passes: bool) -> None:
    left = tmp_path / "left"
    left.write_text("x" * failures)
    # a stand-in for git, since no test can time the removal of an object's empty directory
    script = f"""
        [ -s {left} ] || exit 0
        truncate --size=-1 {left}
        echo 'error: unable to create temporary file: No such file or directory' >&2
        exit 128"""
    write_script(tmp_path / "home" / "bin" / "git", script)

    if passes:
        run_git("write-tree")
    else:
        with pytest.raises(GitError) as failure:
            run_git("write-tree")
        assert failure.value.system
    assert left.read_text() == ""


def test_scrubbing_leaves_identity_and_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "elsewhere")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Someone")
    scrub_environment()
    assert "GIT_DIR" not in os.environ
    assert os.environ["GIT_AUTHOR_NAME"] == "Someone"
