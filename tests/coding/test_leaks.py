"""Credentials in a change: refused, reported to the agent with file and line, and removed from the branch."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptorium.coding import leaks
from scriptorium.system.redact import Secrets
from tests.support import Project

VALUE = "live-9f8e7d6c5b4a"
BEGIN = "-----BEGIN PRIVATE KEY-----"
FORM = "ghp_abcdefghijklmnopqrstuvwxyz012345"
SUBMIT = 'scriptorium submit-pr "$1" 2>>"$FACTS/replies" || true'


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SHOP_API_KEY", VALUE)
    return VALUE


def found(project: Project, script: str) -> list[str]:
    """Return the findings in the commits that a script adds to master."""
    before = project.git("rev-parse", "HEAD")
    (project.root.parent / "script").write_text(script)
    project.git("-c", f"alias.do=!sh -eu {project.root.parent / 'script'}", "do")
    patches = project.workspace.repository.patches(before, project.git("rev-parse", "HEAD"))
    return [str(leak) for leak in leaks.find_leaks(patches, Secrets())]


COMMIT = "git add -A; git commit -qm 'Add things'"
ADDED = {
    "a new file": (f"printf 'a\\nb\\nkey={VALUE}\\nc\\n' >conf; {COMMIT}", "'conf', line 3, holds {value}"),
    "a changed line": (f"sed -i 's/^five/{VALUE}/' lines; {COMMIT}", "'lines', line 5, holds {value}"),
    "a second hunk": (f"sed -i 's/^two/2/; s/^five/{VALUE}/' lines; {COMMIT}", "'lines', line 5, holds {value}"),
    "no line break at the end": (f"printf {VALUE} >conf; {COMMIT}", "'conf', line 1, holds {value}"),
    "a form": (f"echo {FORM} >conf; {COMMIT}", "'conf', line 1, holds what looks like a credential"),
    "a key of many lines": (
        f"{{ echo a; echo {BEGIN}; seq 1000000 1000009; echo {BEGIN.replace('BEGIN', 'END')}; }} >k; {COMMIT}",
        "'k', line 2, holds what looks like a credential",
    ),
    "JSON": (
        f"""printf '{{"a":"pass\\\\"w0rd-and-more"}}' >conf; {COMMIT}""",
        "'conf', line 1, holds the value of 'OTHER_TOKEN'",
    ),
    "a message": (f"git commit -q --allow-empty -m Add -m 'with {VALUE}'", "the message of a commit holds {value}"),
    "what is removed later": (f"echo {VALUE} >conf; {COMMIT}; rm conf; {COMMIT}", "'conf', line 1, holds {value}"),
    "a name with spaces": (f"echo {VALUE} >'a b c'; {COMMIT}", "'a b c', line 1, holds {value}"),
    "a line that looks like a patch": (
        f"printf '++ b/x\\n@@ -1 +1 @@\\n{VALUE}\\n' >conf; {COMMIT}", "'conf', line 3, holds {value}",
    ),
    "a merge": (
        "git switch -qc other; sed -i s/^five/5/ lines; git commit -qam Other; git switch -q -;"
        "sed -i s/^five/V/ lines; git commit -qam Mine;"
        f"git merge -q other || true; printf 'a\\nkey={VALUE}\\n' >lines; {COMMIT}",
        "'lines', line 2, holds {value}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ADDED)
def test_what_a_commit_adds_is_found_with_file_and_line(
    project: Project, secret: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("OTHER_TOKEN", 'pass"w0rd-and-more')
    project.commit({"lines": "one\ntwo\nthree\nfour\nfive\nsix\n"})
    script, message = ADDED[what]
    assert found(project, script) == [message.format(value="the value of 'SHOP_API_KEY'")]


@pytest.mark.parametrize(
    "script",
    [
        f"sed -i s/{VALUE}/gone/ conf; {COMMIT}",
        f"echo more >>conf; {COMMIT}",
        f"echo postgres /home/me/key-1234567 http://localhost:8080/1 >plain; {COMMIT}",
        f"printf '\\0{VALUE}' >binary; {COMMIT}",
    ],
)
def test_what_is_removed_or_common_or_no_text_is_not(
    project: Project, secret: str, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    values = {"DB_PASSWORD": "postgres", "KEY_FILE": "/home/me/key-1234567", "KEYCLOAK": "http://localhost:8080/1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    project.commit({"conf": f"a\n{VALUE}\nb\n"})
    assert found(project, script) == []


def test_a_submit_with_a_secret_is_refused_and_leaves_no_trace_of_it(
    project: Project, facts: Path, secret: str
) -> None:
    project.init()
    name = project.ticket("0001", state="in-progress")
    project.agent(
        f"echo key={VALUE} >conf; git add conf; git commit -qm 'Add the key'; echo other >file;"
        f'{SUBMIT}; git status --porcelain >"$FACTS/status"; sed -i s/{VALUE}/hidden/ conf; {SUBMIT}'
    )

    coded = project.run("code", name)

    assert (coded.code, coded.out) == (0, f"{name}\n"), coded.err
    message = "'conf', line 1, holds the value of 'SHOP_API_KEY'"
    hint = "remove it and submit again; your commits were reset, their changes are in the worktree"
    queued = f"ticket {name} is queued to be merged; there is nothing left to do"
    assert (facts / "replies").read_text() == f"scriptorium: {message}\nhint: {hint}\n{queued}\n"
    assert f"ticket '{name}': submission refused: {message}\n" in coded.err
    assert (facts / "status").read_text() == "A  conf\nA  file\n"
    assert project.run("merge").out == f"{name}\tlanded\n"
    assert project.git("show", "master:conf") == "key=hidden"
    assert VALUE not in project.git("log", "-p", "--all")


def test_a_value_that_master_has_already_is_submitted(project: Project, facts: Path, secret: str) -> None:
    project.init()
    project.commit({"fixture": f"x {VALUE} y\n{FORM}\n"})
    name = project.ticket("0001", state="in-progress")
    project.agent(f"cp fixture copy; {SUBMIT}")
    coded = project.run("code", name)
    assert (coded.code, coded.out) == (0, f"{name}\n"), (facts / "replies").read_text()
