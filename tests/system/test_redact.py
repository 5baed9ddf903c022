"""Credentials are removed from texts, files, output and log lines."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptorium.agents.harness.base import Event, EventKind, Harness, Report, Task, parse_event
from scriptorium.agents.harness.runner import run_harness
from scriptorium.gate.command import run_gate
from scriptorium.system import log, redact
from scriptorium.system.limits import Limits
from scriptorium.system.redact import Secrets
from tests.support import Project, until, write_script

KEY_BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n" * 20
PRIVATE_KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{KEY_BODY}-----END RSA PRIVATE KEY-----"
FORMS = [
    "sk-proj-abcdefghijklmnopqrstuvwxyz_0123456789",
    "ghp_abcdefghijklmnopqrstuvwxyz012345",
    "github_pat_abcdefghijklmnopqrstuvwxyz012345",
    "glpat-abcdefghijklmnopqrst",
    "AKIAABCDEFGHIJKLMNOP",
    "xoxb-123456789012-abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    PRIVATE_KEY,
    PRIVATE_KEY.replace(" RSA", ""),
    PRIVATE_KEY.partition("-----END")[0].strip(),
]
VALUES = {
    "API_KEY": "plain-value-of-a-key",
    "DB_PASSWORD": 'quoted "and" back\\slashed / päss\u20acw\u00f6rd \U0001f511',
    "APP_SECRET": "one line\nand\tanother\x01",
}


@pytest.mark.parametrize("secret", FORMS)
def test_a_known_format_is_removed_and_its_surroundings_stay(secret: str) -> None:
    assert redact.redact(f"key='{secret}', and more") == "key='[removed]', and more"
    assert redact.redact(json.dumps({"text": f"({secret})"})) == '{"text": "([removed])"}'


def test_a_mentioned_key_removes_nothing_else() -> None:
    text = "look for '-----BEGIN PRIVATE KEY-----', then for sk-, eyJ and ghp_ in task-1.py"
    assert redact.redact(text) == "look for '[removed]', then for sk-, eyJ and ghp_ in task-1.py"


def test_an_indented_key_is_removed_completely() -> None:
    lines = "\n".join(f"web_1 | {line}" for line in PRIVATE_KEY.splitlines())
    assert redact.redact(f"before\n{lines}\nafter") == "before\nweb_1 | [removed]\nafter"


def spellings(value: str) -> list[str]:
    once = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    return [value, *once, *(json.dumps(text)[1:-1] for text in once)]


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_removed_in_each_spelling_unless_it_is_common(name: str) -> None:
    secrets = Secrets({**VALUES, "OTHER_KEY": "short", "COLOUR": "rather-long-colour"})
    for text in spellings(VALUES[name]):
        assert secrets.redact(f"a {text} short rather-long-colour") == "a [removed] short rather-long-colour"


def test_bytes_that_are_not_utf_8_survive() -> None:
    secrets = Secrets({"A_KEY": "half \udcff characters", "B_KEY": "a lone \ud800 one"})
    assert secrets.redact("x half \udcff characters \ud800 y a lone \ud800 one") == "x [removed] \ud800 y [removed]"


PARTS = [*FORMS[:7], *VALUES.values(), *(json.dumps(value)[1:-1] for value in VALUES.values())]
NOISE = [
    "",
    ".",
    "\n",
    " task-7 ",
    "sk-",
    "eyJ.",
    '"',
    "ghp_ ",
    "-----BEGIN ",
    "plain-value",
    "quoted ",
    "\u20ac",
    "]" * 50,
]


@given(
    parts=st.lists(st.sampled_from([*PARTS, *NOISE]), min_size=1, max_size=30),
    repeat=st.integers(10, 40),
    key=st.integers(0, 40),
    chunk=st.integers(100, 10_000),
    reach=st.integers(0, 1_000),
)
def test_no_cut_of_a_stream_lets_a_secret_through(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], repeat: int, key: int, chunk: int, reach: int
) -> None:
    """With a smaller maximum length of a match, a text of some 50 kB is cut at many places."""
    text = "x" * (reach % 97) + ", ".join([*parts[:key], PRIVATE_KEY, *parts[key:]]) + ";"
    text = text * repeat
    file = tmp_path_factory.mktemp("stream") / "log"
    file.write_bytes(text.encode())
    secrets = Secrets(VALUES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redact, "_CHUNK", chunk)
        patch.setattr(redact, "_MAX_MATCH", 1_500 + reach)  # the private key has 1,100 characters
        secrets.redact_file(file)
    clean = file.read_bytes().decode()
    assert clean == secrets.redact(text)
    assert not [secret for secret in [*PARTS, KEY_BODY] if secret in clean]


def test_a_file_without_secrets_is_left_alone_and_one_with_keeps_its_mode(tmp_path: Path) -> None:
    (place := tmp_path / "logs").mkdir()
    clean, tainted = place / "clean", place / "tainted"
    clean.write_bytes(b"nothing \xff\0 here")
    tainted.write_bytes(b"\xff\0 " + FORMS[0].encode() + b" \xfe")
    tainted.chmod(0o640)
    before = clean.stat()
    for file in (clean, tainted, place / "missing"):
        Secrets().redact_file(file)
    assert (clean.stat().st_ino, clean.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert tainted.read_bytes() == b"\xff\0 [removed] \xfe"
    assert tainted.stat().st_mode & 0o777 == 0o640
    assert sorted(place.iterdir()) == [clean, tainted]


def test_a_value_that_is_no_utf_8_is_found_in_files(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x p\xff\xfessword y")
    Secrets({"PASSWORD": os.fsdecode(b"p\xff\xfessword"), "A_KEY": "a lone \ud800 one"}).redact_file(file)
    assert file.read_bytes() == b"x [removed] y"


class Loose(Harness):
    """An agent that prints its environment in every way there is."""

    name = "loose"

    def __init__(self, program: Path) -> None:
        self._program = program

    def program(self) -> str:
        return str(self._program)

    def argv(self, _task: Task, last_message: Path) -> list[str]:
        return [str(self._program), str(last_message)]

    def read(self, line: bytes, report: Report) -> Iterator[Event]:
        report.error = str(parse_event(line)["text"])
        yield Event(EventKind.TEXT, report.error)


def test_a_run_leaves_and_shows_no_secret_of_its_environment(tmp_path: Path) -> None:
    script = """printf '{"text":"say \\\\"%s\\\\" twice"}\\n' "$MY_TOKEN"; echo "$MY_TOKEN" | tee "$1" >&2"""
    loose = Loose(write_script(tmp_path / "loose", script))
    shown: list[Event] = []
    env = {"PATH": os.environ["PATH"], "MY_TOKEN": "secret-of-the-run"}
    task = Task("coding", "use secret-of-the-run", tmp_path, tmp_path / "logs", "m", "", Limits(0, 0, 0), env)

    outcome = run_harness(loose, task, shown.append)

    assert shown == [Event(EventKind.TEXT, 'say "[removed]" twice')]
    assert (outcome.report.message, outcome.report.error) == ("[removed]\n", 'say "[removed]" twice')
    files = {file.name: file.read_text() for file in task.logs.iterdir()}
    assert files["attempt-01.jsonl"] == '{"text":"say \\"[removed]\\" twice"}\n'
    assert files["attempt-01.stderr"] == files["attempt-01.last.md"] == "[removed]\n"
    assert not [name for name, text in files.items() if "secret-of-the-run" in text]


def test_a_run_that_is_stopped_leaves_no_secret_either(
    project: Project, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.init()
    name = project.ticket("0001", state="in-progress")
    project.agent('echo "$MY_TOKEN"; touch "$FACTS/there"; sleep 600')
    project.configure(environment=["FACTS", "MY_TOKEN"])
    with project.running("code", name, MY_TOKEN="secret-of-the-run") as command:
        until((facts / "there").exists)
        assert command.end(signal.SIGTERM).code == 143
    assert (project.paths.attempts / name / "attempt-01.jsonl").read_text() == "[removed]\n"


def test_the_log_of_a_gate_holds_no_secret(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_KEY", "secret-of-the-user")
    project.gate("env")
    result = run_gate(project.workspace, project.root, "health")
    assert "DEPLOY_KEY=[removed]\n" in result.log.read_text()
    assert "secret-of-the-user" not in result.log.read_text()


def test_no_log_line_holds_a_secret_whoever_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "secret-of-the-user")
    stream, file = io.StringIO(), tmp_path / "run.log"
    log.start(stream, "INFO", file)
    logging.getLogger("scriptorium.any").info("100%% of %s, and %s", "secret-of-the-user", FORMS[0])
    assert stream.getvalue().endswith("[INFO] 100% of [removed], and [removed]\n")
    assert file.read_text() == stream.getvalue()


def test_a_warning_of_a_single_command_holds_no_secret(project: Project) -> None:
    project.init()
    name = project.ticket("0001", state="in-progress")
    project.agent('git -C "$SCRIPTORIUM_REPO" branch "$MY_TOKEN"')
    project.configure(environment=["MY_TOKEN"])
    result = project.run("code", name, env={"MY_TOKEN": "secret-of-the-user"})
    assert "these moved: 'refs/heads/[removed]' none" in result.err


def test_overlapping_secrets_are_merged() -> None:
    values = {"MY_KEY": "sk-abcdefghijklmnopqrst.and-a-tail", "MY_TOKEN": "tail-of-another", "SHORT_KEY": "sk-abcdef"}
    text = "a sk-abcdefghijklmnopqrst.and-a-tail-of-another, b"
    assert Secrets(values).redact(text) == "a [removed], b"


@pytest.mark.parametrize("piece", ["eyJ", "eyJabcdefgh.", "-----BEGIN PRIVATE KEY-----!", "-----BEGIN ", "sk-", "a"])
def test_repeated_beginnings_of_credentials_take_no_longer(piece: str) -> None:
    began = time.process_time()
    redact.redact(piece * (400_000 // len(piece)))
    assert time.process_time() - began < 2, "it takes the square of its length"
