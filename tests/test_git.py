"""Git in one module: the repository that is meant, whatever is around it."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from scriptorium import git
from scriptorium.errors import ScriptoriumError
from scriptorium.git import MINIMUM, GitError, RefUpdate, Repository, TreeEntry, scrub_environment
from tests.support import PLAN, Project, write_script


@pytest.fixture
def repository(project: Project) -> Repository:
    return Repository.discover(project.root)


# -- which repository -----------------------------------------------------------------------------------


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


def test_a_broken_worktree_is_an_error_and_never_the_repository_around_it(project: Project) -> None:
    repository = Repository.discover(project.root)
    inside = project.root / "inside"
    repository.add_worktree(inside, start="master")
    (inside / ".git").unlink()
    (inside / "file").write_text("work\n")
    before = project.git("for-each-ref"), project.git("status", "--porcelain", "--ignored")

    for attempt in (
        lambda: repository.reset(inside, "master"),
        lambda: repository.commit_all(inside, "Not to be"),
        lambda: repository.changes(inside),
        lambda: repository.head_of(inside),
    ):
        with pytest.raises(GitError):
            attempt()
    assert (project.git("for-each-ref"), project.git("status", "--porcelain", "--ignored")) == before
    assert (inside / "file").read_text() == "work\n"


# -- which git ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("2.34.1", {"core.fsyncObjectFiles": "true"}),
        ("2.36.6", {"core.fsync": "committed,reference"}),
        ("2.51.0", {"core.fsync": "committed,reference", "core.fsyncMethod": "batch"}),
    ],
)
def test_git_is_asked_to_sync_in_the_words_of_its_version(
    tmp_path: Path, version: str, settings: dict[str, str]
) -> None:
    script = write_script(tmp_path / "home" / "bin" / "git", f"echo 'git version {version}'")

    git.check_version()

    given = git.for_agents()
    count = range(int(given["GIT_CONFIG_COUNT"]))
    assert {given[f"GIT_CONFIG_KEY_{n}"]: given[f"GIT_CONFIG_VALUE_{n}"] for n in count} == settings
    script.unlink()
    git.check_version()  # it is remembered


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


# -- what it says ---------------------------------------------------------------------------------------


def test_a_tree_is_read_with_any_name(project: Project, repository: Repository) -> None:
    names = ["größe.md", "line\nbreak", "latin-\udce9", 'quote" and \\', "  spaces  ", "tab\t", "folder/file"]
    project.commit_plan(dict.fromkeys(names, "text"))

    entries = repository.tree(repository.tree_of(PLAN))
    assert entries.keys() == {name.partition("/")[0] for name in names}
    assert entries["folder"].mode == "40000"
    assert entries["größe.md"] == TreeEntry("100644", "größe.md", repository.resolve(f"{PLAN}:größe.md"))


def test_objects_are_read_by_any_name_and_missing_ones_are_none(project: Project, repository: Repository) -> None:
    found = repository.objects.read("master:Makefile")
    assert found is not None
    assert (found.kind, found.data) == ("blob", b"test:\n\t@true\n")
    for name in ("master:gone", "nothing", "", "two\nlines", "0" * 40):
        assert repository.objects.read(name) is None
    assert repository.resolve("master") == project.git("rev-parse", "master")


def test_a_reader_that_was_killed_is_started_anew(repository: Repository) -> None:
    before = repository.resolve("master")
    repository.objects._process.kill()
    repository.objects._process.wait()

    assert repository.resolve("master") == before


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


# -- what it changes ------------------------------------------------------------------------------------


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


def test_a_stream_that_git_refuses_leaves_no_crash_report(project: Project, repository: Repository) -> None:
    with pytest.raises(GitError, match="'git fast-import' failed: fatal: "):
        repository.fast_import(b"what is this\n")
    assert list(project.root.rglob("fast_import_crash*")) == []


def test_hooks_and_signing_of_the_user_are_left_out(project: Project, repository: Repository, tmp_path: Path) -> None:
    for hook in ("pre-commit", "commit-msg", "post-commit", "post-checkout"):
        write_script(project.root / ".git" / "hooks" / hook, f"touch '{tmp_path}/{hook}'; exit 1")
    project.git("config", "commit.gpgSign", "true")
    project.git("config", "user.signingKey", "nobody")
    worktree = tmp_path / "worktree"
    repository.add_worktree(worktree, "work", "master")
    (worktree / "file").write_text("text")

    commit = repository.commit_all(worktree, "Work")
    assert project.git("log", "-1", "--format=%an %s", commit) == "scriptorium Work"
    assert not list(tmp_path.glob("*-commit")) + list(tmp_path.glob("post-*"))


def test_a_merge_with_conflicts_is_undone_and_named(project: Project, repository: Repository, tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    repository.add_worktree(worktree, "work", "master")
    (worktree / "Makefile").write_text("theirs\n")
    tip = repository.commit_all(worktree, "Work")
    master = project.gate("false")

    assert repository.merge(worktree, master, "Merge") == ["Makefile"]
    assert repository.head_of(worktree) == ("work", tip)
    assert repository.changes(worktree) == []


def test_a_fast_forward_takes_files_along_and_names_those_in_its_way(project: Project, repository: Repository) -> None:
    old = project.git("rev-parse", "master")
    new = project.commit({"added": "new\n", "Makefile": "test:\n"})
    project.git("reset", "--quiet", "--hard", old)
    (project.root / "added").write_text("mine\n")
    assert repository.fast_forward(project.root, "master", new) == ["added"]
    assert (project.root / "added").read_text() == "mine\n"

    (project.root / "added").unlink()
    assert repository.fast_forward(project.root, "master", new) == []
    assert (project.root / "added").read_text() == "new\n"


def test_checkouts_of_a_branch_are_found_wherever_they_are(
    project: Project, repository: Repository, tmp_path: Path
) -> None:
    assert repository.checkouts("master") == [project.root]
    assert repository.checkouts("work") == []

    repository.add_worktree(tmp_path / "linked", "work", "master")
    assert repository.checkouts("work") == [tmp_path / "linked"]


def test_scrubbing_leaves_identity_and_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "elsewhere")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Someone")
    scrub_environment()
    assert "GIT_DIR" not in os.environ
    assert os.environ["GIT_AUTHOR_NAME"] == "Someone"


def test_a_checkout_is_found_by_a_relative_path(project: Project, tmp_path: Path, repository: Repository) -> None:
    project.git("worktree", "add", "--quiet", "-b", "work", str(tmp_path / "linked"))
    # as git 2.48 writes it with worktree.useRelativePaths
    (project.root / ".git" / "worktrees" / "linked" / "gitdir").write_text("../../../../linked/.git\n")

    assert repository.checkouts("work") == [tmp_path / "linked"]


def test_a_branch_of_ours_is_never_the_one_that_work_lands_on(tmp_path: Path) -> None:
    project = Project(tmp_path / "trunk", branch="trunk")
    project.init()
    project.git("checkout", "--quiet", PLAN)

    with pytest.raises(ScriptoriumError, match="cannot tell which branch"):
        Repository.discover(project.root).default_branch()


def test_a_git_directory_that_is_a_link_is_followed(project: Project, tmp_path: Path) -> None:
    (project.root / ".git").rename(tmp_path / "git")
    (project.root / ".git").symlink_to(tmp_path / "git")

    assert Repository.discover(project.root).root == project.root


def test_a_bare_repository_has_the_checkouts_of_its_worktrees_alone(project: Project, tmp_path: Path) -> None:
    bare, linked = tmp_path / "bare", tmp_path / "linked"
    project.git("clone", "--quiet", "--bare", str(project.root), str(bare))
    project.git("worktree", "add", "--quiet", str(linked), "master", cwd=bare)

    assert Repository.discover(linked).checkouts("master") == [linked]


# -- worktrees that an agent has written to --------------------------------------------------------------


@pytest.fixture
def worktree(project: Project, repository: Repository, tmp_path: Path) -> Path:
    path = tmp_path / "worktree"
    repository.add_worktree(path, "work", project.git("rev-parse", "HEAD"))
    return path


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a file `sprung` beside itself."""
    return write_script(tmp_path / "trap", f"touch '{tmp_path}/sprung'\ncat")


