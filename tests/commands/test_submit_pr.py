"""scriptorium submit-pr: a submission belongs to the run whose token it has, and to no other run."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from scriptorium.agents.environment import launcher
from scriptorium.agents.tools.client import SubmitError, socket_name, submit
from scriptorium.agents.tools.server import MAX_LINE, SubmitServer, remove_stale_sockets
from scriptorium.errors import ScriptoriumError
from scriptorium.version import VERSION
from tests.support import PLAN, Project, submit_pr, until

UNKNOWN = "scriptorium: this run is over or its token is unknown\n"


def raw(sockets: Path, token: str, data: bytes) -> dict[str, object]:
    """Send bytes to the socket of a run and return its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(sockets / socket_name(token)))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer: dict[str, object] = json.loads(connection.makefile().readline())
    return answer


@pytest.mark.parametrize("missing", ["SCRIPTORIUM_TOKEN", "SCRIPTORIUM_SOCKETS"])
def test_outside_a_run_it_is_a_usage_error(project: Project, tmp_path: Path, missing: str) -> None:
    environment = {"SCRIPTORIUM_TOKEN": "x", "SCRIPTORIUM_SOCKETS": str(tmp_path), missing: ""}

    assert project.run("submit-pr", "done", env=environment) == (
        2,
        "",
        "scriptorium: this is not the run of a coding agent\nhint: 'scriptorium code' starts one\n",
    )


def test_an_unknown_option_is_reported_by_its_name(project: Project) -> None:
    message = "scriptorium: unknown option '--sumary'\nhint: put words that begin with '--' after a '--'\n"
    assert project.run("submit-pr", "--sumary", "x") == (2, "", message)


def test_the_version_is_printed(project: Project) -> None:
    assert project.run("submit-pr", "--version") == (0, f"scriptorium submit-pr {VERSION}\n", "")


@pytest.mark.parametrize("argv", [[], ["--"]])
def test_without_a_summary_it_is_a_usage_error(project: Project, argv: list[str]) -> None:
    assert project.run("submit-pr", *argv) == (
        2,
        "",
        'scriptorium: the summary is empty\nhint: scriptorium submit-pr "what changed and why"\n',
    )


def test_help_is_on_stdout(project: Project) -> None:
    result = project.run("submit-pr", "--help")

    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("usage: scriptorium submit-pr SUMMARY\n")


def test_a_wrong_token_and_one_of_a_run_that_is_over_are_refused(project: Project, facts: Path) -> None:
    project.init()
    name = project.ticket("0001", state="in-progress")
    project.agent(
        'echo x >file; echo "$SCRIPTORIUM_TOKEN" >"$FACTS/token"; echo "$SCRIPTORIUM_SOCKETS" >"$FACTS/sockets"\n'
        'SCRIPTORIUM_TOKEN=wrong scriptorium submit-pr mine 2>"$FACTS/reply" || true'
    )

    assert project.run("code", name)[:2] == (1, "")
    assert (facts / "reply").read_text() == UNKNOWN
    before = project.git("rev-parse", PLAN)

    token, sockets = (facts / "token").read_text().strip(), (facts / "sockets").read_text().strip()
    late = project.run("submit-pr", "late", env={"SCRIPTORIUM_TOKEN": token, "SCRIPTORIUM_SOCKETS": sockets})
    assert late == (1, "", UNKNOWN)
    assert project.git("rev-parse", PLAN) == before
    assert list(Path(sockets).iterdir()) == []


