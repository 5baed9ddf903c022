"""Landing: master moves together with the plan, and the user's own work is never touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scriptorium.git.repository import RefUpdate
from scriptorium.git.user_checkout import UserCheckout
from scriptorium.merge_queue import landing
from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from scriptorium.plan.change import PlanChange
from scriptorium.plan.snapshot import Plan
from scriptorium.plan.store import PlanStore
from tests.support import PLAN, Project, until, write_script

MASTER = "refs/heads/master"


@pytest.fixture(autouse=True)
def _plan(project: Project, facts: Path) -> None:
    project.init()
    project.commit({"shared": "1\n2\n3\n", "mine": "old\n"})


def wait_message(name: str, checkout: Path, file: str) -> str:
    return (
        f"scriptorium: ticket '{name}' waits: local changes in '{checkout}' are in the way: '{file}'\n"
        "hint: commit or stash them\n"
    )


def user_state(project: Project) -> dict[str, str]:
    """Return what belongs to the user alone."""
    foreign = {ref: oid for ref, oid in project.refs().items() if ref != MASTER and "scriptorium/" not in ref}
    return {
        "refs": repr(foreign),
        "stash": project.git("stash", "list", "-p"),
        "HEAD": (project.root / ".git" / "HEAD").read_text(),
        "config": (project.root / ".git" / "config").read_text(),
        "exclude": (project.root / ".git" / "info" / "exclude").read_text(),
        "staged": project.git("diff", "--cached"),
        "edited": project.git("diff"),
        "status": project.git("status", "--porcelain", "--branch"),
        "index flags": project.git("ls-files", "-v", "mine", "shared"),
    }


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

    told = (
        f"scriptorium: ticket '{name}' waits: local changes in '{second}' are in the way\nhint: commit or stash them\n"
    )

    assert project.run("merge") == (1, "", told)

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
    with pytest.raises(AssertionError):  # as it stops at the conflict
        project.git(what, "other")
    master = project.git("rev-parse", "master")

    result = project.run("merge")

    assert result[:2] == (1, "")
    told = "'master' is being rebased\nhint: finish" if what == "rebase" else f"'{project.root}' cannot follow: "
    assert f"scriptorium: ticket '{name}' waits: {told}" in result.err
    assert project.git("rev-parse", "master") == master
    assert "<<<<<<< " in (project.root / "shared").read_text()

    project.git(what, "--abort")
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / "new").read_text() == "x\n"


def test_commits_that_come_after_the_tested_one_keep_their_branch(project: Project) -> None:
    name = project.queued()
    # during the gate, as somebody who works on in the worktree might
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


def begin_landing(project: Project) -> None:
    """Leave the note that a landing begins with, as one that was killed does."""
    master, tested = project.git("rev-parse", "master", "scriptorium/ticket-0001").split()
    (project.root / ".git" / landing.MARK).write_text(f"{project.root}\n{master}\n{tested}\n")


def test_locks_that_a_killed_git_left_do_not_keep_a_ticket_from_landing(project: Project) -> None:
    name = project.queued()
    git = project.root / ".git"
    branches = git / "refs" / "heads"
    worktree = git / "worktrees" / name
    left = [git / "index.lock", git / "HEAD.lock", branches / "master.lock", branches / "scriptorium" / "plan.lock"]
    left += [branches / "scriptorium" / "ticket-0001.lock", worktree / "HEAD.lock", worktree / "index.lock"]
    for lock in left:
        lock.touch()
        os.utime(lock, (0, 0))
    for _ in range(2):
        waiting = project.run("merge")
        assert waiting[:2] == (1, "")  # a person's git may hold the index of their checkout
        assert "index.lock': File exists" in waiting.err
    begin_landing(project)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert [lock for lock in left if lock.exists()] == []
    assert project.git("status", "--porcelain") == ""


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


def test_what_a_killed_fast_forward_had_half_written_is_written_anew(project: Project) -> None:
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file; echo new >other")
    begin_landing(project)
    (project.root / "file").write_text("it is")
    (project.root / "other").touch()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").read_text() == "it is done\n"
    assert not (project.root / ".git" / landing.MARK).exists()


@pytest.mark.parametrize("path", ["caf\udce9", "a\nb", "in/a\nb"])
def test_what_was_half_written_is_found_by_any_name(project: Project, path: str) -> None:
    project.commit({path: "before\n"})
    name = project.queued(script=f"echo it is done >'{path}'")
    begin_landing(project)
    (project.root / path).write_text("it is")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / path).read_text() == "it is done\n"


def test_what_was_half_written_is_found_where_git_ignores_it(project: Project) -> None:
    project.commit({".gitignore": "*.log\nbuild/\n"})
    name = project.queued(script="mkdir build; echo it is done | tee a.log build/b c; git add -f .; git commit -qm x")
    begin_landing(project)
    (project.root / "build").mkdir()
    for path in ("a.log", "build/b", "c"):
        (project.root / path).write_text("it is")
    (project.root / "mine.log").write_text("precious\n")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / "build" / "b").read_text() == "it is done\n"
    assert (project.root / "mine.log").read_text() == "precious\n"


def test_an_edit_in_the_way_is_reported_by_any_name(project: Project) -> None:
    project.commit({"a\nb": "before\n"})
    project.queued(script="echo it is done >'a\nb'")
    (project.root / "a\nb").write_text("precious\n")

    result = project.run("merge")

    assert result[:2] == (1, "")
    assert f"local changes in '{project.root}' are in the way: 'a" in result.err
    assert (project.root / "a\nb").read_text() == "precious\n"


def test_a_note_of_a_landing_that_is_torn_counts_as_none(project: Project) -> None:
    name = project.queued()
    (project.root / ".git" / landing.MARK).write_bytes(os.fsencode(project.root) + b"\n\xff\xfe\n")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


@pytest.mark.parametrize("half", [False, True])
def test_a_killed_fast_forward_is_undone_whatever_becomes_of_its_ticket(project: Project, half: bool) -> None:
    """Even where the state directory is gone, as /tmp is after a reboot."""
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file; echo new >other")
    begin_landing(project)
    if half:
        (project.root / "file").write_text("it is")
        (project.root / "other").touch()
    else:  # all is written but the branch, which is moved last
        project.git("read-tree", "-m", "-u", "master", "scriptorium/ticket-0001")
    shutil.rmtree(project.root.parent / "root")
    project.commit_plan({path: None for path in project.plan_files() if name in path})
    project.ticket("0002")
    assert project.run("assign").code == 0
    project.agent("echo 2 >second; scriptorium submit-pr x")
    assert project.run("code").code == 0

    assert project.run("merge")[:2] == (0, "0002-thing\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").read_text() == "before\n"
    assert not (project.root / "other").exists()


def test_a_killed_fast_forward_is_undone_once_its_lock_is_stale(project: Project) -> None:
    """A run that is started again at once waits so long, and does not end as if a person stood in its way."""
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file")
    begin_landing(project)
    (project.root / "file").write_text("it is")
    git = project.root / ".git"
    for lock in ("index.lock", "HEAD.lock", "refs/heads/master.lock"):
        (git / lock).touch()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert project.git("status", "--porcelain") == ""


def test_stale_locks_are_removed_after_a_kill_when_master_had_moved(project: Project) -> None:
    """Nothing of ours may want them again, and a person's next commit would fail."""
    name = project.queued()
    begin_landing(project)
    project.git("merge", "--quiet", "--ff-only", "scriptorium/ticket-0001")
    locks = [project.root / ".git" / lock for lock in ("HEAD.lock", "refs/heads/master.lock")]
    for lock in locks:
        lock.touch()
        os.utime(lock, (0, 0))

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert not any(lock.exists() for lock in locks)
    project.commit({"mine": "1\n"})


