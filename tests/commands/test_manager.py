"""scriptorium manager: areas become tickets, and scriptorium assigns ids and resolves dependencies."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.agents.tools.endpoint import Endpoint
from scriptorium.errors import ScriptoriumError
from scriptorium.plan import store
from scriptorium.planning.manager import known_tickets, write_tickets
from tests.support import PLAN, Project, kept

pytestmark = pytest.mark.slow

COUNTS = 'echo "$SCRIPTORIUM_AREA" >> "$(dirname "$0")/runs"; '


@pytest.fixture
def project(project: Project) -> Project:
    """A project with one area."""
    project.init()
    project.commit_plan({"areas/core.md": "# Core\n"})
    return project


def runs(project: Project) -> list[str]:
    file = project.root.parent / "runs"
    return file.read_text().splitlines() if file.exists() else []


def writes(project: Project, **drafts: str) -> None:
    """Make the agent write tickets, by file name and text. An `n` before a leading digit is dropped."""
    script = COUNTS
    for name, text in drafts.items():
        file = name.replace("_", "-").removeprefix("n-")
        script += f"cat > tickets/open/{file}.md <<'END'\n{text}END\n"
    project.agent(script)


def draft(depends: str = "[]", area: str = "core") -> str:
    return f"---\narea: {area}\ndepends: {depends}\n---\n# Do it\n"


def open_tickets(project: Project) -> dict[str, str]:
    """Return the texts of the open tickets by name."""
    start = "tickets/open/"
    files = project.plan_files().items()
    return {path[len(start) : -3]: text for path, text in files if path.startswith(start) and path.endswith(".md")}


def test_ids_are_given_out_by_the_tool(project: Project) -> None:
    project.ticket("0007", state="done")
    writes(project, count_words=draft(), write_docs=draft())

    result = project.run("manager")

    assert result == (
        0,
        "0008-count-words\n0009-write-docs\n",
        "scriptorium: manager: tickets created for area 'core': 0008-count-words, 0009-write-docs\n",
    )
    assert open_tickets(project) == {"0008-count-words": draft(), "0009-write-docs": draft()}
    assert project.plan_log()[-1] == "scriptorium: create tickets from area core"
    body = project.git("log", "-1", "--format=%b", PLAN)
    assert body.startswith("Area: core\nTickets: 0008-count-words, 0009-write-docs\nAgent: script\n")


@pytest.mark.parametrize(
    ("depends", "settled"),
    [
        ("[a-first]", "[0002]"),  # by file name
        ("a-first", "[0002]"),
        ("tickets/open/a-first.md", "[0002]"),
        ("[a-first, 0001]", "[0002, 0001]"),  # and an existing ticket
        ("[1]", "[0001]"),
        ("[0001-thing]", "[0001]"),
        ("[0001, 1]", "[0001, 0001]"),
        ("none", "none"),
        ("[]", "[]"),
        ("", ""),
        ("'-'", "'-'"),
    ],
)
def test_dependencies_are_resolved(project: Project, depends: str, settled: str) -> None:
    project.ticket("0001", state="done")
    writes(project, a_first=draft(), b_second=draft(depends))
    assert project.run("manager").code == 0
    assert open_tickets(project)["0003-b-second"] == draft(settled)


def test_numbers_that_the_agent_gave_mean_its_own_tickets(project: Project) -> None:
    project.ticket("0001", state="done")
    writes(project, n_0001_first=draft(), n_0002_second=draft("[0001]"))

    assert project.run("manager").out == "0002-first\n0003-second\n"

    assert open_tickets(project)["0003-second"] == draft("[0002]")


def test_tickets_that_could_not_be_written_to_the_plan_are_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = project.root / ".git" / "refs" / "heads" / "scriptorium" / "plan.lock"
    project.agent(f"echo '# Do it' >tickets/open/it.md; touch {lock}")
    monkeypatch.setattr(store, "MAX_TRIES", 3)
    with pytest.raises(ScriptoriumError, match="could not be written"):
        write_tickets(project.workspace)
    lock.unlink()
    project.agent("echo '# Do another' >tickets/open/another.md")

    assert project.run("manager").out == "0001-another\n"

    assert project.git("show", f"{kept(project)}:tickets/open/it.md") == "# Do it"


def test_dependencies_in_the_original_s_form_are_resolved_as_well(project: Project) -> None:
    project.ticket("0001", state="done")
    text = "# Do it\n\n**Area:** core\n**Depends:** {}\n"
    writes(project, n_0001_first=text.format("none"), n_0002_second=text.format("0001"), third=text.format("first"))

    assert project.run("manager").out == "0002-first\n0003-second\n0004-third\n"

    tickets = open_tickets(project)
    assert tickets["0002-first"] == text.format("none")
    assert tickets["0003-second"] == text.format("0002")
    assert tickets["0004-third"] == text.format("0002")


@pytest.mark.parametrize("name", ["caf\udce9", "a\u2028b", "a\nb"])
def test_area_whose_name_no_ticket_can_have_is_reported_by_fsck(project: Project, name: str) -> None:
    project.commit_plan({f"areas/{name}.md": "# Odd\n"})
    project.agent(COUNTS + "test ! -e ../again; touch ../again")

    assert project.run("manager").code == 0

    assert runs(project) == ["core"]
    assert "is not an area: its name " in project.run("fsck").out


@pytest.mark.parametrize("text", ["# Do it\n", "---\npriority: 3\n---\n# Do it\n", "---\narea:\n---\n# Do it\n"])
def test_area_is_filled_in(project: Project, text: str) -> None:
    writes(project, it=text)
    assert project.run("manager").out == "0001-it\n"
    ticket = open_tickets(project)["0001-it"]
    assert "area: core\n" in ticket.partition("# Do it")[0]
    assert ticket.endswith("# Do it\n")
    assert ("priority: 3" in text) == ("priority: 3" in ticket)


def test_unicode_and_spaces_in_a_name_become_a_plain_one(project: Project) -> None:
    project.agent("echo '# Tür' > 'tickets/open/Die Tür.md'")
    assert project.run("manager").out == "0001-die-tür\n"


@pytest.mark.parametrize(
    ("depends", "why"),
    [
        ("[nowhere]", "it depends on 'nowhere', which does not exist"),
        ("[0044]", "it depends on '44', which does not exist"),
        ("[b-second]", "it depends on itself: 0002 -> 0002"),
    ],
)
def test_unknown_dependency_or_circle_is_refused_and_the_files_are_kept(
    project: Project, depends: str, why: str
) -> None:
    writes(project, a_first=draft(), b_second=draft(depends))
    before = project.git("rev-parse", PLAN)

    result = project.run("manager")

    assert (result.code, result.out) == (1, "")
    assert f"scriptorium: ticket 'b-second': {why}\n" in result.err
    assert result.err.endswith(f"hint: the Manager's files are kept: git show {kept(project)}\n")
    assert project.git("rev-parse", PLAN) == before
    assert project.git("show", f"{kept(project)}:tickets/open/a-first.md") + "\n" == draft()


def test_longer_circle_is_refused(project: Project) -> None:
    writes(project, a=draft("[b]"), b=draft("[c]"), c=draft("[a]"))
    before = project.git("rev-parse", PLAN)
    result = project.run("manager")
    assert result.code == 1
    assert "scriptorium: ticket 'a': it depends on itself: 0001 -> 0002 -> 0003 -> 0001\n" in result.err
    assert project.git("rev-parse", PLAN) == before


@pytest.mark.parametrize(
    ("area", "why"),
    [
        ("[core", "its front matter is not YAML in line "),
        ("&a core", "its front matter has an unsupported YAML anchor in"),
    ],
)
def test_broken_front_matter_is_refused_and_kept(project: Project, area: str, why: str) -> None:
    writes(project, it=f"---\narea: {area}\n---\n# Do it\n")
    before = project.git("rev-parse", PLAN)
    result = project.run("manager")
    assert (result.code, result.out) == (1, "")
    assert f"scriptorium: ticket 'it': {why}" in result.err
    assert project.git("rev-parse", PLAN) == before
    assert project.git("show", f"{kept(project)}:tickets/open/it.md").startswith(f"---\narea: {area}\n")


def test_other_tickets_and_files_are_not_the_manager_s_and_kept(project: Project) -> None:
    name = project.ticket("0001")
    before = open_tickets(project)[name]
    project.agent(
        f"echo changed > tickets/open/{name}.md; echo x > tickets/done/0002-x.md; rm areas/core.md\n"
        f"echo '# New' > tickets/open/new.md"
    )

    result = project.run("manager")

    assert (result.code, result.out) == (0, "0002-new\n")
    assert (
        f"manager-core wrote areas/core.md, tickets/done/0002-x.md, tickets/open/{name}.md, "
        f"which its role may not write: kept as '{kept(project)}'"
    ) in result.err
    files = project.plan_files()
    assert files[f"tickets/open/{name}.md"] == before
    assert files["areas/core.md"] == "# Core\n"
    assert "tickets/done/0002-x.md" not in files
    assert project.git("show", f"{kept(project)}:tickets/open/{name}.md") == "changed"


def test_areas_are_planned_in_turn_and_see_the_tickets_before(project: Project) -> None:
    project.commit_plan({"areas/extra.md": "# Extra\n"})
    project.agent(f"{COUNTS}cat > ../prompt-$SCRIPTORIUM_AREA; echo '# Do' > tickets/open/$SCRIPTORIUM_AREA.md")

    result = project.run("manager")

    assert (result.code, result.out) == (0, "0001-core\n0002-extra\n")
    assert runs(project) == ["core", "extra"]
    assert project.plan_log()[-2:] == [
        "scriptorium: create tickets from area core",
        "scriptorium: create tickets from area extra",
    ]
    (prompts,) = (project.root.parent / "root").glob("*/worktrees")
    assert (prompts / "prompt-core").read_text().endswith("--- existing tickets ---\nnone\n")
    assert (prompts / "prompt-extra").read_text().endswith("--- existing tickets ---\n0001-core (open)\n")


def test_area_that_failed_leaves_the_tickets_of_the_one_before(project: Project) -> None:
    project.commit_plan({"areas/extra.md": "# Extra\n"})
    project.agent(f"{COUNTS}[ $SCRIPTORIUM_AREA = core ]; echo '# Do' > tickets/open/do.md")

    result = project.run("manager")
    assert result.code == 1
    assert "scriptorium: manager-extra: the agent ended with exit code 1\n" in result.err
    assert list(open_tickets(project)) == ["0001-do"]

    project.agent(f"{COUNTS}echo '# Do' > tickets/open/do.md")
    assert project.run("manager").out == "0002-do\n"
    assert runs(project) == ["core", "extra", "extra"]


def test_area_that_fails_keeps_no_other_from_its_run(project: Project) -> None:
    project.commit_plan({"areas/a.md": "# A\n", "areas/b.md": "# B\n"})
    text = draft("[ghost]").replace("\n", "\\n")
    project.agent(
        f"{COUNTS}cd tickets/open; case $SCRIPTORIUM_AREA in b) echo '# Do' >do.md;;"
        f" *) printf -- '{text}' >$SCRIPTORIUM_AREA.md;; esac"
    )

    result = project.run("manager")

    assert (result.code, result.out) == (1, "0001-do\n")
    why = "it depends on 'ghost', which does not exist"
    assert f"scriptorium: ticket 'a': {why}; ticket 'core': {why}\nhint: " in result.err
    assert runs(project) == ["a", "b", "core"]
    assert list(open_tickets(project)) == ["0001-do"]


def test_current_areas_cost_no_agent_run(project: Project) -> None:
    writes(project, it=draft())
    assert project.run("manager").code == 0
    log = project.plan_log()
    assert project.run("manager") == (0, "", "")
    assert (runs(project), project.plan_log()) == (["core"], log)


def test_done_area_is_not_ticketed_again_and_a_changed_one_is(project: Project) -> None:
    writes(project, it=draft())
    assert project.run("manager").out == "0001-it\n"
    project.commit_plan({"tickets/open/0001-it.md": None, "tickets/done/0001-it.md": draft()})
    assert project.run("manager").out == ""

    project.commit_plan({"areas/core.md": "# Core, better\n"})
    assert project.run("manager").out == "0002-it\n"
    assert runs(project) == ["core", "core"]


def test_agent_that_wrote_nothing_runs_again_once_the_area_changes(project: Project) -> None:
    project.agent(f"{COUNTS}true")
    assert project.run("manager") == (0, "", "scriptorium: manager: tickets created for area 'core': none\n")
    assert project.run("manager") == (0, "", "")
    project.commit_plan({"areas/core.md": "# Core, better\n"})
    assert project.run("manager").code == 0
    assert runs(project) == ["core", "core"]


def test_prompt_lists_the_newest_of_very_many_done_tickets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scriptorium.planning.manager.MAX_DONE_LISTED", 2)
    for number in ("0001", "0002", "0003"):
        project.ticket(number, state="done")
    project.ticket("0004")

    assert known_tickets(project.workspace.plan.snapshot()) == [
        "0004-thing (open)",
        "(1 older ones are in tickets/done/)",
        "0002-thing (done)",
        "0003-thing (done)",
    ]


# -- submitted with the tool ----------------------------------------------------------------------------


def ticket(name: str, *depends: str | int, **more: object) -> dict[str, object]:
    return {"name": name, "title": "Do it", "body": "So.\n", "depends": depends, **more}


def submit(*tickets: dict[str, object]) -> tuple[str, dict[str, object]]:
    return "submit_tickets", {"tickets": tickets}


REPAIR = "\nhint: no ticket was accepted: correct the error and submit all tickets again"
AGAIN = "To change a ticket, submit it again under its name."


def test_tickets_submitted_by_mcp_get_the_ids_in_the_reply(project: Project) -> None:
    project.ticket("0007", state="done")
    workspace = project.workspace
    with Endpoint.local(workspace.paths.ensure(workspace.paths.sockets)) as endpoint:
        first = ticket("write-docs", "Count words", 7, priority=2, title="Write\nthem")
        project.calling(submit(first, ticket("Count words")), URL=endpoint.ready("manager"))
        created = write_tickets(workspace, endpoint)
    assert project.replies == [f"The tickets so far are 0008-write-docs, 0009-count-words. {AGAIN}"]
    assert created == ["0008-write-docs", "0009-count-words"]
    assert open_tickets(project) == {
        "0008-write-docs": "---\narea: core\ndepends: [0009, 0007]\npriority: 2\n---\n# Write them\n\nSo.\n",
        "0009-count-words": "---\narea: core\ndepends: []\npriority: 0\n---\n# Do it\n\nSo.\n",
    }
    assert project.plan_log()[-1] == "scriptorium: create tickets from area core"
    assert project.refs("refs/scriptorium/") == {}


@pytest.mark.parametrize(
    ("tickets", "why"),
    [
        ([ticket("a"), ticket("b", "nowhere")], "ticket '0003-b': it depends on 'nowhere', which does not exist"),
        ([ticket("b", "tickets/open/0044-x.md")], "ticket '0002-b': it depends on '0044-x', which does not exist"),
        ([ticket("b", "a: ]")], "ticket '0002-b': it depends on 'a', which does not exist"),
        ([ticket("a", "b"), ticket("b", "a")], "ticket '0002-a': it depends on itself: 0002 -> 0003 -> 0002"),
        ([ticket("a b"), ticket("A, b")], "ticket 'a-b': two tickets have this name"),
    ],
)
def test_invalid_tickets_are_refused_at_once_and_can_be_corrected(
    project: Project, tickets: list[dict[str, object]], why: str
) -> None:
    project.ticket("0001", state="done")
    project.calling(submit(*tickets), submit(ticket("a")), submit(ticket("b", "a")))

    assert project.run("manager").out == "0002-a\n0003-b\n"

    assert project.replies == [
        f"!{why}{REPAIR}",
        f"The tickets so far are 0002-a. {AGAIN}",
        f"The tickets so far are 0002-a, 0003-b. {AGAIN}",
    ]
    assert "depends: [0002]\n" in open_tickets(project)["0003-b"]
    assert project.refs("refs/scriptorium/") == {}


def test_a_ticket_submitted_again_replaces_the_first_under_its_number(project: Project) -> None:
    project.calling(submit(ticket("zebra"), ticket("ant")), submit(ticket("Zebra", body="Better."), ticket("more", 1)))
    assert project.run("manager").out == "0001-zebra\n0002-ant\n0003-more\n"
    assert project.replies[1].startswith("The tickets so far are 0001-zebra, 0002-ant, 0003-more.")
    assert open_tickets(project)["0001-zebra"].endswith("\n\nBetter.\n")
    assert "depends: [0001]\n" in open_tickets(project)["0003-more"]


def test_files_and_the_tool_go_together(project: Project) -> None:
    project.calling(
        submit(ticket("second", "by-hand")),
        submit(ticket("third")),
        then="echo '# By hand' > tickets/open/by-hand.md",
    )
    assert project.run("manager").out == "0001-third\n0002-by-hand\n"
    assert "'by-hand', which does not exist" in project.replies[0]


def test_tickets_that_moved_since_the_checkout_are_not_taken_for_new_ones(project: Project) -> None:
    project.ticket("0001")
    project.ticket("0002")
    project.calling(submit(ticket("a", 1)))
    script = project.root.parent / "agent"
    assign = f"(cd {project.root}; scriptorium assign) >/dev/null"
    script.write_text(script.read_text().replace("cd ", f"{assign}; cd ", 1))
    assert project.run("manager").out == "0003-a\n"
    assert list(open_tickets(project)) == ["0002-thing", "0003-a"]
    assert project.git("for-each-ref", "refs/scriptorium/rescue/") == ""


def test_what_the_tool_wrote_of_an_agent_that_fails_is_kept(project: Project) -> None:
    project.calling(submit(ticket("a")), then="exit 3")
    before = project.git("rev-parse", PLAN)
    assert project.run("manager").code == 1
    assert project.git("rev-parse", PLAN) == before
    assert project.git("show", f"{kept(project)}:tickets/open/0001-a.md").startswith("---\narea: core\n")


def test_a_manager_cannot_be_led_out_of_its_checkout_by_a_link(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.calling(submit(ticket("a")))
    script = project.root.parent / "agent"
    link = f"mkdir -p tickets; rm -r tickets/open 2>/dev/null || true; ln -s {elsewhere} tickets/open; "
    script.write_text(script.read_text().replace("cd ", f"{link}cd ", 1))
    project.run("manager")
    assert project.replies == ["!'tickets/open' is a link\nhint: make it a directory"]
    assert list(elsewhere.iterdir()) == []


def test_a_manager_has_no_other_tool(project: Project) -> None:
    project.calling(("submit_pr", {"summary": "done"}), ("submit_areas", {"areas": []}))
    assert project.run("manager").code == 0
    assert project.replies == [
        f"!this run has no tool '{tool}', only submit_tickets" for tool in ("submit_pr", "submit_areas")
    ]
