"""Bad neighbours: the user's git configuration, and user hooks that fail or hang."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from scriptorium.merge_queue.lane import ItemOutcome, ItemResult
from scriptorium.merge_queue.queue import process_next
from tests.neighbours.cases import in_order, lands, rescued, shell, show, submitted, tree, waits, worked_on
from tests.support import Project, write_script

pytestmark = pytest.mark.slow

SETTINGS = {
    "how text looks": (
        "color.ui=always column.ui=always core.pager=false core.abbrev=4 core.quotePath=true core.commentChar=d "
        "format.pretty=oneline help.autoCorrect=immediate i18n.commitEncoding=ISO-8859-1 "
        "i18n.logOutputEncoding=ISO-8859-1 log.abbrevCommit=true log.date=relative log.decorate=full log.follow=true "
        "log.mailmap=true log.showRoot=false log.showSignature=true notes.displayRef=refs/notes/*"
    ),
    "diff and status": (
        "core.whitespace=trailing-space diff.external=false diff.ignoreSubmodules=all diff.mnemonicPrefix=true "
        "diff.noprefix=true diff.orderFile=/nowhere diff.renames=copies grep.patternType=perl log.diffMerges=on "
        "status.branch=true status.relativePaths=true status.short=true status.showStash=true "
        "status.showUntrackedFiles=no"
    ),
    "files": (
        "core.attributesFile=/nowhere core.autocrlf=input core.bigFileThreshold=1 core.checkStat=minimal "
        "core.excludesFile=/nowhere core.fileMode=false core.ignoreStat=true core.safecrlf=true core.symlinks=false "
        "core.trustctime=false checkout.workers=4 checkout.thresholdForParallelism=1 clean.requireForce=true"
    ),
    "line ends": "core.autocrlf=true core.eol=crlf core.safecrlf=true",
    "the index": (
        "core.preloadIndex=false core.untrackedCache=true feature.experimental=true feature.manyFiles=true "
        "index.threads=1 index.version=4"
    ),
    "a split index": "core.splitIndex=true splitIndex.maxPercentChange=0 index.version=4",
    "objects": (
        "core.compression=0 core.createObject=rename core.sharedRepository=group fastimport.unpackLimit=1 gc.auto=1 "
        "gc.pruneExpire=now gc.reflogExpire=now gc.worktreePruneExpire=now maintenance.auto=true pack.threads=1 "
        "transfer.fsckObjects=true transfer.unpackLimit=1"
    ),
    "merges": (
        "branch.master.mergeOptions=--no-ff merge.autoStash=true merge.conflictStyle=zdiff3 merge.ff=false "
        "merge.log=true merge.renames=false merge.stat=true merge.verbosity=5 merge.verifySignatures=true "
        "pull.ff=only pull.rebase=true rerere.autoUpdate=true rerere.enabled=true"
    ),
    "refs and remotes": (
        "branch.autoSetupMerge=always branch.autoSetupRebase=always checkout.defaultRemote=nowhere "
        "core.logAllRefUpdates=false core.preferSymlinkRefs=true core.warnAmbiguousRefs=false protocol.allow=never "
        "push.default=nothing "
        "receive.denyCurrentBranch=refuse safe.bareRepository=explicit submodule.recurse=true "
        "transfer.hideRefs=refs/heads uploadpack.hideRefs=refs/ url./nowhere.insteadOf=/ worktree.guessRemote=true"
    ),
    "who commits": (
        "commit.cleanup=strip commit.gpgSign=true commit.status=true commit.template=/nowhere commit.verbose=true "
        "gpg.program=/nowhere/gpg init.defaultBranch=other push.gpgSign=true tag.gpgSign=true user.useConfigOnly=true"
    ),
    "what waits for a person": (
        "core.askPass=/nowhere core.editor=cat core.fsmonitor=cat core.pager=cat credential.helper=cat "
        "diff.tool=cat merge.tool=cat sequence.editor=cat interactive.diffFilter=cat"
    ),
    "aliases": "alias.commit=!false alias.merge=!false alias.status=!false alias.update-ref=!false",
}


@pytest.fixture(autouse=True)
def _plan(project: Project) -> None:
    project.init()


@pytest.mark.parametrize("about", SETTINGS)
def test_the_users_settings_change_neither_landings_nor_conflicts(project: Project, about: str) -> None:
    project.commit({"theirs": "1\n"})
    for setting in SETTINGS[about].split():
        project.git("config", "--global", *setting.split("=", 1))
    # the user commits anyway
    plain = ("-c", "commit.gpgSign=false", "-c", "core.safecrlf=false", "-c", "diff.orderFile=/dev/null")

    lands(project, "echo '# 12' >file; echo 1 >new; chmod +x new; ln -s file link; mkdir d; echo é >d/é", "0001-#1-é")
    name = submitted(project, "echo agent >file; echo agent >other", "0002")
    (project.root / "file").write_text("person\n")
    project.git(*plain, "commit", "--quiet", "--no-status", "--all", "--message", "Theirs")

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.REOPENED)
    note = project.plan_files()[f"tickets/open/{name}.md"]
    assert "Merging `master` conflicts in `file`" in note
    assert [show(project, path) for path in ("file", "new", "d/é", "link", "theirs")] == [
        "person",
        "1",
        "é",
        "file",
        "1",
    ]
    assert (rescued(project), project.git(*plain, "status", "--porcelain")) == ([], "")


def test_a_strategy_of_the_users_does_not_throw_away_what_is_on_master(project: Project) -> None:
    project.git("config", "pull.twohead", "ours")
    name = submitted(project, "echo 1 >ours")
    project.commit({"theirs": "2\n"})

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
    assert tree(project) == ["Makefile", "ours", "theirs"]


@pytest.mark.parametrize("options", ["--squash", "--no-commit --strategy=ours", "--signoff --edit", "--nonsense"])
def test_merge_options_of_the_users_branch_do_not_hold_a_landing_up(project: Project, options: str) -> None:
    project.git("config", "branch.master.mergeOptions", options)
    name = lands(project)
    assert (show(project), project.git("status", "--porcelain")) == (name, "")


def test_unreadable_git_configuration_is_reported_and_nothing_is_lost(project: Project) -> None:
    name = submitted(project)
    file = project.root / ".git" / "config"
    text = file.read_text()
    file.write_text(f"{text}[broken\n")

    result = project.run("merge")

    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("scriptorium: 'git rev-parse' failed: fatal: bad config line ")
    file.write_text(text)
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


def test_a_file_monitor_that_is_behind_hides_no_edit_of_the_users(project: Project) -> None:
    project.commit({"file": "1\n"})
    monitor = write_script(project.root.parent / "monitor", "printf 'token\\0'")  # it reports that nothing has changed
    project.git("config", "core.fsmonitor", str(monitor))
    project.git("update-index", "--fsmonitor")
    project.git("status")
    name = submitted(project, "echo 2 >file")
    (project.root / "file").write_text("of a person\n")
    assert project.git("status", "--porcelain") == ""  # git believes it

    assert waits(project, name).blocked_by

    assert (project.root / "file").read_text() == "of a person\n"


def test_a_submodule_of_the_users_checkout_stays_where_they_have_it(project: Project, tmp_path: Path) -> None:
    project.git("config", "--global", "protocol.file.allow", "always")
    library = Project(tmp_path / "library")
    old = library.git("rev-parse", "HEAD")
    project.git("submodule", "--quiet", "add", str(library.root), "library")
    project.git("commit", "--quiet", "--message", "Have a library")
    new = library.commit({"more": "1\n"})
    project.git("fetch", "--quiet", cwd=project.root / "library")
    project.git("config", "submodule.recurse", "true")

    name = submitted(project, f"git update-index --cacheinfo 160000,{new},library; git commit -qm Newer")

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    assert project.git("rev-parse", "master:library") == new
    assert project.git("rev-parse", "HEAD", cwd=project.root / "library") == old


def test_a_resolution_that_the_user_has_recorded_decides_about_no_conflict(project: Project) -> None:
    for key in ("rerere.enabled", "rerere.autoUpdate"):
        project.git("config", key, "true")
    project.commit({"file": "1\n"})
    name = submitted(project, "echo agent >file")
    project.commit({"file": "person\n"})
    shell(project, "git merge -q scriptorium/ticket-0001 || { echo both >file; git commit -qam Both; }")
    project.git("reset", "--quiet", "--hard", "HEAD^")

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.REOPENED)

    assert "Merging `master` conflicts in `file`" in project.plan_files()[f"tickets/open/{name}.md"]


# -- hooks -------------------------------------------------------------------------------------------------

HOOKS = (
    "applypatch-msg commit-msg fsmonitor-watchman post-checkout post-commit post-index-change post-merge post-rewrite "
    "pre-auto-gc pre-commit pre-merge-commit pre-push pre-rebase prepare-commit-msg push-to-checkout "
    "reference-transaction"
)


@pytest.mark.parametrize("how", ["exit 1", "exec sleep 600"])
@pytest.mark.parametrize("place", [".git/hooks", ".husky/_"])
def test_hooks_of_the_users_that_fail_or_hang_are_run_by_no_step(
    project: Project, facts: Path, how: str, place: str
) -> None:
    husky = project.root / ".husky" / "_"  # tracked, so each worktree has them
    husky.mkdir(parents=True)
    for hook in HOOKS.split():
        write_script(husky / hook, f'echo {hook} >>"$FACTS/ran"; {how}')
    project.git("add", ".husky")
    project.git("commit", "--quiet", "--message", "Have hooks")
    name = submitted(project, "git commit -q --allow-empty -m One; echo 1 >file")
    project.git("commit", "--quiet", "--allow-empty", "--message", "Move on")
    project.ticket("0002")
    if place == ".git/hooks":
        copytree(husky, project.root / place, dirs_exist_ok=True)
    else:
        project.git("config", "core.hooksPath", place)

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    lands(project, "echo 2 >second", "0002")
    assert not (facts / "ran").exists()  # git heeds the exit status of few hooks


def test_an_agent_whose_commit_a_hook_refuses_still_submits(project: Project, facts: Path) -> None:
    write_script(project.root / ".git" / "hooks" / "pre-commit", 'touch "$FACTS/asked"; exit 1')
    lands(project, "echo 1 >file; git add file; ! git commit --quiet --message One")
    assert (facts / "asked").exists()  # hooks run for the commits of the agent, not for those of the tool


def test_an_agent_that_hangs_in_a_hook_is_ended_and_its_work_is_committed(project: Project) -> None:
    write_script(project.root / ".git" / "hooks" / "pre-commit", "exec sleep 600")
    project.configure(timeouts={"no_output": 5})
    name, _ = worked_on(project, "echo 1 >file; git add file; git commit --quiet --message One")
    assert show(project, "file", "scriptorium/ticket-0001") == "1"

    project.configure(timeouts={"no_output": 300})
    assert submitted(project, "echo 2 >second") == name
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)


# -- filters and drivers -----------------------------------------------------------------------------------


def test_a_missing_filter_program_is_reported_and_the_ticket_lands_later(project: Project) -> None:
    """git-lfs, configured by `git lfs install` and not installed here."""
    lfs = project.root.parent / "home" / "bin" / "fake-lfs"
    (project.root / "big").write_text("pointer\n")
    project.commit({"big": "pointer\n", ".gitattributes": "big filter=lfs diff=lfs merge=lfs -text\n"})
    project.git("config", "filter.lfs.clean", "fake-lfs clean")
    project.git("config", "filter.lfs.smudge", "fake-lfs smudge")
    project.git("config", "filter.lfs.required", "true")
    name = project.ticket("0001")
    project.agent("echo large >big; scriptorium submit-pr x")

    result = project.run("assign")

    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        f"scriptorium: ticket '{name}': cannot create its worktree: 'git worktree' failed: error: "
        "external filter 'fake-lfs smudge' failed 127",
        "hint: see that the filters that '.gitattributes' names are installed",
    ]
    write_script(lfs, 'if [ "$1" = clean ]; then sed s/large/pointer-2/; else sed s/pointer/large/; fi')
    assert project.run("code", name)[:2] == (0, f"{name}\n")
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
    assert show(project, "big") == "pointer-2"
    assert (project.root / "big").read_text() == "large-2\n"


@pytest.mark.parametrize(("driver", "landed"), [("sort -u %A %B -o %A", True), ("exit 1", False), ("", False)])
def test_a_merge_driver_of_the_users_decides_about_its_conflicts(project: Project, driver: str, landed: bool) -> None:
    project.commit({"list": "", ".gitattributes": "list merge=mine\n"})
    if driver:
        project.git("config", "merge.mine.driver", driver)
    name = submitted(project, "echo agent >list")
    project.commit({"list": "person\n"})

    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED if landed else ItemOutcome.REOPENED)
    assert show(project, "list") == ("agent\nperson" if landed else "person")


def test_a_filter_failing_in_the_users_checkout_delays_only_the_landing(project: Project) -> None:
    for key, value in {"clean": "cat", "smudge": "cat", "required": "true"}.items():
        project.git("config", f"filter.mine.{key}", value)
    name = submitted(project, "echo 'file filter=mine' >.gitattributes; echo 1 >file")
    project.git("config", "filter.mine.smudge", "false")

    merged = waits(project, name)

    assert (
        merged.blocked_by
        == f"'{project.root}' cannot follow: 'git merge' failed: error: external filter 'false' failed 1"
    )
    assert project.git("status", "--porcelain") == ""  # git had written half of it, and that is undone
    assert waits(project, name) == merged
    project.git("config", "filter.mine.smudge", "cat")
    assert process_next(project.workspace) == ItemResult(name, ItemOutcome.LANDED)
    in_order(project, name)
