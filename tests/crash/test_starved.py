"""Without disk space, permission to write or file descriptors it reports so and ends; later it continues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import CHECKOUT

WANTS = {
    ("repository", "full"): (0, 20, 40),
    ("repository", "read-only"): (0,),
    ("repository", "few-files"): (9, 15, 24),
    ("repository", "short-files"): (0, 2),
    ("state", "full"): (0, 20),
    ("state", "read-only"): (0,),
}
"""KiB of disk space, open files, or blocks of 512 bytes in a file; above the maximum there is no shortage."""

CASES = [(where, want, amount) for (where, want), amounts in WANTS.items() for amount in amounts]


@pytest.mark.parametrize(("where", "want", "amount"), CASES)
def test_a_shortage_is_reported_and_does_no_damage(tmp_path: Path, where: str, want: str, amount: int) -> None:
    argv = [sys.executable, "-m", "tests.crash.starved", str(tmp_path / "starved"), where, want, str(amount)]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)

    print(done.stdout.partition("\n")[0])
    assert done.returncode == 0, done.stdout + done.stderr