def test_edits_from_before_and_after_a_killed_fast_forward_stay(project: Project) -> None:
    project.commit({"file": "before\n"})
    project.queued(script="echo it is done >file; echo new >other; echo more >third")
    (project.root / "other").write_text("n")  # half of what the commit has, but older
    begin_landing(project)
    (project.root / "file").write_text("it was")
    (project.root / "third").write_text("mo")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert "local changes in" in blocked.err
    assert (project.root / "file").read_text() == "it was"
    assert (project.root / "other").read_text() == "n"
    assert not (project.root / "third").exists()


def test_a_second_kill_just_after_the_first_leaves_nothing_behind(project: Project) -> None:
    project.commit({"file": "before\n"})
    name = project.queued(script="echo it is done >file; echo new >other")
    begin_landing(project)
    (project.root / "file").write_text("it is done\n")
    (project.root / "other").touch()
    killed(project, "UserCheckout.fast_forward", "merge")

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert project.git("status", "--porcelain") == ""


def killed(project: Project, place: str, *argv: str) -> None:
    """Run a command that is killed as it comes to a function of `checkout`."""
    lines = ["import os, signal, sys", "from scriptorium import main"]
    lines += ["from scriptorium.git.user_checkout import UserCheckout"]
    lines.append(f"{place} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)")
    lines += [f"sys.argv = ['scriptorium', *{argv!r}]", "main.main()"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=project.root, check=False)
    assert done.returncode == -signal.SIGKILL


# -- what is a person's, and git does not heed ------------------------------------------------------------


