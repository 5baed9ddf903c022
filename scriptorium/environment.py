"""What of our environment an agent is given: an allow-list, because agents run what they read. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from scriptorium.system.redact import is_secret

USUAL = (  # noqa: SIM905 - so that one can read it
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

NO_SECRET = ("GIT_CONFIG_KEY_*",)  # a key of git's configuration, without which git refuses to start


def allowed(environ: Mapping[str, str], needs: Iterable[str] = (), more: Iterable[str] = ()) -> dict[str, str]:
    """Return what an agent gets: the usual, what its program ``needs``, and ``more`` that the user has named."""
    usual, no_secret, named = _form(USUAL), _form(NO_SECRET), _form((*needs, *more))
    return {
        name: value
        for name, value in environ.items()
        if named(name) or (usual(name) and (not is_secret(name) or no_secret(name)))
    }


def _form(patterns: Iterable[str]) -> Callable[[str], object]:
    """Return what matches names by any of the patterns, in which ``*`` stands for anything."""
    # one expression for all: fnmatch, name by name and pattern by pattern, takes longer than to start git
    return re.compile("|".join(re.escape(pattern).replace(r"\*", ".*") for pattern in patterns) or "(?!)").fullmatch
