"""The workers of all crash tests: each has traced a clean run before the first kill, which takes a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.campaign import Campaign, campaign


@pytest.fixture(scope="session")
def workers() -> Iterator[Campaign]:
    with campaign() as workers:
        yield workers
