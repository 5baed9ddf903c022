"""Removes secrets from what agents and gates print, before it is committed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)

# The published forms of the common providers' credentials
_SECRET_FORMS = re.compile(
    r"sk-[A-Za-z0-9_-]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)


def is_secret(name: str) -> bool:
    """Tell whether the name of an environment variable says that its value is a secret."""
    return bool(_SECRET_NAME.search(name))


def redact(text: str, *more: Mapping[str, str]) -> str:
    """Return a text with credentials replaced: known forms, and values of telling environment variables.

    ``more`` are environments beside our own, as that of an agent.
    """
    for name, value in (pair for environment in (os.environ, *more) for pair in environment.items()):
        if len(value) >= 8 and is_secret(name):
            text = text.replace(value, "[removed]")
    return _SECRET_FORMS.sub("[removed]", text)
