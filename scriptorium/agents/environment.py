"""The environment of agents: an allow-list, because agents run commands that they read somewhere."""

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

ALLOWED = (  # noqa: SIM905 - easier to read
    # user, directories, language and terminal
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TERM COLORTERM NO_COLOR TZ TMPDIR TEMP TMP XDG_* CI "
    # proxies and certificates
    "HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy "
    "SSL_CERT_* NODE_EXTRA_CA_CERTS REQUESTS_CA_BUNDLE CURL_CA_BUNDLE "
    # git (variables that name a repository are removed at start) and scriptorium
    "GIT_* SCRIPTORIUM_ROOT SCRIPTORIUM_LOG_LEVEL "
    # compilers, languages and their version managers
    "CC CXX CPP LD AR *FLAGS *_PATH CPATH PKG_CONFIG_* CMAKE_* CCACHE_* "
    "PYTHON* VIRTUAL_ENV CONDA_* PIP_* UV_* PYENV_* PIPX_* POETRY_* "
    "NODE_* NVM_* VOLTA_* FNM_* PNPM_* npm_config_* NPM_CONFIG_* COREPACK_* BUN_* DENO_* "
    "CARGO_* RUSTUP_* RUST_* GO* CGO_* JAVA_* JDK_* MAVEN_* GRADLE_* SBT_* KOTLIN_* "
    "RUBY* GEM_* BUNDLE_* RBENV_* PERL* PHP* COMPOSER_* DOTNET_* NUGET_* ASDF_* MISE_* "
    "NIX_* GUIX_* HOMEBREW_* NIM* ZIG_* OPAM* GHCUP_* STACK_* ELIXIR_* MIX_* ERL_*"
).split()
"""Patterns of variable names; names that indicate a secret are left out even if they match."""

NOT_SECRET = ("GIT_CONFIG_KEY_*",)  # git refuses to start if one is missing


def allowed_variables(
    environ: Mapping[str, str], needs: Iterable[str] = (), more: Iterable[str] = ()
) -> dict[str, str]:
    """Return the variables for an agent: `ALLOWED`, what its program ``needs``, and ``more`` from the configuration."""
    usual, no_secret, named = _matcher(ALLOWED), _matcher(NOT_SECRET), _matcher((*needs, *more))
    return {
        name: value
        for name, value in environ.items()
        if named(name) or (usual(name) and (not is_secret(name) or no_secret(name)))
    }


def _matcher(patterns: Iterable[str]) -> Callable[[str], object]:
    """Return a function that matches a name against patterns; ``*`` stands for any text."""
    # one expression for all: fnmatch for each name and pattern takes longer than starting git
    return re.compile("|".join(re.escape(pattern).replace(r"\*", ".*") for pattern in patterns) or "(?!)").fullmatch


def launcher(workspace: Workspace) -> Path:
    """Return a directory that holds only this `scriptorium`, to be first on the agents' PATH.

    The installation's own directory also holds a `python`, which is not the project's.
    """
    text = f'#!/bin/sh\nexec {shlex.join(command_for("scriptorium.main"))} "$@"\n'
    directory = workspace.paths.ensure(workspace.paths.home / "bin")
    program = directory / "scriptorium"
    if not program.exists() or program.read_text(errors="surrogateescape") != text:
        replace_file(program, text, 0o700)
    return directory


def identity(workspace: Workspace) -> dict[str, str]:
    """Return variables with an author for the agent's commits; empty if the user has configured one."""
    if workspace.has_author:
        return {}
    name, email = IDENTITY
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
    }
