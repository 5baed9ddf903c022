"""The environment and the settings that git runs with: our own calls, and those of agents."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

IDENTITY = ("scriptorium", "scriptorium@localhost")

# What `git rev-parse --local-env-vars` lists. Inside a hook they name the hook's repository and
# beat -C and --git-dir, so they must not reach our git, nor the agents' (githooks(5)).
LOCAL_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)

# A `make` around us means itself by them, not the `make test` of a gate.
MAKE_VARIABLES = frozenset({"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"})

# The user's hooks and signing are for the user's own commits; objects are packed when the driver asks
# for it, and not in the midst of a landing; and no setting may make git wait for a person.
SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.ignoreStat": "false",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "merge.verifySignatures": "false",
    "merge.autoStash": "false",
    "merge.ff": "true",
    "pull.twohead": "ort",  # `git merge` goes by it as well; "ours" would make a merge even of a fast-forward
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    "submodule.recurse": "false",
    "rerere.enabled": "false",
    "core.safecrlf": "false",
    "diff.orderFile": os.devnull,
    "commit.cleanup": "whitespace",
    "i18n.commitEncoding": "UTF-8",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showRoot": "true",
    "log.showSignature": "false",
}

PLAIN_HEAD = {"core.preferSymlinkRefs": "false"}
"""HEAD as a link cannot be read where its branch is not there, or leads elsewhere from a worktree."""

FULL_CHECKOUT = {"core.sparseCheckout": "false"}
"""A worktree of ours has all files, also where the user's checkout does not, or an agent has told git otherwise."""

# What git says is committed has to outlast a loss of power, and by default it is not: objects and then the ref
# that names them go to the disk before git ends. Not by `batch`, one flush for all objects of a process: where a
# `git gc` has just removed the directory that an object is to be put in, it ends as if all were well.
DURABLE = (
    ((2, 36), {"core.fsync": "committed,reference", "core.fsyncMethod": "fsync"}),
    ((0, 0), {"core.fsyncObjectFiles": "true"}),  # later versions warn of it each time
)
"""Settings by the version of git from which on they hold."""

durable_settings: dict[str, str] = {}
"""Those of the version at hand, once it is known."""


def scrub_environment() -> None:
    """Drop what a surrounding git or make set for itself; call once, at the start."""
    for name in (LOCAL_VARIABLES | MAKE_VARIABLES) & os.environ.keys():
        del os.environ[name]
    if "plumbum" in sys.modules:  # it hands on a copy that it made when it was imported
        from plumbum import local

        local.env.clear()
        local.env.update(os.environ)


def git_environment() -> dict[str, str]:
    name, email = IDENTITY
    settings = SETTINGS | PLAIN_HEAD | durable_settings
    environment = {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_MERGE_AUTOEDIT": "no",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }
    return environment | _config_variables(settings)


def _config_variables(settings: Mapping[str, str]) -> dict[str, str]:
    found = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found


@cache
def _ignores_case(directory: Path) -> bool:
    """Tell whether the disk of a directory takes names for the same that differ by case alone."""
    for place in (directory, *directory.parents):
        other = place.parent / place.name.swapcase()
        if other != place:
            return other.exists() and other.samefile(place)
    return False


def _disk_settings(worktree: Path) -> dict[str, str]:
    """Return what git is to know of a worktree's disk, which need not be as that on which the repository was made.

    Where it takes names for the same that the disk does not, it neither adds nor tells of the second file.
    """
    return {"core.ignoreCase": str(_ignores_case(worktree.parent)).lower()}


def options_for(worktree: Path) -> tuple[str, ...]:
    """Return the options of git's by which it works in a worktree of ours as that is, whatever is configured."""
    settings = FULL_CHECKOUT | _disk_settings(worktree)
    return tuple(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))


def agent_git_variables(worktree: Path) -> dict[str, str]:
    """Return what an agent's own git has to know: what it commits is to be as durable as the ref that we move to it.

    And its HEAD is to be a file, or the worktree is broken as soon as it checks a branch out.
    """
    return _config_variables(PLAIN_HEAD | durable_settings | _disk_settings(worktree))