def test_a_submit_is_credited_to_the_run_whose_token_it_bears(project: Project, facts: Path) -> None:
    project.init()
    names = [project.ticket(id, state="in-progress") for id in ("0001", "0002")]
    # each run waits for the other, and then names the ticket of the other
    project.agent(
        'touch "$FACTS/$SCRIPTORIUM_TICKET"\n'
        'until test -e "$FACTS/0001-thing" -a -e "$FACTS/0002-thing"; do sleep 0.05; done\n'
        'echo "$SCRIPTORIUM_TICKET" >file; mine=$SCRIPTORIUM_TICKET; export SCRIPTORIUM_TICKET=0001-thing\n'
        'mkdir -p sub; cd sub; scriptorium submit-pr "this is" "$mine"'
    )

    outs = [process.communicate()[0] for process in [project.start("code", name) for name in names]]

    assert outs == [f"{name}\n" for name in names]
    items = {path: text for path, text in project.plan_files().items() if path.startswith("queue/merge/pending/0")}
    assert len(items) == 2
    for name in names:
        (item,) = (text for path, text in items.items() if path.endswith(f"{name}.md"))
        assert f"**Summary:** this is {name}\n" in item
        assert project.git("show", f"scriptorium/ticket-{name[:4]}:file") == name


def test_a_summary_is_one_line_without_secrets_and_not_endless(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "inherited-secret")
    project.init()
    name = project.ticket("0001", state="in-progress")
    project.agent("echo x >file\nscriptorium submit-pr -- \"--- a\n**Ticket:** 0009-x\n$API_KEY $(seq -s' ' 1000)\"")
    project.configure(environment=["API_KEY"])

    assert project.run("code", name)[:2] == (0, f"{name}\n")

    item = project.plan_files()[f"queue/merge/pending/0001-{name}.md"]
    (summary,) = (line for line in item.splitlines() if line.startswith("**Summary:** "))
    assert summary.startswith("**Summary:** --- a **Ticket:** 0009-x [removed] 1 2 3 ")
    assert len(summary) == len("**Summary:** ") + 2000
    assert f"tickets/in-progress/{name}.md" in item
    assert "inherited-secret" not in project.git("log", "-p", "--all")


def test_nonsense_on_the_socket_is_answered_and_hurts_nobody(sockets: Path) -> None:
    with SubmitServer(sockets, submit_pr(lambda summary: f"took {summary}")) as server:
        for nonsense in (b"", b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"token": "x"}\n'):
            assert raw(sockets, server.token, nonsense)["message"] == "the call is malformed"
        endless = raw(sockets, server.token, b"{" * (MAX_LINE + 9))
        assert endless == {"ok": False, "message": "the call is too long, submit less at once"}
        for token in ("", "wrong", 7, None, server.token + "x"):
            request = {"token": token, "tool": "submit_pr", "arguments": {"summary": "x"}}
            answer = raw(sockets, server.token, json.dumps(request).encode() + b"\n")
            assert answer == {"ok": False, "message": "this run is over or its token is unknown"}

        assert submit(str(sockets), server.token, "submit_pr", {"summary": "it"}) == "took it"

    with pytest.raises(SubmitError, match="this run is over or its token is unknown"):
        submit(str(sockets), server.token, "submit_pr", {"summary": "it"})


def test_a_refusal_and_a_bug_are_reported_to_the_agent(sockets: Path) -> None:
    def handle(summary: str) -> str:
        raise {"no": ScriptoriumError("refused", "do better"), "bug": KeyError("x")}[summary]

    with SubmitServer(sockets, submit_pr(handle)) as server:
        with pytest.raises(SubmitError, match=r"^refused\nhint: do better$"):
            submit(str(sockets), server.token, "submit_pr", {"summary": "no"})
        with pytest.raises(SubmitError, match=r"^this is a bug: KeyError: 'x'$"):
            submit(str(sockets), server.token, "submit_pr", {"summary": "bug"})


def test_sockets_of_killed_runs_are_discarded_and_those_in_use_are_not(sockets: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(sockets / "left.sock"))
    with SubmitServer(sockets, submit_pr(str.upper)) as server:
        remove_stale_sockets(sockets)

        assert [path.name for path in sockets.glob("*.sock")] == [socket_name(server.token)]
        until(lambda: submit(str(sockets), server.token, "submit_pr", {"summary": "x"}) == "X")


def test_a_program_for_agents_that_is_torn_is_written_anew(project: Project) -> None:
    program = launcher(project.workspace) / "scriptorium"
    whole = program.read_bytes()
    program.write_bytes(b"#!/bin/sh\nexec \xc3")

    launcher(project.workspace)

    assert program.read_bytes() == whole
