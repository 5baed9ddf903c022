"""The cause of a failure, and whether it uses up an attempt."""

from __future__ import annotations

import pytest

from scriptorium.agents.harness.classify import classify, retry_after
from scriptorium.plan.cause import UNCOUNTED, Cause


@pytest.mark.parametrize(
    ("status", "message", "cause"),
    [
        (401, "", "auth"),
        (403, "nothing to see", "auth"),
        (429, "", "rate-limit"),
        (500, "", "provider"),
        (529, "", "provider"),
        (404, "", "infrastructure"),
        (400, "messages: at least one message is required", "agent"),
        (400, "Your credit balance is too low to access the API", "rate-limit"),
        (400, "The 'gpt-0' model is not supported when using Codex with a ChatGPT account.", "infrastructure"),
        (400, "prompt is too long: 208310 tokens > 200000 maximum", "agent"),
        (0, "exceeded retry limit, last status: 429 Too Many Requests", "rate-limit"),
        (0, "unexpected status 401 Unauthorized: no such key", "auth"),
        (0, "API Error: 529 Overloaded", "provider"),
        (0, "Codex ran out of room in the model's context window. Start a new thread.", "agent"),
        (0, "You've hit your usage limit. Try again at 3:00 PM.", "rate-limit"),
        (0, "Missing environment variable: `OPENAI_API_KEY`.", "auth"),
        (0, "Not logged in · Please run /login", "auth"),
        (0, "stream disconnected before completion: stream closed before response.completed", "provider"),
        (0, "We're currently experiencing high demand, which may cause temporary errors.", "provider"),
        (0, "Unable to connect to API (ConnectionRefused)", "provider"),
    ],
)
def test_a_message_has_its_cause(status: int, message: str, cause: str) -> None:
    assert classify(status, message) == cause


@pytest.mark.parametrize("message", ["", "I fixed 500 tests", "line 401 was wrong", "the build failed"])
def test_an_unclear_message_has_no_cause(message: str) -> None:
    assert classify(0, message) is None


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached. Please try again in 1.5s.", 1.5),
        ("try again in 250ms", 0.25),
        ("Retry after 20", 20),
        ("try again in 3m", 180),
        ("try again in 2h", 7200),
        ("Try again at 3:00 PM.", 0),
        ("", 0),
    ],
)
def test_a_message_says_when_to_try_again(message: str, seconds: float) -> None:
    assert retry_after(message) == seconds


def test_every_cause_of_the_ticket_uses_up_an_attempt() -> None:
    assert {cause for cause in Cause if cause not in UNCOUNTED} == {
        Cause.NO_SUBMIT, Cause.AGENT, Cause.SILENCE, Cause.TIMEOUT, Cause.CONFLICT, Cause.GATE, Cause.LOST,
    }  # fmt: skip
