"""Bad input: one line and a hint on stderr, nothing on stdout, the right exit code, and nothing changed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.bad_input_cases import picture, refused
from tests.support import PLAN, Project, Result

STEPS = ("architect", "manager", "assign", "code", "merge")


VERBS = (*STEPS, "run", "status", "worktrees", "plan", "fsck")


# -- the repository -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["--init", "health", *VERBS])
def test_outside_a_repository(project: Project, tmp_path: Path, verb: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    result = project.run(verb, cwd=place)
    refused(result, 1, f"'{place}' is not a git repository", "run 'git init' there first")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("verb", ["--init", "status", "run"])
def test_bare_repository(project: Project, tmp_path: Path, verb: str) -> None:
    bare = tmp_path / "bare.git"
    project.git("clone", "--quiet", "--bare", str(project.root), str(bare))
    before = project.git("for-each-ref", cwd=bare)
    refused(project.run(verb, cwd=bare), 1, f"'{bare}' is a bare repository", "run scriptorium in a clone of it")
    assert project.git("for-each-ref", cwd=bare) == before


def test_git_directory(project: Project) -> None:
    place = project.root / ".git"
    refused(project.run("status", cwd=place), 1, f"'{place}' is inside a git directory", "go to the working tree")


@pytest.mark.parametrize("verb", ["--init", "status", "architect"])
def test_a_current_directory_that_is_gone(project: Project, tmp_path: Path, verb: str) -> None:
    leave = f'mkdir "$1"; cd "$1"; rmdir "$1"; exec {shlex.quote(sys.executable)} -m scriptorium {verb}'
    argv = ["sh", "-c", leave, "sh", str(tmp_path / "gone")]
    done = subprocess.run(argv, cwd=project.root, capture_output=True, text=True, check=False)
    result = Result(done.returncode, done.stdout, done.stderr)
    refused(result, 1, "the current directory is gone", "it was removed or recreated: change to an existing directory")


@pytest.mark.parametrize("verb", ["--init", "health"])
def test_no_commits(project: Project, tmp_path: Path, verb: str) -> None:
    empty = tmp_path / "empty"
    project.git("init", "--quiet", str(empty))
    result = project.run(verb, cwd=empty)
    refused(result, 1, f"'{empty}' has no commits", "create a first commit, then try again")
    assert project.git("for-each-ref", cwd=empty) == ""


def test_a_branch_that_is_configured_and_not_there(project: Project) -> None:
    project.init()
    project.configure(branch="nosuch")
    hint = "create it, or name another as 'branch' in 'scriptorium.json'"
    refused(project.run("health"), 78, "there is no branch 'nosuch'", hint)


@pytest.mark.parametrize("verb", VERBS)
def test_no_plan_branch(project: Project, verb: str) -> None:
    before = picture(project)
    refused(project.run(verb), 78, f"there is no branch '{PLAN}'", "run 'scriptorium --init' in this repository")
    assert picture(project) == before


def test_path_that_is_missing(project: Project) -> None:
    before = picture(project)
    result = project.run("--init", "nowhere")
    refused(result, 1, "'nowhere' is not a directory", "name a directory inside a git repository")
    assert picture(project) == before


@pytest.mark.parametrize("verb", ["health", *VERBS])
def test_plan_branch_of_a_newer_format(project: Project, verb: str) -> None:
    project.init()
    project.commit_plan({"format": "2\n"})
    if verb == "health":
        assert project.run(verb).code == 0  # it does not use the plan
        return
    before = picture(project)
    message = f"branch '{PLAN}' has format '2', but this version reads format 1"
    refused(project.run(verb), 78, message, "install a newer scriptorium")
    assert picture(project) == before


def test_detached_head_changes_nothing(project: Project) -> None:
    project.init()
    project.git("checkout", "--quiet", "--detach")
    assert project.run("health").out == f"green {project.git('rev-parse', 'master')}\n"
    assert project.run("status").code == 0


def test_detached_head_without_a_branch_that_could_be_master(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", branch="trunk")
    project.init()
    project.git("checkout", "--quiet", "--detach")
    before = picture(project)
    refused(
        project.run("health"),
        78,
        f"cannot determine on which branch of '{project.root}' work lands",
        "check it out, or name it as 'branch' in 'scriptorium.json'",
    )
    assert picture(project) == before

    project.configure(branch="trunk")
    assert project.run("health").out == f"green {project.git('rev-parse', 'trunk')}\n"


def test_branch_that_is_no_text(project: Project) -> None:
    project.init()
    name = project.ticket("0001")
    project.git("checkout", "--quiet", "-b", "caf\udce9")
    assert project.run("assign").code == 0
    project.agent("echo 1 >made; git checkout --quiet -b \"$(printf 'caf\\351-mine')\"")
    assert project.run("code").code == 1
    project.agent("echo 1 >made; scriptorium submit-pr x")
    assert project.run("assign").code == 0
    assert project.run("code").out == f"{name}\n"


def test_branch_that_does_not_exist(project: Project) -> None:
    project.init()
    project.configure(branch="develop")
    refused(project.run("health"), 78, "there is no branch 'develop'", "")


@pytest.mark.parametrize("verb", ["status", "health", "assign"])
def test_inside_a_hook_of_another_repository(project: Project, tmp_path: Path, verb: str) -> None:
    other = Project(tmp_path / "other")
    other.init()
    before = picture(other)
    env = {"GIT_DIR": str(other.root / ".git"), "GIT_WORK_TREE": str(other.root), "GIT_INDEX_FILE": "nowhere"}
    project.init()
    name = project.ticket("0001")

    result = project.run(verb, env=env)

    assert (result.code, result.err) == (0, "")
    expected = {"status": "Open: 1\n", "health": f"green {project.git('rev-parse', 'HEAD')}", "assign": name}
    assert result.out.startswith(expected[verb])
    assert picture(other) == before


def test_agent_inside_a_hook_sees_its_own_worktree(project: Project) -> None:
    project.init()
    project.agent(
        "[ $SCRIPTORIUM_ROLE = coding ] || exit 0; git rev-parse --show-toplevel > top; scriptorium submit-pr x"
    )
    project.ticket("0001")
    project.commit_plan({"spec.md": "# Tool\n"})
    project.configure(endpoints={"local": "http://127.0.0.1:0"})
    env = {"GIT_DIR": str(project.root / ".git"), "GIT_INDEX_FILE": str(project.root / ".git" / "index")}
    assert project.run("run", "--until-idle", env=env).code == 0
    assert project.git("show", "master:top").endswith("/worktrees/tickets/0001-thing")


def test_sub_directory_and_linked_worktree_are_the_same_project(project: Project, tmp_path: Path) -> None:
    project.init()
    deep = project.root / "deep" / "down"
    deep.mkdir(parents=True)
    linked = tmp_path / "linked"
    project.git("worktree", "add", "--quiet", "-b", "mine", str(linked))
    names = [project.ticket("0001"), project.ticket("0002"), project.ticket("0003")]

    found = [project.run("assign", cwd=place).out.rstrip("\n").split("\t") for place in (project.root, deep, linked)]

    assert [ticket for ticket, _ in found] == names
    assert len({Path(worktree).parent for _, worktree in found}) == 1
    (key,) = (path.name for path in (tmp_path / "root").iterdir())
    assert key.startswith("project-")
    states = {project.run("status", cwd=place).out for place in (project.root, deep, linked)}
    assert len(states) == 1


# -- tickets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("---\narea: core\n# No end\n", "its front matter has no closing '---' line"),
        ("---\narea: [core\n---\n# Broken\n", "its front matter is not YAML in line 3: "),
        ("---\n- area\n---\n# A list\n", "its front matter is not a list of 'key: value' lines"),
        ("# No area\n", "it names no area"),
        ("---\narea: core\npriority: soon\n---\n", "'priority' is not a whole number: 'soon'"),
        ("---\narea: core\ndepends: [later]\n---\n", "'depends' names 'later', which is not a ticket id"),
        ("---\narea: core\ndepends: [0009]\n---\n", "it depends on '0009', which does not exist"),
        ("---\narea: core\ndepends: [0001]\n---\n", "it depends on itself: 0001 -> 0001"),
    ],
)
def test_ticket_that_cannot_be_worked_on(project: Project, text: str, why: str) -> None:
    project.init()
    project.commit_plan({"tickets/open/0001-it.md": text})
    before = picture(project)

    result = project.run("assign")

    assert (result.code, result.out) == (1, "")
    first, last = result.err.splitlines()
    assert first.startswith(f"scriptorium: ticket '0001-it': {why}")
    assert last == "hint: edit it on the plan branch, or see 'scriptorium fsck'"
    assert picture(project) == before


def test_circle_of_tickets(project: Project) -> None:
    project.init()
    project.ticket("0001", depends=["0002"])
    project.ticket("0002", depends=["0001"])
    before = picture(project)
    result = project.run("assign")
    refused(result, 1, "ticket '0001-thing': it depends on itself: 0001 -> 0002 -> 0001", "scriptorium fsck")
    assert picture(project) == before


def test_id_that_two_tickets_have(project: Project) -> None:
    project.init()
    project.ticket("0001-one")
    project.ticket("0001-two")
    before = picture(project)
    result = project.run("assign")
    refused(result, 1, "ticket '0001-one': another ticket has the id '0001' as well", "rename one of them")
    assert picture(project) == before


def test_bad_tickets_do_not_hold_up_a_good_one(project: Project) -> None:
    project.init()
    project.commit_plan({"tickets/open/0001-it.md": "---\n"})
    name = project.ticket("0002")
    assert project.run("assign").out.startswith(f"{name}\t")


@pytest.mark.parametrize("stem", ["0001-two words", "0001-tür", 'no "number"', "0001"])
def test_unusual_ticket_name_works_from_open_to_landed(project: Project, stem: str) -> None:
    project.init()
    project.agent('echo "$SCRIPTORIUM_TICKET" > made; scriptorium submit-pr "made it"')
    project.commit_plan({f"tickets/open/{stem}.md": "---\narea: core\n---\n# It\n"})

    assigned = project.run("assign")
    assert (assigned.code, assigned.err) == (0, "")
    coded = project.run("code", input=assigned.out)
    merged = project.run("merge", input=coded.out)

    name = assigned.out.split("\t")[0]
    assert merged.out == f"{name}\tlanded\n"
    assert project.git("show", "master:made") == name
    assert f"tickets/done/{name}.md" in project.plan_files()


@pytest.mark.parametrize("wanted", ["0009", "nothing", "", "../../etc"])
def test_ticket_that_does_not_exist(project: Project, wanted: str) -> None:
    project.init()
    before = picture(project)
    refused(project.run("code", wanted), 1, f"there is no ticket '{wanted}'", "see 'scriptorium status --json'")
    assert picture(project) == before
