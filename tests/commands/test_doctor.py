"""scriptorium doctor: the checks of all requirements, with stand-ins for the agents' programs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scriptorium.project.workspace import Workspace
from scriptorium.reports import doctor
from scriptorium.reports.doctor import CheckResult
from scriptorium.system import locks
from tests.support import BUSY, PLAN, Project, Result, busy_pids, is_alive, write_script

pytestmark = pytest.mark.slow

PROGRAM = """
case "$1 $2" in
"--version "*) {version} ;;
"login status" | "auth status") {login} ;;
"sandbox "*) {sandbox} ;;
esac
"""

Checks = dict[str, tuple[str, str, str]]
"""State, text and hint by subject."""


def program(project: Project, name: str, **answers: str) -> Path:
    """Put a stand-in for an agent's program on PATH. It passes all checks except the given ones."""
    usual = {"version": f"echo '{name} 1.2.3'", "login": "true", "sandbox": "true"}
    return write_script(project.root.parent / "home" / "bin" / name, PROGRAM.format(**usual | answers))


@pytest.fixture
def project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose only agent program is codex, and that meets all requirements."""
    for name in ("CODEX_API_KEY", "CODEX_HOME", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # no programs or sandboxes of the host
    tools = project.root.parent / "tools"
    tools.mkdir()
    for name in ("sh", "git", "make", "env", "true", "cat", "sleep", "setsid", "mv", "echo"):
        [found] = [path for path in (Path("/usr/bin", name), Path("/bin", name)) if path.exists()][:1]
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", f"{project.root.parent / 'home' / 'bin'}{os.pathsep}{tools}")
    project.init()
    project.commit_plan({"spec.md": "# Tool\n"})
    project.configure(endpoints={"local": "http://127.0.0.1:0"})
    program(project, "codex")
    return project


def examine(project: Project, code: int = 0) -> Checks:
    """Run `scriptorium doctor --json` and return its results."""
    result = project.run("doctor", "--json")
    assert (result.code, result.err) == (code, ""), result.out
    found = json.loads(result.out)
    assert found["ok"] == (code == 0)
    return {check["subject"]: (check["state"], check["text"], check["hint"]) for check in found["checks"]}


def look(project: Project, check: Callable[[Workspace], Iterator[CheckResult]]) -> Checks:
    """Return the results of a single check, which is faster than all of them."""
    workspace = project.workspace
    workspace.paths.ensure(workspace.paths.home)
    return {finding.subject: (finding.state, finding.text, finding.hint) for finding in check(workspace)}


def failures(found: Checks) -> Checks:
    return {subject: finding for subject, finding in found.items() if finding[0] == "failed"}


def test_all_is_well_and_nothing_outside_the_root_is_written(project: Project) -> None:
    def files() -> dict[str, bytes]:
        places = [project.root, project.root.parent / "home"]
        return {str(path): path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}

    before, refs = files(), project.refs()
    result = project.run("doctor")
    assert (result.code, result.err) == (0, "")
    master, plan = (project.git("rev-parse", ref)[:12] for ref in ("master", PLAN))
    lines = result.out.splitlines()
    free = [line for line in lines if line.startswith("ok\tdisk\t")]
    address = next(line for line in lines if line.startswith("ok\tendpoint\t"))
    assert lines == [
        f"ok\tgit\t{project.git('version').removeprefix('git version ')}",
        "ok\tconfiguration\tvalid",
        f"ok\tdirectory\t{project.paths.home}",
        *free,
        "ok\tauthor\tperson@example.com",
        f"note\tmaster\tunknown {master} on 'master'",
        "\thint: scriptorium health",
        "ok\tgate\t`make test`",
        f"ok\tplan\t'{PLAN}' at {plan}",
        "ok\tspec\twritten",
        "note\thook post-commit\tabsent",
        "note\thook post-merge\tabsent",
        "ok\tlocks\tnone held",
        "ok\tgit locks\tnone are stale",
        address,
        "ok\tsubmit tool\treplies over MCP",
        "ok\tcodex\tcodex 1.2.3, for architect, manager, coding",
        "ok\tcodex sign-in\tsigned in",
        "ok\tcodex sandbox\tworkspace-write",
        "note\tclaude-code\t'claude' is not on PATH",
        "note\ttypoi\t'typoi' is not on PATH",
    ]
    assert (files(), project.refs()) == (before, refs)
    assert list(project.paths.sockets.iterdir()) == []


def test_outside_a_repository_it_says_so(project: Project, tmp_path: Path) -> None:
    result = project.run("doctor", cwd=tmp_path)
    assert (result.code, result.err) == (1, "")
    assert result.out.splitlines()[1:] == [
        f"failed\trepository\t'{tmp_path}' is not a git repository",
        "\thint: run 'git init' there first",
    ]


def test_a_new_repository_lacks_the_plan(project: Project) -> None:
    project.git("branch", "--quiet", "-D", PLAN)
    assert failures(examine(project, 1)) == {
        "plan": ("failed", f"there is no branch '{PLAN}'", "run 'scriptorium --init' in this repository")
    }


def test_wrong_configuration_is_told_and_the_rest_looked_at(project: Project) -> None:
    (project.root / "scriptorium.json").write_text('{"sandbox": "on"}')
    found = examine(project, 1)
    assert found["configuration"] == ("failed", "'scriptorium.json': 'sandbox' is 'on'", "one of: auto, off")
    assert found["codex"][0] == "ok"


@pytest.mark.parametrize(
    ("gate", "missing"),
    [
        ("make test", ""),
        ("CI=1 nose tests", "'nose' is not there"),
        ("./ci.sh --all", "'./ci.sh' is not there"),
        ("./ok.sh", ""),
        ("cd . && make nothing", ""),
        ("! false", ""),
        ("( make test )", ""),
        ("make -C sub nothing", ""),
        ("'make", ""),
    ],
)
def test_gate_whose_program_is_missing_is_found(project: Project, gate: str, missing: str) -> None:
    project.commit({"ok.sh": "#!/bin/sh\n"})
    project.configure(gate=gate)
    state, text, hint = look(project, doctor.check_gate)["gate"]
    assert (state, text) == (("failed", f"`{gate}`: {missing}") if missing else ("ok", f"`{gate}`"))
    assert hint.endswith("or set 'gate' in 'scriptorium.json'") == bool(missing)


@pytest.mark.parametrize(
    ("gate", "missing"),
    [
        ("make test", True),
        ("make -j 4 check", True),
        ("make -C sub test", False),
        ("make -fother.mk test", False),
        ("make --directory=sub", False),
        ("true make", False),
    ],
)
def test_a_missing_makefile_on_master_is_found(project: Project, gate: str, missing: bool) -> None:
    project.git("rm", "--quiet", "Makefile")
    project.git("commit", "--quiet", "-m", "Remove the Makefile")
    (project.root / "Makefile").write_text("test:\n")  # not on master, whose files the gate sees
    project.configure(gate=gate)
    state, text, hint = look(project, doctor.check_gate)["gate"]
    why = f"`{gate}`: there is no Makefile on 'master'"
    assert (state, text) == (("failed", why) if missing else ("ok", f"`{gate}`"))
    assert hint == ("add one and commit, or set 'gate' in 'scriptorium.json'" if missing else "")


@pytest.mark.parametrize("name", ["GNUmakefile", "makefile", "Makefile"])
def test_each_name_of_a_makefile_will_do(project: Project, name: str) -> None:
    project.git("rm", "--quiet", "Makefile")
    project.commit({name: "other:\n"})
    assert look(project, doctor.check_gate)["gate"][0] == "ok"


def test_program_that_a_role_needs_and_is_not_there_fails(project: Project) -> None:
    project.configure(models={"coding": "claude-opus"})
    assert failures(look(project, doctor.check_backends)) == {
        "claude-code": (
            "failed",
            "'claude' is not on PATH, for coding",
            "install it with 'npm i -g @anthropic-ai/claude-code', or name a program of your own under 'harnesses'",
        )
    }


def test_program_that_is_not_signed_in_fails_only_where_a_role_needs_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(project, "codex", login="exit 1")
    program(project, "claude", login="exit 1")
    found = look(project, doctor.check_backends)
    assert failures(found) == {"codex sign-in": ("failed", "not signed in", "codex login, or set CODEX_API_KEY")}
    assert found["claude-code"] == ("note", "claude 1.2.3", "")
    assert found["claude-code sign-in"] == ("note", "not signed in", "")

    monkeypatch.setenv("CODEX_API_KEY", "sk-secret")
    assert look(project, doctor.check_backends)["codex sign-in"] == ("ok", "by CODEX_API_KEY", "")


def test_model_provider_of_codexs_own_configuration_needs_no_sign_in(project: Project) -> None:
    program(project, "codex", login="exit 1")
    home = project.root.parent / "home" / ".codex"
    home.mkdir()
    (home / "config.toml").write_text('model_provider = "local"\n')
    assert look(project, doctor.check_backends)["codex sign-in"] == (
        "ok",
        "by model provider 'local' of its configuration",
        "",
    )
    (home / "config.toml").write_text('model_provider = "openai"\n')
    assert look(project, doctor.check_backends)["codex sign-in"][0] == "failed"


def test_role_without_a_step_needs_no_program(project: Project) -> None:
    program(project, "claude")
    (project.root.parent / "home" / "bin" / "codex").unlink()
    project.configure(models=dict.fromkeys(("architect", "manager", "coding"), "claude-opus"))
    found = look(project, doctor.check_backends)
    assert failures(found) == {}
    assert found["codex"] == ("note", "'codex' is not on PATH", "")


def test_program_that_does_not_start_fails(project: Project) -> None:
    program(project, "codex", version="echo 'node: not found' >&2; exit 127")
    found = look(project, doctor.check_backends)
    assert found["codex"][:2] == (
        "failed",
        "does not start: node: not found, for architect, manager, coding",
    )
    assert "codex sign-in" not in found


def test_program_that_hangs_is_ended_with_all_its_children(
    project: Project, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure(environment=["FACTS"])
    program(project, "codex", version=BUSY)
    monkeypatch.setattr(doctor, "TIMEOUT", 1.0)
    text = "does not start: 'codex' gave no answer within 1 seconds, for architect, manager, coding"
    assert look(project, doctor.check_backends)["codex"][:2] == ("failed", text)
    assert [pid for pid in busy_pids(facts) if is_alive(pid)] == []


def test_a_signal_ends_it_and_what_it_has_started(project: Project, facts: Path) -> None:
    project.configure(environment=["FACTS"])
    program(project, "codex", version=BUSY)
    process = project.start("doctor")
    running = busy_pids(facts)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert [pid for pid in running if is_alive(pid)] == []


def test_sandbox_that_does_not_work_is_a_note_and_tried_out_each_time(project: Project, facts: Path) -> None:
    project.configure(environment=["FACTS"])
    program(project, "codex", sandbox='test -e "$FACTS/repaired" || { echo "bwrap: no namespaces" >&2; exit 1; }')
    hint = "'codex' runs without a sandbox; see 'Sandbox' in the README"
    assert look(project, doctor.check_backends)["codex sandbox"] == ("note", "none (bwrap: no namespaces)", hint)
    (facts / "repaired").touch()
    assert look(project, doctor.check_backends)["codex sandbox"] == ("ok", "workspace-write", "")
    assert "Sandbox: codex: workspace-write\n" in project.run("status").out
    project.configure(sandbox="off")
    assert look(project, doctor.check_backends)["codex sandbox"] == (
        "note",
        "none (switched off in 'scriptorium.json')",
        "",
    )


def test_sandbox_of_claude_needs_two_programs_of_the_system(project: Project) -> None:
    program(project, "claude")
    assert look(project, doctor.check_backends)["claude-code sandbox"][1] == "none ('bwrap' is not on PATH)"
    program(project, "bwrap")
    assert look(project, doctor.check_backends)["claude-code sandbox"][1] == "none ('socat' is not on PATH)"
    program(project, "socat")
    assert look(project, doctor.check_backends)["claude-code sandbox"][1] == "workspace-write"


def test_program_of_the_users_own_is_looked_for(project: Project) -> None:
    script = project.agent("true")
    found = look(project, doctor.check_backends)
    assert found["script"] == ("ok", "found, for architect, manager, coding", "")
    assert found["codex"] == ("note", "codex 1.2.3", "")
    script.unlink()
    assert look(project, doctor.check_backends)["script"] == (
        "failed",
        f"'{script}' is not an executable file, for architect, manager, coding",
        "check 'harnesses.script.command' in 'scriptorium.json'",
    )


def test_backend_that_there_is_not_fails(project: Project) -> None:
    project.configure(agents={"coding": {"harness": "codx"}})
    assert failures(look(project, doctor.check_backends)) == {
        "codx": (
            "failed",
            "role 'coding' names the unknown backend 'codx', for coding",
            "did you mean 'codex'?",
        )
    }


def test_address_that_is_taken_fails_unless_a_run_has_it(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        project.configure(endpoints={"local": f"http://127.0.0.1:{port}"})
        state, text, hint = examine(project, 1)["endpoint"]
        assert (state, text) == ("failed", f"cannot listen on '127.0.0.1:{port}': address already in use")
        assert hint == "end the program that listens there, or set 'endpoints.local' in 'scriptorium.json'"
        with locks.hold(project.paths.ensure(project.paths.lock("run").parent) / "run.lock", "run"):
            assert look(project, doctor.check_held_locks)["locks"] == ("ok", "held: run", "")
            found = look(project, doctor.check_endpoint)
    assert found["endpoint"] == ("ok", f"'127.0.0.1:{port}' is served by the run", "")


@pytest.mark.parametrize("path", ["index.lock", "packed-refs.lock", "refs/heads/master.lock"])
def test_lock_that_a_killed_git_left_fails_and_is_left_alone(project: Project, path: str) -> None:
    lock = project.root / ".git" / path
    lock.touch()
    hint = f"if no git is at work, remove '{lock}'"
    assert look(project, doctor.check_git_locks)["git locks"] == ("failed", f"'{lock}' is stale", hint)
    assert lock.exists()


def test_submit_tool_that_cannot_be_reached_fails(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and not listening
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        state, text, hint = look(project, doctor.check_submit_tool)["submit tool"]
    assert (state, hint) == ("failed", "add '127.0.0.1' to NO_PROXY, and check the firewall")
    assert text.startswith("no reply over MCP: ")


def test_hooks_are_told_as_they_are(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)

    def hook() -> tuple[str, str, str]:
        return look(project, doctor.check_hooks)["hook post-commit"]

    assert project.run("hooks", "install").code == 0
    assert hook() == ("ok", "installed", "")
    project.git("config", "core.hooksPath", ".husky")
    text = "installed, but git uses the hooks in '.husky' ('core.hooksPath', local configuration)"
    assert hook() == ("failed", text, "run 'scriptorium hooks install' for the options")
    project.git("config", "--unset", "core.hooksPath")
    with (project.root / ".git" / "hooks" / "post-commit").open("a") as file:
        file.write("echo more\n")
    assert hook() == ("failed", "changed after installation", "run 'scriptorium hooks install' for the reason")
    (project.root / ".git" / "hooks" / "post-commit").write_text("#!/bin/sh\n")
    assert hook() == ("note", "foreign", "")


def test_little_room_on_the_disk_fails(project: Project) -> None:
    project.configure(disk_floor=10**8)
    state, _, hint = look(project, doctor.check_disk)["disk"]
    assert (state, hint) == ("failed", "free some space, or set SCRIPTORIUM_ROOT to another disk")


def test_nobody_configured_as_author_is_a_note(project: Project) -> None:
    subprocess.run(["git", "config", "--global", "--remove-section", "user"], check=True)
    text, hint = "none configured, so agents commit as 'scriptorium'", "git config --global user.email you@example.com"
    assert look(project, doctor.check_author)["author"] == ("note", text, hint)


def test_directory_that_belongs_to_nobody_of_ours_fails(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.root.parent / "file").touch()
    monkeypatch.setenv("SCRIPTORIUM_ROOT", str(project.root.parent / "file"))
    result: Result = project.run("doctor")
    assert result.code == 1
    *_, failed, hint = result.out.splitlines()
    assert failed.startswith("failed\tdirectory\t")
    assert hint == "\thint: set SCRIPTORIUM_ROOT to a directory of your own"
