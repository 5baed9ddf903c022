"""The index of a worktree, read from its file."""

from __future__ import annotations

import struct
from collections.abc import Iterator

GITLINK = 0o160000.to_bytes(4)
"""The mode of a gitlink, a reference to a commit of another repository, in the index."""


def index_entries(index: bytes, raw: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the mode of each entry, and its id of ``raw`` bytes, flags and name as one string (gitformat-index).

    Raises ValueError if the data is no index, or has an unknown version.
    """
    try:
        version, count = struct.unpack(">4xII", index[:12])
        if version not in (2, 3, 4):
            raise ValueError(f"an index of version {version}")
        start = 12
        for _ in range(count):
            flags = start + 40 + raw
            name = flags + (4 if index[flags] & 0x40 else 2)
            if version == 4:  # a number precedes it: how much of the previous name to drop
                while index[name] & 0x80:
                    name += 1
                name += 1
            end = index.index(0, name)
            yield index[start + 24 : start + 28], index[start + 40 : end]
            start = end + 1 if version == 4 else start + (end - start) // 8 * 8 + 8
    except (struct.error, IndexError) as error:
        raise ValueError("no index, or a truncated one") from error