@pytest.mark.parametrize("refuses", ["nothing", "index.lock", "MERGE_HEAD"])
def test_a_file_that_the_user_has_removed_does_not_come_back(project: Project, refuses: str) -> None:
    project.commit({"old": "1\n", "other": "1\n"})
    name = project.queued(script="echo 2 >old; echo 2 >other")
    (project.root / "old").unlink()
    if refuses != "nothing":
        (project.root / ".git" / refuses).write_text(project.git("rev-parse", "HEAD") + "\n")

    waiting = project.run("merge")

    assert waiting[:2] == (1, "")
    assert f"ticket '{name}' waits: " in waiting.err
    assert not (project.root / "old").exists()
    assert (project.root / "other").read_text() == "1\n"
    if refuses == "nothing":
        assert "are in the way: 'old'" in waiting.err
        project.git("checkout", "old")
        assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")


def test_an_ignored_file_in_a_second_checkout_is_in_the_way(project: Project, tmp_path: Path) -> None:
    project.commit({".gitignore": "*.env\n"})
    project.git("worktree", "add", "--quiet", "--force", str(tmp_path / "second"), "master")
    (tmp_path / "second" / "my.env").write_text("precious\n")
    name = project.queued(script="echo 1 >my.env; git add -f my.env; git commit -qm x")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert f"local changes in '{tmp_path / 'second'}' are in the way" in blocked.err
    assert (tmp_path / "second" / "my.env").read_text() == "precious\n"
    (tmp_path / "second" / "my.env").unlink()
    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (tmp_path / "second" / "my.env").read_text() == "1\n"


def test_a_link_in_place_of_a_directory_is_in_the_way(project: Project, tmp_path: Path) -> None:
    project.commit({"data/keep": "1\n"})
    project.queued(script="echo 1 >data/new")
    (project.root / "data").rename(tmp_path / "disk")
    (project.root / "data").symlink_to(tmp_path / "disk")
    with (project.root / ".git" / "info" / "exclude").open("a") as file:
        file.write("data\n")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert "are in the way: 'data'" in blocked.err
    assert (project.root / "data").readlink() == tmp_path / "disk"


@pytest.mark.parametrize("how", ["taken out of git", "in place of a directory"])
def test_an_ignored_file_that_the_ticket_has_a_directory_for_is_in_the_way(project: Project, how: str) -> None:
    if how == "taken out of git":
        project.commit({"data": "1\n"})
        project.queued(script="rm data; mkdir data; echo 1 >data/new")
        project.git("rm", "--quiet", "--cached", "data")
    else:
        project.commit({"data/keep": "1\n"})
        project.queued(script="echo 1 >data/new")
        shutil.rmtree(project.root / "data")
    with (project.root / ".git" / "info" / "exclude").open("a") as file:
        file.write("data\n")
    (project.root / "data").write_text("precious\n")

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert "are in the way: 'data'" in blocked.err
    assert (project.root / "data").read_text() == "precious\n"


def test_a_checkout_without_an_index_gets_no_files_until_it_has_one(project: Project, tmp_path: Path) -> None:
    """As `git clone --no-checkout` and `git reset --soft` leave one; git would write all files of the commit."""
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued()
    for place, index in ((second, ".git/worktrees/second/index"), (project.root, ".git/index")):
        (project.root / index).unlink()
        (place / "mine").write_text("precious\n")
        (place / "shared").unlink()
        blocked = project.run("merge")
        assert blocked[:2] == (1, "")
        assert f"'{place}' cannot follow: " in blocked.err
        assert "it has no index" in blocked.err
        assert (place / "mine").read_text() == "precious\n"
        assert not (place / "shared").exists()
        project.git("reset", "--quiet", cwd=place)

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")
    assert (project.root / "mine").read_text() == (second / "mine").read_text() == "precious\n"


