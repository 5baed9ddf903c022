"""Landing: master moves together with the plan, and the user's own work is never touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scriptorium.git.user_checkout import UserCheckout
from scriptorium.merge_queue import landing
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from tests.merge_queue.cases import MASTER, user_state, wait_message
from tests.support import PLAN, Project, until, write_script

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.commit({"shared": "1\n2\n3\n", "mine": "old\n"})


def test_unrelated_edits_and_all_that_is_the_users_survive(project: Project) -> None:
    project.git("branch", "feature")
    project.git("tag", "-a", "-m", "One", "v1")
    project.git("update-ref", "refs/remotes/origin/master", "HEAD")
    (project.root / "mine").write_text("stashed\n")
    project.git("stash", "push", "--quiet", "-m", "for later")
    name = project.queued("0001", "echo 4 >>shared; echo x >new")
    (project.root / "mine").write_text("staged\n")
    project.git("add", "mine")
    (project.root / "mine").write_text("edited\n")
    (project.root / "untracked").write_text("untracked\n")
    (project.root / "intended").write_text("intended\n")
    project.git("add", "--intent-to-add", "intended")
    before = user_state(project)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert user_state(project) == before
    assert (project.root / "shared").read_text() == "1\n2\n3\n4\n"
    assert (project.root / "new").read_text() == "x\n"
    assert (project.root / "mine").read_text() == "edited\n"
    assert (project.root / "untracked").read_text() == "untracked\n"
    assert project.git("diff", "--name-only", "HEAD") == "intended\nmine"


@pytest.mark.parametrize("how", ["edited", "staged", "untracked", "ignored"])
def test_local_changes_in_the_way_are_named_and_the_landing_waits_for_them(
    project: Project, facts: Path, how: str
) -> None:
    project.gate('echo gate >>"$$FACTS/gates"; touch leftover')
    project.commit({".gitignore": "*.env\n"})
    file = {"untracked": "ü new", "ignored": "my.env"}.get(how, "shared")
    name = project.queued("0001", f"echo agent >>'{file}'; git add -f '{file}'; echo x >other")
    (project.root / file).write_text("precious\n")
    if how == "staged":
        project.git("add", "shared")
    plan, master = project.git("rev-parse", PLAN, "master").splitlines()
    before = user_state(project)

    assert project.run("merge") == (1, "", wait_message(name, project.root, file))
    assert project.run("merge") == (1, "", wait_message(name, project.root, file))

    assert user_state(project) == before
    assert (project.root / file).read_text() == "precious\n"
    assert not (project.root / "other").exists()
    assert project.git("rev-parse", PLAN, "master").splitlines() == [plan, master]
    assert (facts / "gates").read_text() == "gate\n" * 2  # master's health, and the ticket once

    if how in ("untracked", "ignored"):
        (project.root / file).rename(project.root.parent / "moved")
    else:
        project.git("stash", "push", "--quiet")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / file).read_text().endswith("agent\n")
    assert (facts / "gates").read_text() == "gate\n" * 2
    assert project.refs("refs/scriptorium/rescue/") == {}
    assert "leftover" not in project.git("ls-tree", "--name-only", "master").splitlines()


def test_edits_that_the_user_commits_are_merged_and_tested_anew(project: Project) -> None:
    name = project.queued("0001", "echo agent >>shared")
    (project.root / "shared").write_text("0\n1\n2\n3\n")
    assert project.run("merge") == (1, "", wait_message(name, project.root, "shared"))

    project.git("commit", "--quiet", "--all", "-m", "Mine")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / "shared").read_text() == "0\n1\n2\n3\nagent\n"
    assert project.git("status", "--porcelain") == ""


@pytest.mark.parametrize("where", ["another branch", "detached"])
def test_master_checked_out_nowhere_moves_with_the_plan_in_one_transaction(
    project: Project, facts: Path, where: str
) -> None:
    if where == "detached":
        project.git("checkout", "--quiet", "--detach")
    else:
        project.git("checkout", "--quiet", "-b", "feature")
    name = project.queued()
    (project.root / "shared").write_text("edited\n")
    before = user_state(project)
    files = sorted(path.name for path in project.root.iterdir())
    real = shutil.which("git")
    wrapper = f'case "$*" in *update-ref*) tee -a "$FACTS/updates" | "{real}" "$@";; *) exec "{real}" "$@";; esac'
    write_script(facts.parent / "home" / "bin" / "git", wrapper)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    first = (facts / "updates").read_text().split("commit\n")[0].splitlines()
    tip, plan = project.git("rev-parse", "master", PLAN).splitlines()
    assert [line.split()[:3] for line in first] == [
        ["start"],
        ["update", MASTER, tip],
        ["update", f"refs/heads/{PLAN}", plan],
    ]
    assert project.git("show", "master:file") == name
    assert user_state(project) == before
    assert sorted(path.name for path in project.root.iterdir()) == files


def test_master_in_a_linked_worktree_is_followed_there(project: Project, tmp_path: Path) -> None:
    project.git("checkout", "--quiet", "-b", "feature")
    linked = tmp_path / "linked tree"
    project.git("worktree", "add", "--quiet", str(linked), "master")
    name = project.queued()
    (linked / "file").write_text("precious\n")

    assert project.run("merge") == (1, "", wait_message(name, linked, "file"))
    assert (linked / "file").read_text() == "precious\n"

    (linked / "file").unlink()
    assert project.run("merge", cwd=linked)[:2] == (0, f"{name}\tlanded\n")
    assert (linked / "file").read_text() == f"{name}\n"
    assert project.git("status", "--porcelain", cwd=linked) == ""
    assert not (project.root / "file").exists()
    assert project.git("status", "--porcelain") == ""


def test_a_second_checkout_of_master_follows_as_well(project: Project, tmp_path: Path) -> None:
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert (project.root / "file").read_text() == (second / "file").read_text() == f"{name}\n"
    assert project.git("status", "--porcelain", cwd=second) == ""


def test_a_second_checkout_with_edits_in_the_way_holds_up_the_landing(project: Project, tmp_path: Path) -> None:
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued("0001", "echo agent >>shared")
    (second / "shared").write_text("precious\n")

    message = (
        f"scriptorium: ticket '{name}' waits: local changes in '{second}' are in the way\nhint: commit or stash them\n"
    )

    assert project.run("merge") == (1, "", message)

    assert (second / "shared").read_text() == "precious\n"
    assert (project.root / "shared").read_text() == "1\n2\n3\n"
    assert project.git("status", "--porcelain") == ""


@pytest.mark.parametrize("what", ["rebase", "merge"])
def test_a_landing_waits_for_a_rebase_or_merge_of_the_user(project: Project, what: str) -> None:
    project.git("checkout", "--quiet", "-b", "other")
    project.commit({"shared": "other\n"})
    project.git("checkout", "--quiet", "master")
    project.commit({"shared": "master\n"})
    name = project.queued("0001", "echo x >new")
    with pytest.raises(AssertionError):  # it stops at the conflict
        project.git(what, "other")
    master = project.git("rev-parse", "master")

    result = project.run("merge")

    assert result[:2] == (1, "")
    reason = "'master' is being rebased\nhint: finish" if what == "rebase" else f"'{project.root}' cannot follow: "
    assert f"scriptorium: ticket '{name}' waits: {reason}" in result.err
    assert project.git("rev-parse", "master") == master
    assert "<<<<<<< " in (project.root / "shared").read_text()

    project.git(what, "--abort")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / "new").read_text() == "x\n"


def test_commits_that_come_after_the_tested_one_keep_their_branch(project: Project) -> None:
    name = project.queued()
    # during the gate, as a user who works in the worktree might
    project.gate("test ! -e file || git commit --quiet --allow-empty -m 'Later work'")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("log", "--format=%s", "master..scriptorium/ticket-0001") == "Later work"
    assert not project.worktree(name).exists()


def test_a_locked_index_is_reported_and_the_tested_ticket_lands_later(project: Project, facts: Path) -> None:
    project.gate('echo gate >>"$$FACTS/gates"')
    name = project.queued()
    lock = project.root / ".git" / "index.lock"
    lock.touch()
    master = project.git("rev-parse", "master")

    result = project.run("merge")

    assert result[:2] == (1, "")
    assert f"ticket '{name}' waits: '{project.root}' cannot follow: " in result.err
    assert "index.lock': File exists" in result.err
    assert project.git("rev-parse", "master") == master
    assert f"tickets/in-progress/{name}.md" in project.plan_files()

    lock.unlink()
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (facts / "gates").read_text() == "gate\n" * 2


def test_an_index_that_the_users_git_holds_stays_locked(project: Project) -> None:
    name = project.queued()
    held, go_on = project.root.parent / "held", project.root.parent / "go-on"
    editor = write_script(project.root.parent / "editor", f"touch {held}; until test -e {go_on}; do sleep 0.01; done")
    project.commit({"notes": "1\n"})
    (project.root / "notes").write_text("2\n")
    argv = ["git", "-c", f"core.editor={editor}", "commit", "--quiet", "notes"]
    with subprocess.Popen(argv, cwd=project.root, stderr=subprocess.DEVNULL) as theirs:
        until(held.exists)
        os.utime(project.root / ".git" / "index.lock", (0, 0))

        result = project.run("merge")

        go_on.touch()
    assert theirs.returncode == 1  # it wrote no message
    assert result[:2] == (1, "")
    assert "index.lock': File exists" in result.err
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


ADDS = """
cd "$1"; echo mine >theirs; git add theirs; git commit --quiet -m Mine
"""


def test_a_commit_of_the_user_during_a_landing_stays(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast-forward of git would write the index that it read before the commit."""
    name = project.queued()
    plain = UserCheckout._move_files
    codes: list[int] = []

    def interrupted(checkout: UserCheckout, old: str, commit: str) -> list[str]:
        if not codes:
            codes.append(subprocess.run(["sh", "-c", ADDS, "sh", str(project.root)], capture_output=True).returncode)
        return plain(checkout, old, commit)

    monkeypatch.setattr(UserCheckout, "_move_files", interrupted)

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)

    assert codes == [128]  # the branch was locked
    assert project.git("status", "--porcelain") == "A  theirs"
    assert project.git("reflog", "show", "--format=%gs", "master").splitlines()[0] == "scriptorium"


