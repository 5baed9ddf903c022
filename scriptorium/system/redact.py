"""Removes credentials from the output of agents and gates before it is committed, logged or shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)

# The published formats of common providers' credentials. Separate patterns, because a pattern with a literal prefix is
# ten times as fast. Each has a maximum length, so that `_pieces` knows where it can cut a stream.
_FORMS = [
    re.compile(form)
    for form in (
        # a known word must follow: "risk-management-…" contains "sk-", too
        r"sk-(?:proj|ant|admin|svcacct|or)-[A-Za-z0-9_-]{16,4096}",
        r"sk-[A-Za-z0-9]{20,4096}",
        r"gh[pousr]_[A-Za-z0-9]{20,255}",
        r"github_pat_[A-Za-z0-9_]{20,255}",
        r"glpat-[A-Za-z0-9_-]{16,255}",
        r"AKIA[0-9A-Z]{16}",
        r"xox[abprs]-[A-Za-z0-9-]{10,255}",
        # the group "no" consumes a token without a signature as a whole; else the search restarts at each letter
        r"eyJ[A-Za-z0-9_-]{8,8192}+(?:\.[A-Za-z0-9_-]{8,8192}+\.[A-Za-z0-9_-]{8,8192}+|(?P<no>))",
        # of a truncated key, everything that looks like base64; in a JSON string a line break is "\\n"
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[^-]|-(?!----)){0,16384}+-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\\\s]{0,16384})",
    )
]
_MAX_MATCH = 32 * 1024
"""An upper bound on the length of a match, in characters."""

_CHUNK = 1024 * 1024  # bytes of a file that are read at once


def is_secret(name: str) -> bool:
    """Return whether the name of an environment variable indicates a secret."""
    return bool(_SECRET_NAME.search(name))


class Secrets:
    """Recognizes credentials: by format, and as values of secret variables in this environment and in ``more``."""

    def __init__(self, *more: Mapping[str, str]) -> None:
        self.names: dict[str, str] = {}
        """The variable of each secret value; the value as it is, as a JSON string, and as JSON within JSON."""
        for name, value in (pair for environment in (os.environ, *more) for pair in environment.items()):
            if len(value) >= 8 and is_secret(name):
                self.names |= dict.fromkeys(_spellings(value), name)

    def redact(self, text: str) -> str:
        """Return a text with credentials replaced."""
        return _without(text, _spans(text, self.names))

    def find(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Yield position, description and text of each credential; leaves out values that also occur by chance."""
        yield from ((match.start(), "what looks like a credential", match[0]) for match in _formed(text))
        for value, name in self.names.items():
            if not _is_common(value) and (start := text.find(value)) >= 0:
                yield start, f"the value of '{name}'", value

    def redact_file(self, path: Path) -> None:
        """Replace the credentials in a file of any size; does nothing if the file does not exist."""
        values = [os.fsencode(value).decode("latin-1") for value in self.names if _is_encodable(value)]
        with suppress(FileNotFoundError), path.open("rb") as file:
            if not any(removed for _, removed in _pieces(_chunks(file.fileno()), values)):
                return
            file.seek(0)
            draft = path.with_name(f"{path.name}.new")
            with draft.open("wb") as clean:
                os.fchmod(clean.fileno(), os.fstat(file.fileno()).st_mode & 0o777)
                for text, _ in _pieces(_chunks(file.fileno()), values):
                    clean.write(text.encode("latin-1"))
            draft.replace(path)


def redact(text: str, *more: Mapping[str, str]) -> str:
    """Return a text with credentials replaced, see `Secrets`.

    ``more`` are further environments, such as an agent's.
    """
    return Secrets(*more).redact(text)


def _formed(text: str) -> Iterator[re.Match[str]]:
    return (match for form in _FORMS for match in form.finditer(text) if match.lastgroup != "no")


def _spellings(value: str) -> set[str]:
    import json  # late: most values need no escaping

    found = {value}
    if not re.fullmatch(r"[A-Za-z0-9_.+/=:-]*", value):
        for _ in range(2):
            found |= {json.dumps(text, ensure_ascii=ascii)[1:-1] for text in found for ascii in (True, False)}
    return found


def _is_common(value: str) -> bool:
    """Return whether a value may occur in a file by chance: a word, a path, a URL."""
    mixed = len(value) >= 12 and re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return not (mixed or len(value) >= 20) or value.startswith(("/", "~", "./", "http"))


def _is_encodable(value: str) -> bool:
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _spans(text: str, values: Iterable[str]) -> list[tuple[int, int]]:
    """Return the positions of the credentials in order; overlapping ones are merged."""
    found = [match.span() for match in _formed(text)]
    for value in values:
        start = text.find(value)
        while start >= 0:
            found.append((start, start + len(value)))
            start = text.find(value, start + len(value))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    out, at = [], 0
    for start, end in spans:
        out += [text[at:start], "[removed]"]
        at = end
    return "".join([*out, text[at:]])


def _chunks(descriptor: int) -> Iterator[str]:
    """Yield a file in chunks, decoded as latin-1, so that every byte survives."""
    while data := os.read(descriptor, _CHUNK):
        yield data.decode("latin-1")


def _pieces(chunks: Iterable[str], values: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a stream without credentials, and for each whether any was removed.

    A credential that spans two chunks is removed, too.
    """
    values = list(values)
    hold = max([_MAX_MATCH, *map(len, values)])
    rest = ""
    for chunk in chunks:
        rest += chunk
        if len(rest) < 2 * hold:
            continue
        spans = _spans(rest, values)
        # a match that begins before this point ends before the end of the text
        cut = len(rest) - hold
        cut = next((start for start, end in spans if start < cut < end), cut)
        before = [span for span in spans if span[1] <= cut]
        yield _without(rest[:cut], before), bool(before)
        rest = rest[cut:]
    spans = _spans(rest, values)
    yield _without(rest, spans), bool(spans)
