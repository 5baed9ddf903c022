"""Cooldowns: after a backend rejects a run, no step starts it, and no ticket loses an attempt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scriptorium.agents import cooldown
from scriptorium.agents.cooldown import MAX_COOLDOWN, OnCooldown
from scriptorium.plan.cause import Cause
from tests.support import PLAN, ROLES, WITHOUT_TOOLS, Project, write_script

pytestmark = pytest.mark.slow

LIMIT = '{"type":"turn.failed","error":{"message":"exceeded retry limit, last status: 429 Too Many Requests"}}'


def test_a_cooldown_doubles_with_each_failure_and_ends_on_success(tmp_path: Path) -> None:
    cooldowns = []
    for _ in range(3):
        cooldown.record(tmp_path, "codex", Cause.RATE_LIMIT, "too many")
        rest = cooldown.active(tmp_path, "codex")
        assert rest
        cooldowns.append(rest.seconds)
    assert [round(seconds / 30) for seconds in cooldowns] == [1, 2, 4]
    with pytest.raises(OnCooldown) as caught:
        cooldown.raise_if_active(tmp_path, "codex")
    assert caught.value.code == 75
    assert "backend 'codex' cools down until " in caught.value.message

    cooldown.record(tmp_path, "codex", Cause.GATE, "the ticket's own")
    cooldown.raise_if_active(tmp_path, "codex")


def test_a_retry_delay_of_the_provider_is_obeyed_within_limits(tmp_path: Path) -> None:
    cooldown.record(tmp_path, "a", Cause.RATE_LIMIT, "try again in 10m")
    cooldown.record(tmp_path, "b", Cause.RATE_LIMIT, "try again in 1000h")
    for name, seconds in (("a", 600), ("b", MAX_COOLDOWN)):
        rest = cooldown.active(tmp_path, name)
        assert rest
        assert seconds - 60 < rest.seconds <= seconds
    cooldown.raise_if_active(tmp_path, "c")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"until": "soon"}', '{"backend": "codex"}'])
def test_a_torn_file_and_a_clock_set_back_end_a_cooldown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "codex.json"
    file.write_text(text)
    cooldown.raise_if_active(tmp_path, "codex")
    cooldown.record(tmp_path, "codex", Cause.AUTH, "no key")
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | {"until": facts["until"] + 10 * MAX_COOLDOWN}))
    cooldown.raise_if_active(tmp_path, "codex")


def fake_codex(project: Project, monkeypatch: pytest.MonkeyPatch, *events: str) -> Path:
    """Put a fake codex on PATH, for all roles, that prints events, counts its runs and exits with 1."""
    runs = project.root.parent / "runs"
    directory = project.root.parent / "fake-bin"
    directory.mkdir()
    lines = "\n".join(f"echo '{event}'" for event in events)
    probe = 'test "$1" = exec || exit 1'  # whether its sandbox works is asked as well, and is no run
    write_script(directory / "codex", f"{probe}\necho run >>{runs}\n{lines}\nexit 1")
    monkeypatch.setenv("PATH", str(directory), prepend=":")
    project.python = WITHOUT_TOOLS
    project.configure(endpoints={"local": "http://127.0.0.1:0"}, models=dict.fromkeys(ROLES, "gpt-5.5"))
    return runs


def test_a_rate_limit_uses_no_attempt_and_delays_all_tickets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.init()
    first, second = (project.ticket(id, state="in-progress") for id in ("0001", "0002"))
    runs = fake_codex(project, monkeypatch, LIMIT)

    coded = project.run("code", first)

    assert (coded.code, coded.out) == (1, "")
    assert "attempt failed: The provider's limit is reached: exceeded retry limit, last status: 429" in coded.err
    assert "Cause: rate-limit" in project.git("log", "-1", "--format=%B", PLAN)
    assert "attempts: 0" not in project.plan_files()[f"tickets/open/{first}.md"]
    before = project.refs()

    held = project.run("code", second)

    assert (held.code, held.out) == (75, "")
    assert "scriptorium: backend 'codex' cools down until " in held.err
    assert "hint: it is retried automatically; to retry now, remove '" in held.err
    assert project.refs() == before
    assert runs.read_text() == "run\n"
    Path(held.err.rpartition("remove '")[2].strip().removesuffix("'")).unlink()
    assert project.run("code", second).code == 1
    assert runs.read_text() == "run\nrun\n"


def test_run_assigns_nothing_during_a_cooldown_and_logs_it_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.init()
    project.ticket("0001")
    project.commit_plan({"spec.md": "# A tool\n"})
    runs = fake_codex(project, monkeypatch, LIMIT.replace("429 Too Many Requests", "429: try again in 50m"))

    ran = project.run("run", "--until-idle")

    assert ran.code == 1, ran.out
    assert runs.read_text() == "run\n"  # the Architect's
    assert ran.out.count("architect: the provider's limit is reached: ") == 1
    assert "tickets/open/0001-thing.md" in project.plan_files()
    again = project.run("run", "--once")
    assert again.code == 1
    assert again.out.count("backend 'codex' cools down until") == 1
    assert runs.read_text() == "run\n"


def test_a_rejecting_backend_is_not_started_for_each_area(project: Project) -> None:
    project.init()
    project.commit_plan({"areas/core.md": "# Core\n", "areas/extra.md": "# Extra\n"})
    program = project.root.parent / "home" / "bin" / "codex"
    write_script(program, f"cat >/dev/null; echo run >>{project.root.parent}/runs; echo '{LIMIT}'; exit 1")
    project.configure(models=dict.fromkeys(ROLES, "gpt-5"), sandbox="off")
    project.python = WITHOUT_TOOLS

    result = project.run("manager")

    assert result.code == 1
    assert "scriptorium: manager-core: the provider's limit is reached" in result.err
    assert (project.root.parent / "runs").read_text() == "run\n"
