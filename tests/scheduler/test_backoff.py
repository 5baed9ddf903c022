"""Delays between the tries of a step."""

from __future__ import annotations

import pytest

from scriptorium.errors import ExitCode, ScriptoriumError
from scriptorium.scheduler import backoff
from scriptorium.scheduler.backoff import Backoff


class Clock:
    """Time that passes when it is set."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(backoff, "time", clock)
    return clock


def test_a_delay_doubles_and_a_success_ends_it(clock: Clock) -> None:
    delay = Backoff()
    for seconds in (1, 2, 4, 8):
        delay.failed()
        assert (delay.is_waiting(), delay.until - clock.now) == (True, seconds)
    delay.reset()
    assert (delay.is_waiting(), delay.failures) == (False, 0)


def test_a_new_input_ends_the_delay_and_an_old_one_does_not(clock: Clock) -> None:
    delay = Backoff()
    assert not delay.is_waiting("a")
    delay.failed()
    assert delay.is_waiting("a")
    assert not delay.is_waiting("b")
    assert delay.failures == 0


def test_a_held_lock_delays_without_counting_as_a_failure(clock: Clock) -> None:
    delay = Backoff()
    for _ in range(3):
        delay.failed(ScriptoriumError("held", code=ExitCode.LOCKED))
    assert (delay.failures, delay.until - clock.now) == (0, 1.0)


def test_a_delay_may_be_decided_elsewhere(clock: Clock) -> None:
    delay = Backoff()
    delay.wait(30.0, 7)
    assert (delay.is_waiting(), delay.failures, delay.until - clock.now) == (True, 7, 30.0)
