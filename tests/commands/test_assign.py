"""scriptorium assign: the choice of the next ticket, and the creation of its worktree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from scriptorium.project.held import TicketLock
from scriptorium.system import locks
from scriptorium.worktrees.tickets import TicketWorktree
from tests.support import PLAN, Project, until

OK = "---\narea: core\n---\n# Do it\n"


@pytest.fixture(autouse=True)
def _plan(project: Project) -> None:
    project.init()


def add(project: Project, *names: str, text: str = OK, state: str = "open") -> None:
    project.commit_plan({f"tickets/{state}/{name}.md": text for name in names})


def assign(project: Project) -> list[str]:
    """Assign one ticket and return its record."""
    result = project.run("assign")
    assert (result.code, result.err) == (0, "")
    return result.out.rstrip("\n").split("\t")


def tickets(project: Project, state: str) -> list[str]:
    listed = project.git("ls-tree", "-z", "--name-only", PLAN, f"tickets/{state}/").split("\0")
    return [path.rpartition("/")[2].removesuffix(".md") for path in listed if path.endswith(".md")]


def test_the_oldest_ready_ticket_gets_one_commit_a_branch_and_a_worktree(project: Project) -> None:
    text = "---\n# by hand\narea:   'core'\npriority: 0 # usual\n---\n# Title\n\nBody\t\n"
    add(project, "0001-first", "0002-second", text=text)

    name, worktree = assign(project)

    assert name == "0001-first"
    assert Path(worktree).name == name
    assert project.git("symbolic-ref", "HEAD", cwd=Path(worktree)) == "refs/heads/scriptorium/ticket-0001"
    assert project.git("diff", "--name-status", f"{PLAN}~", PLAN) == (
        "R100\ttickets/open/0001-first.md\ttickets/in-progress/0001-first.md"
    )
    assert project.git("log", "-1", "--format=%B", PLAN).splitlines()[:5] == [
        "scriptorium: assign ticket 0001-first",
        "",
        "Ticket: 0001-first",
        "Move: open -> in-progress",
        "Attempt: 1",
    ]


def test_higher_priority_goes_first_and_then_the_lower_number(project: Project) -> None:
    add(project, "10000-late", "9999-early", "0002-usual")
    add(project, "0003-urgent", text="---\narea: core\npriority: 7\n---\n")
    add(project, "0001-whenever", text="---\narea: core\npriority: -1\n---\n")

    turns = [assign(project)[0] for _ in range(5)]

    assert turns == ["0003-urgent", "0002-usual", "9999-early", "10000-late", "0001-whenever"]


@pytest.mark.parametrize("state", ["open", "in-progress", "stuck"])
def test_a_ticket_waits_until_all_it_depends_on_is_done(project: Project, state: str) -> None:
    add(project, "0001-base", state="done")
    add(project, "0002-part", state=state)
    add(project, "0003-whole", text="---\narea: core\ndepends: [0001, '0002']\npriority: 9\n---\n")
    if state == "open":
        assert assign(project)[0] == "0002-part"
        state = "in-progress"
    before = project.git("rev-parse", PLAN)

    assert project.run("assign") == (0, "", "")
    assert project.git("rev-parse", PLAN) == before

    project.commit_plan({f"tickets/{state}/0002-part.md": None, "tickets/done/0002-part.md": OK})
    assert assign(project)[0] == "0003-whole"


def test_nothing_open_prints_nothing(project: Project) -> None:
    before = project.plan_log()

    assert project.run("assign") == (0, "", "")
    assert project.plan_log() == before


def test_a_ticket_of_the_original_is_assigned_as_it_is(project: Project) -> None:
    text = "# 0001\n\n**Area:** core\n**Depends:** none\n\nDo it.\n"
    add(project, "0001-old", text=text)

    assert assign(project)[0] == "0001-old"
    assert project.plan_files()["tickets/in-progress/0001-old.md"] == text


def test_a_ticket_without_a_number_gets_the_next_one(project: Project) -> None:
    add(project, "0007-old", state="done")
    add(project, "Make it “quick”")

    name, worktree = assign(project)

    assert name == "0008-make-it-quick"
    assert Path(worktree).is_dir()
    assert tickets(project, "in-progress") == [name]
    assert tickets(project, "open") == []


@pytest.mark.parametrize(
    "name", ["0001-with a  space", "0001-größe-数", "0001-'\"quoted\"'", "0001-$HOME;~^:?*[\\", "1"]
)
def test_a_ticket_of_any_name_is_assigned(project: Project, name: str) -> None:
    add(project, name)

    record = assign(project)

    assert record[0] == name
    assert project.git("symbolic-ref", "HEAD", cwd=Path(record[1])) == "refs/heads/scriptorium/ticket-0001"
    assert tickets(project, "in-progress") == [name]


BAD = {
    "broken front matter": (
        {"0001-bad": "---\narea: [core\n---\n"},
        "ticket '0001-bad': its front matter is not YAML in line 3: expected ',' or ']', but got '<stream end>'\n"
        "hint: edit it on the plan branch, or see 'scriptorium fsck'\n",
    ),
    "endless front matter": (
        {"0001-bad": "---\narea: core\n"},
        "ticket '0001-bad': its front matter has no closing '---' line\n"
        "hint: edit it on the plan branch, or see 'scriptorium fsck'\n",
    ),
    "no area": (
        {"0001-bad": "---\ndepends: []\n---\n"},
        "ticket '0001-bad': it names no area\nhint: edit it on the plan branch, or see 'scriptorium fsck'\n",
    ),
    "unknown dependency": (
        {"0001-bad": "---\narea: core\ndepends: [0042]\n---\n"},
        "ticket '0001-bad': it depends on '0042', which does not exist\n"
        "hint: edit it on the plan branch, or see 'scriptorium fsck'\n",
    ),
    "dependency that is no id": (
        {"0001-bad": "---\narea: core\ndepends: [parser]\n---\n"},
        "ticket '0001-bad': 'depends' names 'parser', which is not a ticket id\n"
        "hint: edit it on the plan branch, or see 'scriptorium fsck'\n",
    ),
    "dependency on itself": (
        {"0001-bad": "---\narea: core\ndepends: [1]\n---\n"},
        "ticket '0001-bad': it depends on itself: 0001 -> 0001\n"
        "hint: edit it on the plan branch, or see 'scriptorium fsck'\n",
    ),
    "circular dependency": (
        {
            "0001-bad": "---\narea: core\ndepends: [0003]\n---\n",
            "0002-bad": "---\narea: core\ndepends: [0001]\n---\n",
            "0003-bad": "---\narea: core\ndepends: [0002]\n---\n",
        },
        "ticket '0001-bad': it depends on itself: 0001 -> 0003 -> 0002 -> 0001\n"
        "hint: edit it on the plan branch, or see 'scriptorium fsck'\n",
    ),
    "duplicate id": (
        {"0001-bad": OK, "1-bad": OK},
        "ticket '0001-bad': another ticket has the id '0001' as well\nhint: rename one of them\n",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_ticket_that_can_never_be_ready_is_reported_when_none_is_left(project: Project, case: str) -> None:
    bad, message = BAD[case]
    project.commit_plan({f"tickets/open/{name}.md": text for name, text in bad.items()})
    add(project, "0009-good")

    assert assign(project)[0] == "0009-good"
    before = project.git("rev-parse", PLAN)

    assert project.run("assign") == (1, "", f"scriptorium: {message}")
    assert project.git("rev-parse", PLAN) == before
    assert tickets(project, "open") == sorted(bad)


def test_an_id_that_a_done_ticket_has_is_not_worked_on_again(project: Project) -> None:
    add(project, "0001-old", state="done")
    add(project, "0001-new")

    message = "ticket '0001-new': another ticket has the id '0001' as well\nhint: rename one of them\n"

    assert project.run("assign") == (1, "", f"scriptorium: {message}")


def test_eight_at_once_get_eight_different_tickets(project: Project) -> None:
    names = [f"000{n}-x" for n in range(1, 9)]
    add(project, *names)

    results = [process.communicate() for process in [project.start("assign") for _ in names]]

    assert [process.returncode for process in project.started] == [0] * 8
    assert [err for _, err in results] == [""] * 8
    assert sorted(out.split("\t")[0] for out, _ in results) == names
    assert tickets(project, "in-progress") == names
    assert project.git("log", "--format=%s", "--grep=assign ticket", PLAN).count("\n") == 7
    assert project.git("for-each-ref", "--format=%(refname:lstrip=3)", "refs/heads/scriptorium/ticket-*") == "\n".join(
        f"ticket-000{n}" for n in range(1, 9)
    )


def test_work_starts_from_master_whatever_the_user_has_checked_out(project: Project) -> None:
    master = project.git("rev-parse", "master")
    project.git("checkout", "--quiet", "-b", "mine")
    project.commit({"mine": "mine\n"})
    add(project, "0001-x")

    _, worktree = assign(project)

    assert project.git("rev-parse", "HEAD", cwd=Path(worktree)) == master
    assert project.git("symbolic-ref", "--short", "HEAD") == "mine"
    assert project.git("status", "--porcelain") == ""


def test_a_directory_in_the_way_of_the_worktree_is_renamed(project: Project) -> None:
    add(project, "0001-x", "0002-x")
    tree = Path(assign(project)[1]).parent
    (tree / "0002-x").mkdir()
    (tree / "0002-x" / "precious").write_text("mine\n")

    assert assign(project) == ["0002-x", str(tree / "0002-x")]

    (aside,) = tree.glob("0002-x.found-*")
    assert (aside / "precious").read_text() == "mine\n"


def test_two_who_want_the_same_worktree_share_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[str] = []
    hold = locks.hold

    def hold_and_tell(path: Path, subject: str, *, wait: float) -> AbstractContextManager[None]:
        waiting.append(subject)
        return hold(path, subject, wait=wait)

    monkeypatch.setattr(locks, "hold", hold_and_tell)
    workspaces = [project.workspace, project.workspace]
    lock = workspaces[0].paths.lock("worktrees")
    workspaces[0].paths.ensure(lock.parent)
    with ThreadPoolExecutor() as pool:
        with hold(lock, "worktrees"):
            paths = [pool.submit(TicketWorktree(workspace, TicketLock("0001-x")).ensure) for workspace in workspaces]
            until(lambda: waiting == ["worktrees"] * 2)
        assert {path.result() for path in paths} == {project.worktree("0001-x")}

    assert project.refs("refs/scriptorium/") == {}
    assert project.git("status", "--porcelain", "--branch", cwd=project.worktree("0001-x")) == (
        "## scriptorium/ticket-0001"
    )


def test_a_worktree_in_which_a_neighbour_has_begun_to_work_is_left_alone(project: Project) -> None:
    name = project.ticket("0001", state="in-progress")
    project.agent("exit 1")
    project.run("code", name)
    assert tickets(project, "open") == [name]
    project.git("checkout", "--quiet", "--detach", cwd=project.worktree(name))  # as an agent does for a rebase
    with locks.hold(project.paths.ticket_lock(name), name):
        assert assign(project) == [name, str(project.worktree(name))]
    assert project.git("branch", "--show-current", cwd=project.worktree(name)) == ""
    assert project.refs("refs/scriptorium/rescue/") == {}


def test_a_state_root_behind_a_link_is_as_good_as_any(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    monkeypatch.setenv("SCRIPTORIUM_ROOT", str(tmp_path / "link" / "root"))
    name = project.queued()

    assert project.run("merge")[:2] == (0, f"{name}\tlanded\n")

    assert project.refs("refs/scriptorium/") == {}


def test_a_worktree_that_a_killed_git_left_half_made_is_made_anew(project: Project) -> None:
    name = project.ticket("0001")
    project.run("assign")
    git_dir = project.root / ".git" / "worktrees" / name
    # killed during the checkout: the branch is checked out, but its files are missing
    (git_dir / "locked").write_text("initializing")
    (git_dir / "index").rename(git_dir / "index.lock")
    (project.worktree(name) / "Makefile").unlink()
    project.agent("ls >list; echo x >file; scriptorium submit-pr done")

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    assert project.git("diff", "--name-only", "master", "scriptorium/ticket-0001") == "file\nlist"
    assert [path.name for path in project.worktree(name).parent.iterdir()] == [name]


@pytest.mark.parametrize("what", ["a file", "a link to nowhere"])
def test_a_file_in_the_way_of_the_worktree_is_renamed(project: Project, what: str) -> None:
    name = project.ticket("0001")
    path = project.worktree(name)
    path.parent.mkdir(parents=True)
    if what == "a file":
        path.write_text("precious\n")
    else:
        path.symlink_to("nowhere")

    assert project.run("assign")[:2] == (0, f"{name}\t{path}\n")

    (aside,) = path.parent.glob(f"{name}.found-*")
    assert aside.is_symlink() or aside.read_text() == "precious\n"