def test_an_ignored_file_in_a_checkout_of_the_plan_stays_and_is_reported(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", str(tmp_path / "plan"), PLAN)
    with (project.root / ".git" / "info" / "exclude").open("a") as file:
        file.write("0001-thing.md\n")
    project.ticket("0001")
    project.git("reset", "--quiet", "--hard", cwd=tmp_path / "plan")
    mine = tmp_path / "plan" / "tickets" / "in-progress" / "0001-thing.md"
    mine.write_text("precious\n")

    assigned = project.run("assign")

    assert assigned.code == 0
    assert f"the files in '{tmp_path / 'plan'}' are behind" in assigned.err
    assert mine.read_text() == "precious\n"


# -- other checkouts --------------------------------------------------------------------------------------


def test_a_second_checkout_follows_though_the_landing_was_killed(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "--force", str(tmp_path / "second"), "master")
    name = project.queued()
    killed(project, "UserCheckout.follow", "merge")
    assert (project.root / "file").exists()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain", cwd=tmp_path / "second") == ""
    assert (tmp_path / "second" / "file").exists()
    assert not (project.root / ".git" / landing.MARK).exists()


@pytest.mark.parametrize("locked", [True, False])
def test_a_half_written_second_checkout_follows_once_its_lock_is_stale(
    project: Project, tmp_path: Path, locked: bool
) -> None:
    second, lock = tmp_path / "second", project.root / ".git" / "worktrees" / "second" / "index.lock"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued(script="echo it is done >file; echo 2 >mine")
    killed(project, "UserCheckout.follow", "merge")
    (second / "file").write_text("it is")
    (second / "mine").unlink()
    if locked:
        lock.touch()
        os.utime(lock, (0, 0))

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain", cwd=second) == ""
    assert (second / "file").read_text() == "it is done\n"
    assert not lock.exists()


def test_a_second_checkout_updated_before_the_kill_stays_as_it_is(project: Project, tmp_path: Path) -> None:
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued(script="echo 1 >file; echo 2 >mine")
    killed(project, "UserCheckout.follow", "merge")
    project.git("reset", "--quiet", "--hard", cwd=second)
    (second / "mine").write_text("edited\n")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    assert "behind" not in result.err
    assert project.git("status", "--porcelain", cwd=second) == " M mine"


def test_a_second_checkout_edited_since_the_kill_is_reported(project: Project, tmp_path: Path) -> None:
    second = tmp_path / "second"
    project.git("worktree", "add", "--quiet", "--force", str(second), "master")
    name = project.queued(script="echo 1 >file; echo 2 >mine")
    killed(project, "UserCheckout.follow", "merge")
    (second / "mine").write_text("edited\n")

    result = project.run("merge")

    assert result[:2] == (0, f"{name}\tlanded\n")
    assert f"the files in '{second}' are behind 'master', as edits are in the way" in result.err
    assert (second / "mine").read_text() == "edited\n"


def test_a_lock_in_a_second_checkout_is_named(project: Project, tmp_path: Path) -> None:
    project.git("worktree", "add", "--quiet", "--force", str(tmp_path / "second"), "master")
    project.queued()
    lock = project.root / ".git" / "worktrees" / "second" / "index.lock"
    lock.touch()

    blocked = project.run("merge")

    assert blocked[:2] == (1, "")
    assert f"hint: if no git is at work, remove '{lock}'" in blocked.err


def test_a_checkout_that_is_made_while_refs_are_moved_follows(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = project.queued()
    project.git("checkout", "--quiet", "-b", "mine")
    plain = PlanStore.prepare

    def prepare(store: PlanStore, base: Plan, change: PlanChange) -> RefUpdate:
        project.git("checkout", "--quiet", "master")
        return plain(store, base, change)

    monkeypatch.setattr(PlanStore, "prepare", prepare)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").exists()


def test_where_master_is_a_symbolic_ref_its_target_checkout_follows(tmp_path: Path) -> None:
    project = Project(tmp_path / "main", branch="main")
    project.init()
    project.git("symbolic-ref", "refs/heads/master", "refs/heads/main")
    name = project.queued()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("symbolic-ref", "refs/heads/master") == "refs/heads/main"
    assert project.git("status", "--porcelain") == ""
    assert (project.root / "file").exists()


def test_files_and_directories_swap_unless_an_ignored_file_is_lost(project: Project) -> None:
    project.commit({".gitignore": "*.env\n", "a/in": "1\n", "b": "1\n", "c/in": "1\n"})
    script = "rm -r a b c; echo 2 >a; mkdir b new; echo 2 >b/in; echo 2 >c; echo 2 >new/in"
    name = project.queued(script=script)
    for place in ("c/mine.env", "new"):
        (project.root / place).write_text("precious\n")
        blocked = project.run("merge")
        assert blocked[:2] == (1, "")
        assert f"are in the way: '{place.partition('/')[0]}'" in blocked.err
        assert (project.root / place).read_text() == "precious\n"
        assert (project.root / "a" / "in").exists()
        (project.root / place).unlink()
    (project.root / "new").mkdir()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.git("status", "--porcelain") == ""
    assert [(project.root / file).read_text() for file in ("a", "b/in", "c", "new/in")] == ["2\n"] * 4


ADDS = """
cd "$1"; echo mine >persons; git add persons; git commit --quiet -m Mine
"""


def test_a_commit_of_the_user_during_a_landing_stays(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """git's own fast-forward has read the index before, and writes it without what was added since."""
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
    assert project.git("status", "--porcelain") == "A  persons"
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
