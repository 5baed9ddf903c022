"""The measurement of a long run finds a leak, and nothing else."""

import subprocess
import sys
from operator import attrgetter

from tests.stress.growth import Held, Trend

FORKS = """\
import os
held = bytearray(b"x" * (20 << 20))
os.write(1, b"alone\\n")
os.read(0, 1)
if os.fork():
    os.write(1, b"forked\\n")
os.read(0, 1)
"""


def test_a_fork_meanwhile_is_no_less_memory() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", FORKS], stdin=pipe, stdout=pipe, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        looks = []
        for _ in range(2):
            process.stdout.readline()
            looks.append(Held.by(process.pid, 0))
            process.stdin.write(b"\n")
    alone, forked = looks
    assert alone is not None
    assert forked is not None
    assert forked.anonymous >= alone.anonymous > 20 << 10
    assert forked.resident >= alone.resident > 20 << 10
    assert forked.processes == alone.processes + 1


def test_a_leak_is_growth_and_a_moment_s_work_is_not() -> None:
    def held(done: int, anonymous: int) -> Held:
        return Held(done, 0, anonymous, 0, 0, 0)

    moments = [held(done, 100 + 50 * (done % 3)) for done in range(80)]
    assert Trend.of(moments, attrgetter("anonymous")).growth == 0
    leak = [held(done, 100 + done) for done in range(80)]
    assert Trend.of(leak, attrgetter("anonymous")).growth == 70
    assert Trend.of(leak, attrgetter("anonymous")).each == 1