def test_a_fast_forward_that_fails_half_way_is_undone(project: Project) -> None:
    project.commit({"before": "text\n", "gone": "text\n"})
    name = project.queued(script="echo text >before; rm gone; echo new >a; mkdir new; echo in >new/b; ln -s a link; "
                                 "echo after >before; echo '/z filter=mine' >.gitattributes; echo last >z")  # fmt: skip
    for key, value in {"smudge": "false", "clean": "cat", "required": "true"}.items():
        project.git("config", f"filter.mine.{key}", value)

    for _ in range(2):
        failed = project.run("merge")
        assert failed[:2] == (1, "")
        assert "external filter 'false' failed" in failed.err
        assert project.git("status", "--porcelain") == ""
        assert (project.root / "before").read_text() == "text\n"
        assert (project.root / "gone").read_text() == "text\n"

    project.git("config", "filter.mine.smudge", "cat")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert project.git("status", "--porcelain") == ""


def test_a_stale_lock_on_master_is_reported_and_the_landing_waits(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "MAX_TRIES", 3)
    name = project.queued()
    project.git("checkout", "--quiet", "-b", "mine")
    lock = project.root / ".git" / "refs" / "heads" / "master.lock"
    lock.touch()

    hint = f"if no git is at work, remove '{lock}'"
    why = "'master' could not be moved in 3 tries"
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.WAITING, why, hint)

    lock.unlink()
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_a_repository_with_sha256_ids_is_as_good_as_any(tmp_path: Path) -> None:
    project = Project(tmp_path / "sha256", object_format="sha256")
    project.init()
    first, second = project.queued("0001"), project.queued("0002", "echo 2 >other")
    assert project.run("merge")[:2] == (0, f"{first}\tlanded\n")
    project.git("checkout", "--quiet", "-b", "mine")

    assert project.run("merge")[:2] == (0, f"{second}\tlanded\n")

    assert project.run("fsck") == (0, "", "")


def test_a_landed_branch_that_the_user_has_checked_out_stays(project: Project) -> None:
    name = project.queued()
    project.git("checkout", "--quiet", "--ignore-other-worktrees", "scriptorium/ticket-0001")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain", "--branch") == "## scriptorium/ticket-0001"
