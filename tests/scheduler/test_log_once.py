"""Lasting facts are logged once."""

from __future__ import annotations

import logging

import pytest

from scriptorium.scheduler.log_once import LogOnce

logger = logging.getLogger("tests.log_once")


@pytest.fixture
def once(caplog: pytest.LogCaptureFixture) -> LogOnce:
    caplog.set_level(logging.INFO, logger.name)
    return LogOnce(logger)


def test_a_fact_is_logged_again_only_when_it_changes(once: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("a", "a", "b", "b", "a"):
        once.log("x", text)
    assert caplog.messages == ["a", "b", "a"]


def test_a_new_hint_alone_is_no_change(once: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    once.log("x", "a", logging.WARNING, hint="one")
    once.log("x", "a", logging.WARNING, hint="two")
    assert caplog.record_tuples == [(logger.name, logging.WARNING, "a; hint: one")]


def test_facts_with_a_key_are_compared_by_it(once: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    once.log("x", "a", key="1")
    once.log("x", "b", key="1")
    once.log("x", "b", key="2")
    assert caplog.messages == ["a", "b"]


def test_a_forgotten_fact_is_logged_again(once: LogOnce, caplog: pytest.LogCaptureFixture) -> None:
    assert not once.forget("x")
    once.log("x", "a")
    once.log("y", "a")
    assert once.forget("x")
    assert not once.forget("x")
    once.log("x", "a")
    once.log("y", "a")
    assert caplog.messages == ["a", "a", "a"]