def laid(project: Project, path: Path, trap: Path) -> None:
    """Make a repository whose configuration and attributes name a program wherever git would run one."""
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


CALLS: dict[str, Callable[[Repository, Path, str], object]] = {
    "head_of": lambda repository, path, _: repository.head_of(path),
    "changes": lambda repository, path, _: repository.changes(path),
    "unmerged": lambda repository, path, _: repository.unmerged(path),
    "snapshot": lambda repository, path, commit: repository.snapshot(path, commit, "why"),
    "commit_all": lambda repository, path, _: repository.commit_all(path, "why"),
    "merge": lambda repository, path, commit: repository.merge(path, commit, "why"),
    "take_back": lambda repository, path, commit: repository.take_back(path, commit),
    "reset_detached": lambda repository, path, commit: repository.reset_detached(path, commit),
    "reset": lambda repository, path, commit: repository.reset(path, commit),
    "unpushed": lambda repository, path, commit: repository.unpushed(path, {"sub": commit}),
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
                call(repository, worktree, master)
        else:
            call(repository, worktree, master)
        assert not trap.with_name("sprung").exists(), name
        if name == "commit_all":
            assert project.git("rev-parse", "work:sub") == head

    assert repository.changes(worktree) == []


@pytest.mark.parametrize("kind", ["file", "directory", "link", "pipe", "circle", "junk", "nothing"])
def test_a_git_file_that_an_agent_has_replaced_is_refused_and_leads_nowhere(
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
            call(repository, worktree, project.git("rev-parse", "HEAD"))
        assert not trap.with_name("sprung").exists(), name
    assert (project.root / "precious").read_text() == "not in any commit"


def test_git_that_waits_for_a_pipe_is_ended(
    repository: Repository, worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(worktree / ".gitattributes")
    monkeypatch.setattr(git, "LIMIT", 0.2)
    with pytest.raises(GitError, match=r"'git status' failed: error: it had not ended after 0\.2 seconds"):
        repository.changes(worktree)


def test_all_kinds_of_changes_are_staged(project: Project, repository: Repository, tmp_path: Path) -> None:
    start = project.commit({"gone": "", "file": "", "directory/in": "", "run": "", "kept": ""})
    path = tmp_path / "worktree"
    repository.add_worktree(path, "work", start)
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

    repository.commit_all(path, "All kinds")

    staged = [line.split()[::3] for line in project.git("ls-tree", "-r", "-z", "work").split("\0") if line]
    assert [line[0] for line in staged].count("120000") == 1
    names = project.git("ls-tree", "-r", "-z", "--name-only", "work").split("\0")[:-1]
    assert names == ["-n", ":(top)*", "Makefile", "directory", "file/in a\nplace", "kept", "run"]
    assert project.git("ls-tree", "work", "run").startswith("100755")
    assert repository.changes(path) == []


def test_a_checkout_that_cannot_be_read_for_now_is_not_taken_for_none(project: Project) -> None:
    repository = Repository.discover(project.root)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            repository.checkouts("master")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert repository.checkouts("master") == [project.root]


def test_a_worktree_that_a_killed_git_only_began_is_forgotten_after_a_minute(
    project: Project, repository: Repository
) -> None:
    begun = project.root / ".git" / "worktrees" / "health"
    begun.mkdir(parents=True)
    (begun / "locked").write_text("initializing\n")
    repository.forget_worktrees(project.paths.home)
    assert begun.exists()

    os.utime(begun / "locked", (0, 0))
    repository.forget_worktrees(project.paths.home)
    assert not begun.exists()
