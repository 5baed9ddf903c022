"""Bad neighbours: how many cases there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import figures
from tests.support import CHECKOUT

pytestmark = pytest.mark.slow


def test_the_cases_are_counted_for_the_page_of_reliability() -> None:
    files = [str(path) for path in sorted(Path(__file__).parent.glob("test_*.py")) if path != Path(__file__)]
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *files]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    cases = [line for line in done.stdout.splitlines() if "::" in line]
    assert cases, done.stdout + done.stderr
    figures.publish("neighbours", [("cases", len(cases))])
