"""The README is correct: its commands run, and its tables agree with the code."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scriptorium.errors import ExitCode
from scriptorium.main import VERBS
from scriptorium.project import config, config_reader
from tests.support import CHECKOUT, Project, write_script
from tests.test_layers import LEVEL, SOURCE

pytestmark = pytest.mark.slow

README = (CHECKOUT / "README.md").read_text()
DEADLINE = 60  # seconds

# This program of the command harness stands for `codex` in the README; it prints that it is a stand-in.
STAND_IN = """\
request=$(cat)
echo "stand-in: a script and no model, in place of codex"
case $SCRIPTORIUM_ROLE in
architect)
    case $request in
    *"--- request ---"*) echo "A command 'tally'." >spec.md ;;
    *) echo "# Counting" >areas/counting.md ;;
    esac ;;
manager)
    printf -- '---\\narea: %s\\n---\\n# Count words\\n' "$SCRIPTORIUM_AREA" >tickets/open/count-words.md ;;
coding)
    echo "$SCRIPTORIUM_TICKET" >>done.txt
    scriptorium submit-pr "Finish $SCRIPTORIUM_TICKET" ;;
esac
"""


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block_with(words: str, language: str = "sh") -> str:
    """Return the only block that contains some words."""
    [block] = [block for block in blocks(language) if words in block]
    return block


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one of any level."""
    return re.split(r"^#", README.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> list[str]:
    """Return the code-marked first cells of the tables in a text."""
    return re.findall(r"^\| `([^`|]+)`", text, re.MULTILINE)


@pytest.fixture
def home(project: Project) -> Path:
    """A home directory as in the README: the project next to the clone, the stand-in configured."""
    home = Path(os.environ["HOME"])
    project.agent(STAND_IN)
    project.configure(endpoints={"local": "http://127.0.0.1:0"})
    (home / "my-project").symlink_to(project.root)
    (home / "scriptorium").symlink_to(CHECKOUT)
    return home


def shell(project: Project, script: str) -> subprocess.CompletedProcess[str]:
    """Run a block of the README in the project, with the state outside /tmp."""
    script = script.replace("/tmp/scriptorium", os.environ["SCRIPTORIUM_ROOT"])
    script = re.sub(r"\bmy-project(?=/run_)", project.root.name, script)
    return subprocess.run(["sh", "-ec", script], cwd=project.root, capture_output=True, text=True, check=False)


def ok(project: Project, script: str) -> str:
    """Run a block that must succeed and return what it printed."""
    done = shell(project, script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_until_done(project: Project, wanted: int) -> None:
    """Run `scriptorium run` until that many tickets are done, then press Ctrl-C."""
    with subprocess.Popen(
        ["scriptorium", "run"], cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        deadline = time.monotonic() + DEADLINE
        while len([path for path in project.plan_files() if path.startswith("tickets/done/0")]) < wanted:
            assert run.poll() is None, run.stderr.read() if run.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        assert run.wait(DEADLINE) == ExitCode.INTERRUPTED


# -- the commands ------------------------------------------------------------------------------------


def test_every_shell_block_is_run_by_a_test_below() -> None:
    run = (
        "make demo\n", "make test\n", "pip install .", "scriptorium --init", "scriptorium worktrees",
        "assign | scriptorium code", "scriptorium.mk", "hooks install", "git worktree add", "git log -3", "tail -n",
    )  # fmt: skip
    assert len(blocks("sh")) == len(run)
    assert [block_with(words) for words in run]
    assert len(blocks("crontab")) == 1


def test_make_demo_builds_the_small_project(tmp_path: Path) -> None:
    """The installation is skipped, as nothing is downloaded here; all other blocks run as printed."""
    write_script(tmp_path / "scriptorium", f'exec {shlex.quote(sys.executable)} -m scriptorium "$@"')
    command = block_with("make demo\n").strip()
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    argv = ["sh", "-ec", f"{command} BIN={tmp_path} --old-file=.venv/installed"]
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "Done: 3\n" in done.stdout
    assert "0002-ignore-case-and-punctuation' reopened: `make test` failed" in done.stdout


def test_make_test_runs_the_tests_without_integration(tmp_path: Path) -> None:
    """pytest only collects the tests, or this test would run itself."""
    write_script(tmp_path / "pytest", f'exec {shlex.quote(sys.executable)} -m pytest "$@"')
    command = block_with("make test\n").strip()
    env = {**os.environ, "PYTEST_ADDOPTS": "--collect-only -n 0 -p no:cacheprovider"}
    argv = ["sh", "-ec", f"{command} BIN={tmp_path} --old-file=.venv/developing"]
    done = subprocess.run(argv, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/docs/test_readme.py" in done.stdout
    assert "tests/integration" not in done.stdout.partition("\n")[2]


def test_the_make_targets_that_it_names_exist() -> None:
    targets = re.findall(r"`make ([a-z-]+)`", section("Testing"))
    assert set(targets) == {
        "test", "quick", "check", "integration-test", "integration-test-offline", "crash-test", "stress-test",
        "soak", "bench",
    }  # fmt: skip
    makefile = (CHECKOUT / "Makefile").read_text()
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_the_quick_start_leads_from_nothing_to_a_commit_on_master(project: Project, home: Path) -> None:
    before = project.git("rev-parse", "master")
    first, then, last = block_with("scriptorium --init").strip().splitlines()
    assert ok(project, first).startswith("created 'scriptorium/plan'")
    assert ok(project, then) == "stand-in: a script and no model, in place of codex\n"
    assert last == "scriptorium run"
    run_until_done(project, 1)
    assert project.git("log", "--format=%s", f"{before}..master") == "Count words"
    assert (project.root / "done.txt").read_text() == "0001-count-words\n"

    looked = ok(project, block_with("scriptorium worktrees"))
    assert "Done: 1\n" in looked
    assert "scriptorium: no active ticket worktrees\n" in looked
    assert "scriptorium: complete ticket 0001-count-words\n" in looked
    assert looked.endswith("A command 'tally'.\n")
    assert "merge queue: ticket '0001-count-words' landed" in ok(project, block_with("tail -n"))
    output = ok(project, block_with("git log -3"))
    assert "Move: in-progress -> done\n" in output
    assert "Attempt: 1\n" in output


def test_the_pipeline_takes_a_ticket_from_open_to_master(project: Project, home: Path) -> None:
    project.init()
    project.ticket("0001")
    assert ok(project, block_with("assign | scriptorium code")) == "0001-thing\tlanded\n"
    assert project.git("log", "-1", "--format=%s", "master") == "0001-thing"


def test_make_takes_a_ticket_from_open_to_master(project: Project, home: Path) -> None:
    project.init()
    project.ticket("0001")
    out = ok(project, block_with("scriptorium.mk"))
    assert out.startswith("0001-thing\tlanded\n")
    assert "Done: 1\n" in out


def test_the_hooks_come_and_go(project: Project, home: Path) -> None:
    project.init()
    out = ok(project, block_with("hooks install"))
    assert re.findall(r"^post-commit\t(\w+)", out, re.MULTILINE) == ["installed", "installed", "uninstalled"]
    assert not (project.root / ".git" / "hooks" / "post-commit").exists()


def test_the_cron_line_works_in_the_bare_environment_of_cron(project: Project, home: Path) -> None:
    project.init()
    project.commit_plan({"spec.md": "A command 'tally'.\n"})
    project.ticket("0001")
    [line] = block_with("", "crontab").splitlines()
    when, command = line.split(" ", 5)[:5], line.split(" ", 5)[5].replace("/home/me", str(home))
    assert when == ["*/10", "*", "*", "*", "*"]
    (home / ".local" / "bin").mkdir(parents=True)
    write_script(
        home / ".local" / "bin" / "scriptorium",
        f'PYTHONPATH={shlex.quote(str(CHECKOUT))} exec {shlex.quote(sys.executable)} -m scriptorium "$@"',
    )
    # the variables of cron, and the variable that keeps the state outside /tmp
    bare = {"HOME": str(home), "LOGNAME": "me", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    bare["SCRIPTORIUM_ROOT"] = os.environ["SCRIPTORIUM_ROOT"]
    done = subprocess.run(["/bin/sh", "-c", command], cwd="/", env=bare, capture_output=True, text=True, check=False)
    log = (home / "scriptorium.log").read_text()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), log
    assert "merge queue: ticket '0001-thing' landed" in log
    assert project.git("log", "-1", "--format=%s", "master") == "0001-thing"


def test_a_ticket_added_by_hand_lands_though_master_is_red(project: Project, home: Path) -> None:
    project.init()
    project.commit_plan({"spec.md": "A build.\n"})
    red = project.gate("test -e done.txt")
    ok(project, block_with("git worktree add"))
    assert not (project.root.parent / "plan").exists()
    assert project.run("run", "--once").code == ExitCode.REFUSED
    assert project.git("log", "--format=%s", f"{red}..master") == "Repair the build"
    assert project.plan_files().keys() >= {"tickets/done/0001-repair-the-build.md"}
    assert project.run("health").code == ExitCode.OK


# -- any program as an agent -------------------------------------------------------------------------


def test_an_agent_program_gets_what_is_promised(project: Project, home: Path) -> None:
    project.init()
    [settings] = [json.loads(block) for block in blocks("json") if "my-agent" in block]
    project.configure(**settings)
    seen = project.root.parent / "seen"
    write_script(
        project.root / "agent",
        f'env >{seen}; echo "ARGUMENTS=$*" >>{seen}; echo "HERE=$PWD" >>{seen}; echo "PROMPT=$(head -c 20)" >>{seen}\n'
        f"command -v scriptorium >>{seen}\necho x >x; scriptorium submit-pr done",
    )
    project.commit({".gitignore": "agent\n"})
    project.ticket("0001", area="counting")
    assert ok(project, block_with("assign | scriptorium code")) == "0001-thing\tlanded\n"
    env = dict(line.split("=", 1) for line in seen.read_text().splitlines() if re.match(r"\w+=", line))
    assert (env["ARGUMENTS"], env["K"], env["PROMPT"]) == ("--flag", "v", "You are the coding a")
    assert env["HERE"] == env["SCRIPTORIUM_WORKTREE"]
    assert env["SCRIPTORIUM_ROLE"] == "coding"
    assert env["SCRIPTORIUM_TICKET"] == "0001-thing"
    assert env["SCRIPTORIUM_AREA"] == "counting"
    assert env["SCRIPTORIUM_REPO"] == str(project.root)
    assert seen.read_text().splitlines()[-1].startswith(os.environ["SCRIPTORIUM_ROOT"])

    marks = {"SCRIPTORIUM_RUN", "SCRIPTORIUM_SESSION", "SCRIPTORIUM_ROOT"}  # variables of the run, and of this test
    documented = re.findall(r"`(SCRIPTORIUM_\w+)`", section("Any program as an agent"))
    assert set(documented) == {name for name in env if name.startswith("SCRIPTORIUM_")} - marks


# -- the tables --------------------------------------------------------------------------------------


def test_the_configuration_table_has_exactly_the_accepted_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: set[str] = set()
    take = config_reader.Reader.take

    def note(reader: config_reader.Reader, key: str, *rest: object) -> object:
        taken.add(".".join(part for part in (reader.where, key) if part))
        return take(reader, key, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(config_reader.Reader, "take", note)
    config.parse('{"harnesses": {"<name>": {"command": ["x"], "protocol": "acp"}}}')
    keys = {key for key in taken if not any(other.startswith(f"{key}.") for other in taken)}
    listed = first_column(section("Configuration"))
    roles = [role for role in listed if "<role>" in role]
    expanded = [role.replace("<role>", name) for role in roles for name in (*config.ROLES, "audit")]
    assert sorted([key for key in listed if key not in roles and key.upper() != key] + expanded) == sorted(keys)


def test_the_configuration_table_has_the_defaults(tmp_path: Path) -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)`", section("Configuration"), re.MULTILINE)
    defaults = {key: value for key, value in rows if key.upper() != key and "codingAgent" not in key}
    plain = config.load(tmp_path)
    assert defaults == {
        **{f"models.{role}": plain.model(role) for role in config.ROLES},
        "endpoints.local": "http://{}:{}".format(*plain.endpoint),
        "environment": json.dumps(plain.environment),
        "prices": json.dumps(plain.prices),
        "sandbox": plain.sandbox,
        "branch": "master",
        "gate": plain.gate,
        "timeouts.gate": f"{plain.gate_timeout:g}",
        "timeouts.hard": f"{plain.limits.hard:g}",
        "timeouts.no_output": f"{plain.limits.no_output:g}",
        "timeouts.no_progress": f"{plain.limits.no_progress:g}",
        "max_attempts": str(plain.max_attempts),
        "disk_floor": str(plain.disk_floor),
        "logLevel": plain.log_level,
        "fileLogLevel": plain.file_log_level,
    }


def test_the_configurations_shown_are_right() -> None:
    for block in blocks("json"):
        config.parse(block)


def test_the_commands_table_has_all_verbs() -> None:
    assert first_column(section("Commands")) == list(VERBS)


def test_the_exit_codes_table_has_all_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section("Exit codes"), re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(int(code), code.name) for code in ExitCode]


def test_the_environment_variables_it_names_are_read_by_the_code() -> None:
    names = [name for name in first_column(section("Configuration")) if name.upper() == name]
    source = "".join(path.read_text() for path in (CHECKOUT / "scriptorium").rglob("*.py"))
    assert names
    assert [name for name in names if f'"{name}"' not in source] == []


def test_every_link_leads_somewhere() -> None:
    files = re.findall(r"\]\(([^)#]+)\)", README)
    assert [file for file in files if not (CHECKOUT / file).exists()] == []
    headings = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)", README, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_the_map_of_packages_names_every_module_and_no_other() -> None:
    text = (CHECKOUT / "CONTRIBUTING.md").read_text().partition("## Where a line belongs")[2]
    rows = re.findall(r"^\| `([\w/]+)/` \| (.+) \|$", text, re.MULTILINE)
    packages = {file.parent.relative_to(SOURCE).as_posix() for file in SOURCE.glob("*/**/__init__.py")}
    assert {name for name, _ in rows} == packages
    for name, words in rows:
        there = {file.stem for file in (SOURCE / name).glob("*.py")} - {"__init__"}
        named = set(re.findall(r"`(\w+)`", words))
        if name in ("commands", "agents/harness/backends"):  # one file for each verb, or for each agent program
            assert named <= there
        else:
            assert named == there, name


def test_the_map_of_packages_is_in_the_order_of_the_layers() -> None:
    text = (CHECKOUT / "CONTRIBUTING.md").read_text().partition("## Where a line belongs")[2]
    names = re.findall(r"^\| `(\w+)(?:/|\.py)", text, re.MULTILINE)
    levels = [LEVEL[name] for name in names]
    assert levels == sorted(levels)
