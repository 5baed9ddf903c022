"""What of our environment an agent is given: an allow-list, because agents run what they read. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from scriptorium.git.environment import IDENTITY
from scriptorium.project.workspace import Workspace
from scriptorium.system.files import replace_file
from scriptorium.system.interpreter import command_for
from scriptorium.system.redact import is_secret

ALLOWED = (  # noqa: SIM905 - so that one can read it
    # who, where, and how text looks
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TERM COLORTERM NO_COLOR TZ TMPDIR TEMP TMP XDG_* CI "
    # the network, without which a program in a closed one finds nothing
    "HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy "
    "SSL_CERT_* NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE CURL_CA_BUNDLE "
    # git, whose variables that name a repository are gone by now, and ours
    "GIT_* SCRIPTORIUM_ROOT SCRIPTORIUM_LOG_LEVEL "
    # compilers, languages and their version managers
    "CC CXX CPP LD AR *FLAGS *_PATH CPATH PKG_CONFIG_* CMAKE_* CCACHE_* "
    "PYTHON* VIRTUAL_ENV CONDA_* PIP_* UV_* PYENV_* PIPX_* POETRY_* "
    "NODE_* NVM_* VOLTA_* FNM_* PNPM_* npm_config_* NPM_CONFIG_* COREPACK_* BUN_* DENO_* "
    "CARGO_* RUSTUP_* RUST_* GO* CGO_* JAVA_* JDK_* MAVEN_* GRADLE_* SBT_* KOTLIN_* "
    "RUBY* GEM_* BUNDLE_* RBENV_* PERL* PHP* COMPOSER_* DOTNET_* NUGET_* ASDF_* MISE_* "
    "NIX_* GUIX_* HOMEBREW_* NIM* ZIG_* OPAM* GHCUP_* STACK_* ELIXIR_* MIX_* ERL_*"
).split()
"""Patterns of names; one that speaks of a secret is left out all the same."""

NOT_SECRET = ("GIT_CONFIG_KEY_*",)  # a key of git's configuration, without which git refuses to start


def allowed_variables(
    environ: Mapping[str, str], needs: Iterable[str] = (), more: Iterable[str] = ()
) -> dict[str, str]:
    """Return what an agent gets: the usual, what its program ``needs``, and ``more`` that the user has named."""
    usual, no_secret, named = _matcher(ALLOWED), _matcher(NOT_SECRET), _matcher((*needs, *more))
    return {
        name: value
        for name, value in environ.items()
        if named(name) or (usual(name) and (not is_secret(name) or no_secret(name)))
    }


def _matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    """Return what matches names by any of the patterns, in which ``*`` stands for anything."""
    # one expression for all: fnmatch, name by name and pattern by pattern, takes longer than to start git
    return re.compile("|".join(re.escape(pattern).replace(r"\*", ".*") for pattern in patterns) or "(?!)").fullmatch


def launcher(workspace: Workspace) -> Path:
    """Return a directory with nothing in it but this `scriptorium`, to go first on the agents' PATH.

    The directory that it is installed in would bring along a Python that is not the project's.
    """
    text = f'#!/bin/sh\nexec {shlex.join(command_for("scriptorium.main"))} "$@"\n'
    directory = workspace.paths.ensure(workspace.paths.home / "bin")
    program = directory / "scriptorium"
    if not program.exists() or program.read_text(errors="surrogateescape") != text:
        replace_file(program, text, 0o700)
    return directory


def identity(workspace: Workspace) -> dict[str, str]:
    """Return an author for the agent's commits, where the user has configured none."""
    if workspace.has_author:
        return {}
    name, email = IDENTITY
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }
