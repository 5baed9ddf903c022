"""Each file of fuzzing prints the number of its examples at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import fuzzing


@pytest.fixture(autouse=True, scope="module")
def _published() -> Iterator[None]:
    yield
    fuzzing.publish()
