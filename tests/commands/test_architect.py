"""scriptorium architect: spec.md becomes areas, once for each spec."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest

from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.plan.store import PlanStore
from scriptorium.planning.architect import update_areas
from tests.support import PLAN, Project

WAITING = "scriptorium: WAITING: no spec — run 'scriptorium plan'\n"
COUNTS = 'echo x >> "$(dirname "$0")/runs"; '


@pytest.fixture
def project(project: Project) -> Project:
    """A project with a spec and an architect that writes two areas."""
    project.init()
    project.commit_plan({"spec.md": "# Tool\n"}, "Write the spec")
    project.agent(f"{COUNTS}cat > ../prompt; echo '# Core' > areas/core.md; echo '# Extra' > areas/extra.md")
    return project


def runs(project: Project) -> int:
    file = project.root.parent / "runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_spec_becomes_areas_in_one_commit(project: Project) -> None:
    result = project.run("architect")

    assert result == (0, "core\nextra\n", "scriptorium: architect: areas updated: core, extra\n")
    files = project.plan_files()
    assert (files["areas/core.md"], files["areas/extra.md"]) == ("# Core\n", "# Extra\n")
    assert files["planned"] == f"{project.git('rev-parse', f'{PLAN}:spec.md')} spec.md\n"
    assert project.plan_log()[-2:] == ["Write the spec", "scriptorium: update areas from spec"]
    assert "Areas: core, extra\nAgent: script\n" in project.git("log", "-1", "--format=%b", PLAN)


def test_same_spec_costs_no_second_agent_run(project: Project) -> None:
    assert project.run("architect").code == 0
    log = project.plan_log()
    assert project.run("architect") == (0, "", "")
    assert (project.plan_log(), runs(project)) == (log, 1)


def test_changed_spec_prints_only_the_areas_that_changed(project: Project) -> None:
    assert project.run("architect").code == 0
    project.agent(f"{COUNTS}echo '# Core, better' > areas/core.md; rm areas/extra.md; echo '# New' > areas/new.md")
    project.commit_plan({"spec.md": "# Tool, better\n"})

    result = project.run("architect")

    assert (result.code, result.out) == (0, "core\nextra\nnew\n")
    areas = {path for path in project.plan_files() if path.startswith("areas/") and path.endswith(".md")}
    assert areas == {"areas/core.md", "areas/new.md"}
    assert runs(project) == 2


def test_agent_that_wrote_nothing_is_recorded_and_not_asked_again(project: Project) -> None:
    project.agent(f"{COUNTS}true")
    assert project.run("architect") == (0, "", "scriptorium: architect: areas updated: none\n")
    assert project.run("architect") == (0, "", "")
    assert runs(project) == 1


@pytest.mark.parametrize("spec", ["", "  \n\n", None, "# Spec\n\nRun `scriptorium plan` to build this.\n"])
def test_no_spec_or_a_placeholder_waits_and_asks_no_agent(project: Project, spec: str | None) -> None:
    project.commit_plan({"spec.md": spec})
    log = project.plan_log()
    assert project.run("architect") == (0, "", WAITING)
    assert (project.plan_log(), runs(project)) == (log, 0)


def test_edits_outside_areas_are_refused_but_kept(project: Project) -> None:
    project.agent("echo '# Core' > areas/core.md; echo changed > spec.md; echo x > tickets/open/0001-x.md")

    result = project.run("architect")

    assert (result.code, result.out) == (0, "core\n")
    assert "architect wrote spec.md, tickets/open/0001-x.md, which its role may not write: kept as 'refs/" in result.err
    files = project.plan_files()
    assert files["spec.md"] == "# Tool\n"
    assert "tickets/open/0001-x.md" not in files
    kept = project.git("for-each-ref", "--format=%(refname)", "refs/scriptorium/rescue/")
    assert project.git("show", f"{kept}:tickets/open/0001-x.md") == "x"


@pytest.mark.parametrize("name", ["caf\udce9", "a\u2028b", "a\nb"])
def test_area_whose_name_no_ticket_can_hold_is_refused_but_kept(project: Project, name: str) -> None:
    project.agent(f"echo '# Core' > areas/core.md; echo mine > 'areas/{name}.md'")

    result = project.run("architect")

    assert (result.code, result.out) == (0, "core\n")
    (kept,) = project.refs("refs/scriptorium/rescue/")
    assert project.git("show", f"{kept}:areas/{name}.md") == "mine"


def test_area_edited_by_a_person_meanwhile_stays_theirs(project: Project) -> None:
    stream = (
        f"commit refs/heads/{PLAN}\\ncommitter Person <p@example.com> 1700000000 +0000\\ndata 0\\n"
        f"from refs/heads/{PLAN}^0\\nM 100644 inline areas/core.md\\ndata 7\\n# Mine\\n\\n"
    )
    project.agent(
        f"echo '# Core' > areas/core.md; echo '# Extra' > areas/extra.md\n"
        f"printf '{stream}' | git -C {project.root} fast-import --quiet"
    )
    assert project.run("architect").out == "extra\n"
    assert project.plan_files()["areas/core.md"] == "# Mine\n"


def test_agent_that_fails_changes_nothing_and_its_edits_are_kept(project: Project) -> None:
    project.agent("echo '# Core' > areas/core.md; exit 5")
    before = project.git("rev-parse", PLAN)

    result = project.run("architect")

    assert (result.code, result.out) == (1, "")
    assert "scriptorium: architect: the agent ended with exit code 5\nhint: see '" in result.err
    assert project.git("rev-parse", PLAN) == before
    kept = project.git("for-each-ref", "--format=%(refname)", "refs/scriptorium/rescue/")
    assert project.git("show", f"{kept}:areas/core.md") == "# Core"


def test_commits_of_the_agent_are_kept_and_its_areas_taken_all_the_same(project: Project) -> None:
    project.agent(
        "echo first >areas/core.md; git add -A; git commit -qm First\n"
        "git rev-parse HEAD >../made; echo second >areas/core.md"
    )

    result = project.run("architect")

    assert (result.code, result.out) == (0, "core\n")
    assert project.plan_files()["areas/core.md"] == "second\n"
    (kept,) = project.refs("refs/scriptorium/rescue/")
    assert f"architect made commits of its own: kept as '{kept}'" in result.err
    made = (project.paths.plan_worktree.parent / "made").read_text().strip()
    assert project.git("rev-parse", f"{kept}^") == made


def test_repository_that_the_agent_made_is_kept_with_all_its_history(project: Project) -> None:
    project.agent("git init -q own; git -C own commit -q --allow-empty -m One; echo '# Core' >areas/core.md")

    result = project.run("architect")

    assert (result.code, result.out) == (0, "core\n")
    [aside] = project.paths.plan_worktree.parent.glob("plan.found-*")
    assert project.git("log", "--format=%s", cwd=aside / "own") == "One"


@pytest.mark.parametrize("then", ["", "git -C areas/core.md commit -q --allow-empty -m One; git add areas 2>../said"])
def test_repository_called_like_an_area_is_kept_and_removes_none(project: Project, then: str) -> None:
    project.commit_plan({"areas/other.md": "# Other\n"})
    project.agent(f"git init -q areas/core.md; echo precious >areas/core.md/mine; {then}")

    assert project.run("architect").code == 0

    assert "Areas" not in project.git("log", "-1", "--format=%b", PLAN)
    [aside] = project.paths.plan_worktree.parent.glob("plan.found-*")
    assert (aside / "areas" / "core.md" / "mine").read_text() == "precious\n"
    assert list(project.paths.plan_worktree.glob("areas/core.md")) == []


def test_run_leaves_nothing_behind_when_the_plan_has_what_it_wrote(project: Project) -> None:
    assert project.run("architect").out == "core\nextra\n"

    assert not project.paths.plan_worktree.exists()
    assert project.refs("refs/scriptorium/") == {}


def test_areas_that_did_not_get_into_the_plan_are_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PlanStore, "transact", broken_off)
    with pytest.raises(KeyboardInterrupt):
        update_areas(project.workspace)
    project.agent("echo '# Others' > areas/others.md")

    assert project.run("architect").out == "others\n"

    (kept,) = project.refs("refs/scriptorium/rescue/")
    assert project.git("show", f"{kept}:areas/core.md") == "# Core"


@pytest.mark.parametrize("how", ["removed", "broken", "with a repository"])
def test_commits_in_a_worktree_that_cannot_be_used_any_more_are_kept(project: Project, how: str) -> None:
    worktree = project.paths.plan_worktree
    project.git("worktree", "add", "--quiet", "--detach", str(worktree), PLAN)  # left by an interrupted run
    project.git("commit", "--quiet", "--allow-empty", "--message", "Mine", cwd=worktree)
    made = project.git("rev-parse", "HEAD", cwd=worktree)
    if how == "removed":
        shutil.rmtree(worktree)
    elif how == "broken":
        (worktree / ".git").unlink()
    else:
        project.git("init", "--quiet", "own", cwd=worktree)
    project.commit_plan({"spec.md": "# Tool, better\n"})

    assert project.run("architect").code == 0

    (kept,) = project.refs("refs/scriptorium/rescue/")
    assert project.git("for-each-ref", "--format=%(refname)", "--contains", made) == kept


def test_a_checkout_that_cannot_be_written_now_is_made_by_the_next_run(project: Project) -> None:
    assert project.run("architect").code == 0
    project.commit_plan({"spec.md": "# Tool, better\n"})

    limited = f"ulimit -f 0; exec {sys.executable} -m scriptorium architect"  # no file may grow
    done = subprocess.run(["/bin/sh", "-c", limited], cwd=project.root, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, runs(project)) == (1, "", 1)
    assert done.stderr.startswith("scriptorium: 'git worktree' failed: "), done.stderr
    assert project.run("architect").code == 0
    assert runs(project) == 2
    assert list(project.paths.plan_worktree.parent.glob("plan*")) == []


def test_plan_of_the_original_is_taken_over_without_an_agent(project: Project) -> None:
    project.commit_plan(
        {
            "format": None,
            "areas/core.md": "# Core\n",
            "areas/new.md": "# New\n",
            "tickets/done/0001-first.md": "# First\n\n**Area:** core\n",
        }
    )
    assert project.run("architect") == (0, "", "")
    assert runs(project) == 0
    assert project.plan_log()[-1] == "scriptorium: adopt the plan as it stands"
    # areas with tickets count as planned
    planned = project.plan_files()["planned"]
    assert [line.split(" ", 1)[1] for line in planned.splitlines()] == ["areas/core.md", "spec.md"]


def test_prompt_holds_the_spec_word_for_word(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool {{x}} $repo ${spec}\n"})
    assert project.run("architect").code == 0
    (file,) = (project.root.parent / "root").glob("*/worktrees/prompt")
    assert file.read_text().endswith("--- spec.md ---\n# Tool {{x}} $repo ${spec}\n\n")
    assert f"the project in {project.root}." in file.read_text()


# -- submitted with the tool ----------------------------------------------------------------------------


def submit(*names: str, remove: Sequence[str] = ()) -> tuple[str, dict[str, object]]:
    areas = [{"name": name, "text": f"All of {name}."} for name in names]
    return "submit_areas", {"areas": areas, "remove": remove}


def test_areas_submitted_by_mcp_are_in_the_plan(project: Project) -> None:
    project.commit_plan({"spec.md": "# Tool\n", "areas/old.md": "# Old\n", "areas/stays.md": "# Stays\n"})
    workspace = project.workspace
    with Endpoint.local(workspace.paths.ensure(workspace.paths.sockets)) as endpoint:
        project.calling(submit("core", "cli", remove=["old"]), URL=endpoint.ready("architect"))
        assert update_areas(workspace, endpoint) == ["cli", "core", "old"]
    assert project.replies == ["The areas are cli, core, stays."]
    files = project.plan_files()
    assert {path: text for path, text in files.items() if path.endswith(".md") and path.startswith("areas/")} == {
        "areas/cli.md": "All of cli.\n",
        "areas/core.md": "All of core.\n",
        "areas/stays.md": "# Stays\n",
    }


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (submit("core", "../core"), "'../core' is not a valid name of an area"),
        (submit(""), "'' is not a valid name of an area"),
        (submit("core", remove=["gone"]), "there is no area 'gone' to remove; the areas are stays"),
        (submit("core", "core"), "area 'core' occurs twice"),
        (submit("stays", remove=["stays"]), "area 'stays' occurs twice"),
    ],
)
def test_invalid_areas_are_refused_at_once_and_can_be_corrected(
    project: Project, call: tuple[str, dict[str, object]], why: str
) -> None:
    project.commit_plan({"spec.md": "# Tool\n", "areas/stays.md": "# Stays\n"})
    project.calling(call, submit("more"))
    assert project.run("architect").out == "more\n"
    assert project.replies == [
        f"!{why}\nhint: no area was accepted: correct the error and submit all areas again",
        "The areas are more, stays.",
    ]
    assert project.refs("refs/scriptorium/") == {}
