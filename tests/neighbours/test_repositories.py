"""Bad neighbours: unusual repositories, and unusual files in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from tests.neighbours.cases import in_order, kept, lands, rescued, shell, show, submitted, tree, waits, worked_on
from tests.support import Project

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project) -> None:
    project.init()


def at(project: Project, root: Path) -> Project:
    """Return a project whose repository is elsewhere, made by a git command."""
    other = Project.at(root)
    exclude = Path(project.git("rev-parse", "--path-format=absolute", "--git-path", "info/exclude", cwd=root))
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("scriptorium.json\n")
    if other.git("branch", "--remotes", "--list", "origin/scriptorium/plan"):
        other.git("branch", "--quiet", "scriptorium/plan", "origin/scriptorium/plan")
    else:
        other.init()
    return other


# -- where it is, and of what form -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with spaces", "tür 日本", 'it\'s "quoted"', "-dash", b"no\xffutf", "a:b;c%d$e`f"])
def test_a_repository_on_any_path_is_as_good_as_another(tmp_path: Path, name: str | bytes) -> None:
    project = Project(tmp_path / os.fsdecode(name))
    project.init()
    lands(project)
    assert (project.root / "file").read_text() == "0001-thing\n"
    assert project.git("status", "--porcelain") == ""


def test_a_path_with_a_line_break_is_refused(tmp_path: Path) -> None:
    Project(tmp_path / "one")
    project = Project(tmp_path / "one\ntwo")
    result = project.run("--init")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[-1] == "hint: move it to a path without one"
    assert project.refs("refs/heads/scriptorium") == {}


@pytest.mark.parametrize("options", ["--depth=1", "--filter=blob:none", "--shared", "--reference=../project"])
def test_a_clone_of_any_kind_is_as_good_as_another(project: Project, tmp_path: Path, options: str) -> None:
    project.commit({"dir/old": "old\n"})
    project.commit({"dir/old": "new\n", "other": "1\n"})
    project.git("config", "uploadpack.allowFilter", "true")
    project.git("clone", "--quiet", options, f"file://{project.root}", "../clone")
    other = at(project, tmp_path / "clone")

    lands(other, "echo 1 >dir/old")
    name = submitted(other, "echo 2 >dir/old", "0002")
    other.commit({"other": "2\n"})
    assert process_next(other.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert (show(other, "dir/old"), show(other, "other")) == ("2", "2")
    in_order(other, name)


def test_a_partial_clone_without_its_remote_is_reported_and_lands_later(project: Project, tmp_path: Path) -> None:
    project.commit({"big": "1\n"})
    project.git("config", "uploadpack.allowFilter", "true")
    project.git("clone", "--quiet", "--no-checkout", "--filter=blob:none", f"file://{project.root}", "../clone")
    other = at(project, tmp_path / "clone")
    other.git("update-ref", "--no-deref", "HEAD", "HEAD")
    name = other.ticket("0001")
    other.agent("echo 1 >file; scriptorium submit-pr x")
    other.plan_files()  # fetches the objects of the plan
    project.root.rename(tmp_path / "away")

    result = other.run("assign")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(
        f"scriptorium: ticket '{name}': cannot create its worktree: 'git worktree' failed: fatal: "
    )

    (tmp_path / "away").rename(project.root)
    assert other.run("code", name)[:2] == (0, f"{name}\n")
    assert process_next(other.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(other, name)


def test_a_bare_repository_works_from_any_of_its_worktrees(project: Project, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    project.git("clone", "--quiet", "--bare", "--single-branch", ".", str(hub / ".bare"))
    (hub / ".git").write_text("gitdir: ./.bare\n")
    for argv in (("main", "master"), ("-b", "topic", "topic", "master")):
        project.git("worktree", "add", "--quiet", *argv, cwd=hub)
    (hub / "topic" / "scriptorium.json").symlink_to(hub / ".bare" / "scriptorium.json")  # where it is looked for
    other = at(project, hub / "topic")
    name = other.ticket("0001")
    other.agent("echo 1 >file; scriptorium submit-pr x")

    assert other.run("assign").out.startswith(f"{name}\t")
    assert other.run("code", name)[:2] == (0, f"{name}\n")
    assert other.run("merge", cwd=hub / "main")[:2] == (0, f"{name}\tlanded\n")

    assert (hub / "main" / "file").read_text() == "1\n"
    assert not (hub / "topic" / "file").exists()
    assert project.git("status", "--porcelain", cwd=hub / "main") == ""
    assert other.run("fsck").code == 0


def test_a_working_tree_elsewhere_follows(tmp_path: Path, project: Project) -> None:
    elsewhere = tmp_path / "elsewhere" / "project"
    elsewhere.mkdir(parents=True)
    (project.root / "Makefile").rename(elsewhere / "Makefile")
    project.git("config", "core.worktree", str(elsewhere))
    (project.root / "scriptorium.json").symlink_to(elsewhere / "scriptorium.json")

    assert project.workspace.repository.root == elsewhere
    lands(project, "echo 1 >file")
    assert (elsewhere / "file").read_text() == "1\n"
    assert project.git("status", "--porcelain") == ""
    assert [path.name for path in project.root.iterdir()] == [".git", "scriptorium.json"]


def test_a_checkout_with_a_separate_git_directory_follows_each_landing(project: Project, tmp_path: Path) -> None:
    project.git("clone", "--quiet", f"--separate-git-dir={tmp_path / 'store'}", ".", "../clone")
    other = at(project, tmp_path / "clone")
    other.git("worktree", "add", "--quiet", "-b", "topic", str(tmp_path / "topic"))
    name = other.ticket("0001")
    other.agent("echo 1 >file; scriptorium submit-pr x")
    assert other.run("assign").code == 0
    assert other.run("code", name).code == 0

    assert other.run("merge", cwd=tmp_path / "topic")[:2] == (0, f"{name}\tlanded\n")

    assert (other.root / "file").read_text() == "1\n"
    assert other.git("status", "--porcelain") == ""
    assert [home.name.rpartition("-")[0] for home in (tmp_path / "root").glob("*-*")] == ["clone"]


def test_the_checkout_of_a_branch_that_stands_for_another_follows(tmp_path: Path) -> None:
    project = Project(tmp_path / "trunk", branch="trunk")
    project.git("symbolic-ref", "refs/heads/master", "refs/heads/trunk")
    project.git("checkout", "--quiet", "master")
    project.init()

    lands(project)

    assert (project.root / ".git" / "HEAD").read_text() == "ref: refs/heads/master\n"
    assert show(project, commit="trunk") == "0001-thing"
    assert project.git("status", "--porcelain") == ""


def test_a_repository_of_somebody_elses_is_refused_with_gits_remedy(project: Project) -> None:
    name = submitted(project)
    result = project.run("merge", env={"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})
    assert result == (
        1,
        "",
        f"scriptorium: 'git rev-parse' failed: fatal: detected dubious ownership in repository at '{project.root}'\n"
        f"hint: if you trust it: git config --global --add safe.directory '{project.root}'\n",
    )
    project.git("config", "--global", "--add", "safe.directory", "*")
    assert project.run("merge", env={"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"})[:2] == (0, f"{name}\tlanded\n")


def test_a_repository_of_a_form_that_git_does_not_know_is_refused(project: Project) -> None:
    """A git before 2.45 sees such a repository when it uses reftables."""
    project.git("config", "core.repositoryFormatVersion", "1")
    project.git("config", "extensions.fromTheFuture", "true")
    result = project.run("status")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("scriptorium: 'git rev-parse' failed: fatal: unknown repository extension")


# -- sparse checkouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--cone",), ("--cone", "--sparse-index"), ("--no-cone",)])
def test_the_users_sparse_checkout_stays_and_tickets_have_all_files(project: Project, options: tuple[str, ...]) -> None:
    project.commit({"in/file": "1\n", "out/file": "1\n"})
    project.gate("test -f in/file && test -f out/file")
    project.git("sparse-checkout", "set", *options, "in")
    assert not (project.root / "out").exists()
    config = project.git("config", "--list", "--local")

    lands(project, "echo 2 >in/file; echo 2 >out/file; mkdir more; echo 3 >more/file")

    assert [show(project, path) for path in ("in/file", "out/file", "more/file")] == ["2", "2", "3"]
    assert (project.root / "in" / "file").read_text() == "2\n"
    assert not (project.root / "out").exists()
    assert project.git("status", "--porcelain") == ""
    assert project.git("config", "--list", "--local") == config


# -- names, links and line ends ----------------------------------------------------------------------------

NAMES = {
    "line": "two\nlines",
    "quote": "a \"quoted\" 'name'",
    "bytes": os.fsdecode(b"\xff\xfe"),
    "dash": "-n",
    "spaces": " \t ",
    "glob": "*?[a]",
    "git": ":(top)x",
    "backslash": "a\\b",
    "long": "n" * 250,
    "case": "FILE",
}


def test_files_of_any_name_land_and_those_in_the_way_are_reported(project: Project, tmp_path: Path) -> None:
    paths = [*NAMES.values(), "file"]
    (tmp_path / "made").mkdir()
    for path in paths:
        (tmp_path / "made" / path).write_text("agent\n")
    project.gate("ls >/dev/null")
    name = submitted(project, f"cp -r {tmp_path}/made/. .")
    for path in paths:
        (project.root / path).write_text("person\n")

    assert waits(project, name).blocked_by.startswith(f"local changes in '{project.root}' are in the way: ")
    result = project.run("merge")
    assert (result.code, result.out, result.err.splitlines()[-1]) == (1, "", "hint: commit or stash them")

    for path in paths:
        assert (project.root / path).read_text() == "person\n"
        (project.root / path).unlink()
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
    assert sorted(tree(project)) == sorted([*paths, "Makefile"])
    assert project.git("status", "--porcelain") == ""


@pytest.mark.parametrize("script", ["", "git add --all; git commit -qm Mine"], ids=["files", "commits"])
def test_names_that_differ_only_by_case_land_with_core_ignorecase(project: Project, script: str) -> None:
    project.commit({"Readme.md": "1\n", "Other": "1\n"})
    project.git("config", "core.ignoreCase", "true")
    lands(project, f"echo 2 >README.md; mv Other OTHER; {script}")
    assert tree(project) == ["Makefile", "OTHER", "README.md", "Readme.md"]
    assert (show(project, "Readme.md"), show(project, "README.md"), rescued(project)) == ("1", "2", [])


def test_a_conflict_in_names_of_any_kind_is_one_line(project: Project) -> None:
    name = submitted(project, "printf agent >'two\nlines'; printf agent >FILE; printf agent >file")
    project.commit({"two\nlines": "person\n", "file": "person\n"})
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.REOPENED)
    assert submitted(project, "rm -f two* file; git add --all") == name
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert tree(project) == ["FILE", "Makefile"]


def test_links_land_as_links_and_are_not_followed(project: Project, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    project.commit({"dir/file": "1\n"})
    lands(project, f"ln -s {tmp_path / 'outside'} out; ln -s nowhere gone; ln -s . self; rm -r dir; ln -s out dir")
    assert project.git("ls-tree", "master", "out", "gone", "self", "dir").count("120000 blob") == 4
    assert (project.root / "dir").readlink() == Path("out")
    assert list((tmp_path / "outside").iterdir()) == []
    assert project.git("status", "--porcelain") == ""


def test_a_conflict_in_a_link_to_an_endless_file_blocks_nothing(project: Project) -> None:
    project.commit({"link": "1\n"})
    name = submitted(project, "rm link; ln -s /dev/zero link")
    (project.root / "link").unlink()
    (project.root / "link").symlink_to("/dev/full")
    project.git("commit", "--quiet", "--all", "--message", "Another link")
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.REOPENED)

    assert submitted(project, "test -L link; echo 2 >file") == name
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


def crlf(project: Project, attributes: str) -> None:
    """Commit a file with CRLF line ends, and then attributes that require LF."""
    (project.root / "old").write_bytes(b"1\r\n2\r\n")
    project.git("add", "old")
    project.git("commit", "--quiet", "--message", "Before there were attributes")
    project.commit({".gitattributes": attributes})


@pytest.mark.parametrize("attributes", ["* text=auto\n", "* text=auto eol=crlf\n"])
def test_line_ends_that_the_attributes_leave_alone_are_no_changes(project: Project, attributes: str) -> None:
    crlf(project, attributes)
    name = submitted(project, "touch old; printf '1\r\n2\r\n' >new")
    project.commit({"theirs": "1\n"})
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
    assert project.git("diff", "--name-only", "HEAD~", "HEAD", "--", "old") == ""
    assert rescued(project) == []


def test_line_ends_changed_by_attributes_wait_for_the_user_to_agree(project: Project) -> None:
    crlf(project, "* text eol=lf\n")  # git now sees the file as changed in each checkout that touches it
    name = submitted(project, "touch old; echo 1 >new")
    (project.root / "old").touch()
    assert project.git("diff", "--name-only", "master", "scriptorium/ticket-0001") == "new\nold"

    assert waits(project, name).blocked_by == f"local changes in '{project.root}' are in the way: 'old'"

    project.git("commit", "--quiet", "--all", "--message", "Renormalize")
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
    assert show(project, "old") == "1\n2"


# -- repositories in repositories --------------------------------------------------------------------------

FILE = "-c protocol.file.allow=always"


def test_a_gate_that_needs_submodules_gets_them_where_it_asks_for_them(project: Project, tmp_path: Path) -> None:
    part = Project(tmp_path / "part")
    part.commit({"file": "1\n"})
    project.git(*FILE.split(), "submodule", "--quiet", "add", str(part.root), "part")
    project.git("commit", "--quiet", "--message", "Add a submodule")
    project.configure(gate=f"git {FILE} submodule --quiet update --init && test -f part/file")

    lands(project, "test ! -e part/file; echo 1 >file")

    assert (project.root / "part" / "file").read_text() == "1\n"
    assert project.git("status", "--porcelain") == ""


BECOMES = ["echo 1 >part", "ln -s x part", "mkdir part; echo 1 >part/other", "mkdir -p part/file; echo 1 >part/file/x"]


@pytest.mark.parametrize("becomes", BECOMES)
@pytest.mark.parametrize("own", [True, False], ids=["its own .git", "absorbed"])
def test_a_submodule_that_a_ticket_replaces_keeps_its_files(
    project: Project, tmp_path: Path, own: bool, becomes: str
) -> None:
    part = Project(tmp_path / "part")
    part.commit({"file": "1\n"})
    if own:
        project.git("clone", "--quiet", str(part.root), "part")
    project.git(*FILE.split(), "submodule", "--quiet", "add", str(part.root), "part")
    project.git("commit", "--quiet", "--message", "Add a submodule")
    submitted(project, f"git rm -q -f part; {becomes}")
    if own:
        (project.root / "part" / "file").write_text("committed by the person\n")
        project.git("commit", "--quiet", "--all", "--message", "Mine", cwd=project.root / "part")
    (project.root / "part" / "mine").write_text("of the person\n")

    process_next(project.workspace)

    assert (project.root / "part" / ".git").exists()
    assert (project.root / "part" / "mine").read_text() == "of the person\n"


def test_a_file_that_replaces_a_directory_with_a_submodule_is_blocked(project: Project, tmp_path: Path) -> None:
    part = Project(tmp_path / "part")
    part.commit({"file": "1\n"})
    project.git(*FILE.split(), "submodule", "--quiet", "add", str(part.root), "d/part")
    project.git("commit", "--quiet", "--message", "Add a submodule")
    name = submitted(project, "git rm -qr d/part; rm -rf d; echo 1 >d")

    assert waits(project, name).blocked_by == f"local changes in '{project.root}' are in the way: 'd'"
    assert (project.root / "d" / "part" / "file").read_text() == "1\n"


def test_a_repository_made_in_a_worktree_is_kept_with_its_commits(project: Project) -> None:
    nested = "git init -q nested; echo 1 >nested/file; git -C nested add file; git -C nested commit -qm One"
    name = submitted(project, "echo 1 >file")
    shell(project, f'cd "{project.worktree(name)}"; {nested}; echo 2 >nested/uncommitted')

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)

    in_order(project, name)
    assert kept(project, "nested/uncommitted") == ["2"]
    (aside,) = project.worktree(name).parent.glob("*.found-*/nested")
    assert project.git("log", "--format=%s", cwd=aside) == "One"


def test_a_repository_in_a_worktree_that_left_its_branch_is_kept(project: Project) -> None:
    nested = "git init -q nested; echo 1 >nested/file; git -C nested add file; git -C nested commit -qm One"
    name, _ = worked_on(project, f"git checkout -q --detach; {nested}; echo 1 >file")
    lands(project, "echo 2 >second")
    (aside,) = project.worktree(name).parent.glob("*.found-*/nested")
    assert project.git("log", "--format=%s", cwd=aside) == "One"
    assert kept(project, "file") == ["1"]


def test_empty_directories_pipes_and_sockets_are_no_work(project: Project) -> None:
    lands(project, "mkdir -p empty/deep; mkfifo pipe; echo 1 >file")
    assert tree(project) == ["Makefile", "file"]


def test_ignored_files_are_no_work_and_go_with_the_worktree(project: Project) -> None:
    project.commit({".gitignore": "build/\n"})
    lands(project, "mkdir build; echo 1 >build/out; echo 1 >file")
    assert tree(project) == [".gitignore", "Makefile", "file"]
    assert rescued(project) == []
