"""The environment and the settings of git, both for our calls and for agents."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

IDENTITY = ("scriptorium", "scriptorium@localhost")

# The list of `git rev-parse --local-env-vars`. Inside a hook they name the hook's repository and
# override -C and --git-dir, so neither our git nor the agents' may inherit them (githooks(5)).
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

# A surrounding `make` sets them for itself, not for the `make test` of a gate.
MAKE_VARIABLES = frozenset({"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"})

# The user's hooks and signing are for the user's own commits. Objects are packed when the driver asks
# for it, not during a landing. No setting may let git wait for input.
SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.ignoreStat": "false",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "merge.verifySignatures": "false",
    "merge.autoStash": "false",
    "merge.ff": "true",
    "pull.twohead": "ort",  # for `git merge`, too; "ours" would create a merge commit even for a fast-forward
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
"""HEAD as a symbolic link is unreadable before its branch exists, and wrong in a linked worktree."""

FULL_CHECKOUT = {"core.sparseCheckout": "false"}
"""Our worktrees have all files, even if the user's checkout is sparse, or an agent has changed the setting."""

# By default a commit may not outlast a loss of power. These settings flush objects, and then the ref that names
# them, before git exits. `batch`, one flush for all objects of a process, is unsafe: if a `git gc` has just removed
# the directory of an object, git exits with success although the object is lost.
DURABLE = (
    ((2, 36), {"core.fsync": "committed,reference", "core.fsyncMethod": "fsync"}),
    ((0, 0), {"core.fsyncObjectFiles": "true"}),  # later versions print a warning for it
)
"""Settings, each with the first version of git that has them."""

durable_settings: dict[str, str] = {}
"""The settings for the installed version, once it is known."""


def scrub_environment() -> None:
    """Remove the variables of a surrounding git or make. Call it once, at the start."""
    for name in (LOCAL_VARIABLES | MAKE_VARIABLES) & os.environ.keys():
        del os.environ[name]
    if "plumbum" in sys.modules:  # it passes on a copy of the environment from the time of its import
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
    """Return whether the file system of a directory ignores case."""
    for place in (directory, *directory.parents):
        other = place.parent / place.name.swapcase()
        if other != place:
            return other.exists() and other.samefile(place)
    return False


def _disk_settings(worktree: Path) -> dict[str, str]:
    """Return the settings for the file system of a worktree, which may differ from the repository's.

    If git wrongly assumes that case does not matter, it neither adds nor reports the second of two files.
    """
    return {"core.ignoreCase": str(_ignores_case(worktree.parent)).lower()}


def options_for(worktree: Path) -> tuple[str, ...]:
    """Return the git options for one of our worktrees; they override the configuration."""
    settings = FULL_CHECKOUT | _disk_settings(worktree)
    return tuple(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))


def agent_git_variables(worktree: Path) -> dict[str, str]:
    """Return the variables for an agent's own git.

    Its commits must be as durable as our refs to them, and HEAD must stay a file, or a checkout breaks the worktree.
    """
    return _config_variables(PLAIN_HEAD | durable_settings | _disk_settings(worktree))
