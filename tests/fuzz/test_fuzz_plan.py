"""Fuzzing of the plan branch as a whole, of the environment and of arguments."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Mapping

import pytest
from hypothesis import strategies as st

from scriptorium.errors import ExitCode
from scriptorium.main import main
from tests.fuzz.fuzz_cases import QUEUE, STEERING, TICKETS
from tests.fuzzing import fuzzed, mutated, texts
from tests.support import PLAN, Project, quote

pytestmark = pytest.mark.slow

MODES = ("100644", "100755", "120000", "160000", "040000")
PLACES = (
    "spec.md", "areas", "areas/core.md", "tickets", "tickets/open", "tickets/open/0001-a.md", "tickets/open/b.md",
    "tickets/in-progress/0002-c.md", "tickets/done/0003-d.md", "tickets/done/0003-D.md", "tickets/stuck/0004-e.md",
    "queue/merge", "queue/merge/pending/0001-0002-c.md", "queue/merge/active.md", "planned", "last-id", "format",
    "tickets/Open/0001-a.md", "areas/a\u2028b.md", "areas/caf\udce9.md",
)  # fmt: skip
DIRECTORIES = ("tickets/open", "tickets/in-progress", "areas", "queue/merge/pending", "tickets")
LINES = (b"queue/merge/pending/0001-0002-c.md\n", b"1\n", b"0" * 40 + b" spec.md\n", b"../../etc/passwd", b"")


def fit(text: str) -> str:
    """Return a text without characters that no argument or variable can contain."""
    return re.sub(r"[\0\ud800-\udc7f\udd00-\udfff]", "", text)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, tuple[str, bytes]]:
    """Paths of a plan with modes and contents; most paths are valid."""
    names = texts().map(lambda text: f"{fit(text).replace('/', '')}.md")
    odd = st.tuples(st.sampled_from(DIRECTORIES), names).map("/".join)
    content = st.tuples(st.sampled_from(MODES), mutated(*TICKETS, QUEUE, *LINES))
    return draw(st.dictionaries(st.one_of(st.sampled_from(PLACES), odd), content, min_size=1, max_size=5))


def committed(project: Project, files: Mapping[str, tuple[str, bytes]], base: str) -> None:
    """Add a commit with files of any mode to the plan branch."""
    stream = [b"feature done\ncommit refs/heads/scriptorium/plan\ncommitter P <p@e> 1700000000 +0000\ndata 1\nx\n"]
    stream.append(b"from %s\n" % base.encode())
    for path, (mode, data) in sorted(files.items(), key=lambda item: len(item[0])):
        quoted = quote(path).encode()
        if mode == "160000":
            stream.append(b"M 160000 %s %s\n" % (base.encode(), quoted))
        elif mode == "040000":
            stream.append(b"M 100644 inline %s\ndata 0\n\n" % quote(f"{path}/below").encode())
        else:
            stream.append(b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), quoted, len(data), data))
    argv = ["git", "fast-import", "--quiet", "--done", "--force"]
    subprocess.run(argv, cwd=project.root, input=b"".join([*stream, b"done\n"]), check=True, capture_output=True)


def ran(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Run a command in this process and return its exit code and output."""
    stdout = io.TextIOWrapper(printed := io.BytesIO(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["scriptorium", *argv])
        patch.setattr("sys.stdin", io.StringIO())
        patch.setattr("sys.stdout", stdout)
        with pytest.raises(SystemExit) as ended:
            main()
    stdout.flush()
    out, err = printed.getvalue().decode(errors="surrogateescape"), capsys.readouterr().err
    code = ended.value.code
    assert isinstance(code, int)
    assert code in set(ExitCode) - {ExitCode.BUG}, err
    assert "Traceback" not in err
    assert not STEERING.search(out + err)
    if code not in (0, 1):
        assert err.startswith("scriptorium: ")
    return code, out, err


@pytest.fixture
def planned(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a plan, agents that do nothing, and files around it that must not change."""
    project.init()
    project.agent("exit 0")
    project.configure(endpoints={"local": "http://127.0.0.1:0"})
    monkeypatch.chdir(project.root)
    (project.root.parent / "sentinel").mkdir()
    (project.root.parent / "sentinel" / "file").write_text("as it was")
    return project


def around(project: Project) -> dict[str, object]:
    """Return the state of everything outside the plan that its content must not change."""
    top = project.root.parent
    files = {str(path.relative_to(top)): path.read_bytes() for path in top.glob("sentinel/**/*") if path.is_file()}
    refs = {ref: oid for ref, oid in project.refs().items() if "scriptorium" not in ref}
    names = sorted(path.name for path in top.iterdir())
    return {"files": files, "refs": refs, "names": names, "status": project.git("status", "--porcelain")}


@fuzzed("plan branches", 15, files=plans())
def test_any_plan_branch_is_processed_or_refused(
    planned: Project, capsys: pytest.CaptureFixture[str], files: dict[str, tuple[str, bytes]]
) -> None:
    base = planned.git("rev-list", "--max-parents=0", PLAN)
    planned.git("update-ref", f"refs/heads/{PLAN}", base)
    committed(planned, files, base)
    (planned.root.parent / "root").mkdir(exist_ok=True)
    before = around(planned)
    steps = ("architect", "manager", "merge", "assign", "code", "code 2", "run --once")
    for verb in ("status", "fsck", "worktrees", *steps, "rescue list", "clean"):
        ran(capsys, *verb.split())
    assert around(planned) == before


@fuzzed("environments", 25, root=texts(), level=texts(), token=texts(), words=st.lists(texts(), max_size=3))
def test_any_environment_and_any_words_are_answered(
    planned: Project, capsys: pytest.CaptureFixture[str], root: str, level: str, token: str, words: list[str]
) -> None:
    before = planned.refs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPTORIUM_LOG_LEVEL", fit(level))
        patch.setenv("SCRIPTORIUM_TOKEN", fit(token))
        patch.setenv("SCRIPTORIUM_SOCKETS", fit(root))
        ran(capsys, "submit-pr", *map(fit, words))
        ran(capsys, "status", *map(fit, words))
        ran(capsys, "code", *map(fit, words) or ["x"])
        patch.setenv("SCRIPTORIUM_ROOT", str(planned.root.parent / "root" / fit(root).lstrip("/").replace("..", "")))
        ran(capsys, "status")
    assert planned.refs() == before
