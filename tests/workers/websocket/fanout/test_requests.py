"""How soon a client may send another history request."""

from __future__ import annotations

import pytest

from energyws.protocol.forms import Form
from tests.workers.websocket.fanout.test_hub import FakeClient
from workers.websocket.fanout.requests import (
    BURST_OF_REQUESTS,
    MOST_SUBJECTS,
    SECONDS_PER_HTTP_REQUEST,
    SECONDS_PER_REQUEST,
    HistoryRateLimit,
)


def used_up(client: FakeClient, *streams: str, now: float) -> HistoryRateLimit:
    limit = HistoryRateLimit()
    for _ in range(BURST_OF_REQUESTS):
        assert limit.ask(client, streams, now) == 0
    return limit


def test_burst_of_requests_is_free_and_further_ones_are_limited() -> None:
    client = FakeClient()
    limit = used_up(client, "a", now=100.0)
    assert limit.ask(client, ["a"], 100.0) == pytest.approx(SECONDS_PER_REQUEST)
    # A refused request is not charged.
    assert limit.ask(client, ["a"], 100.25) == pytest.approx(0.75 * SECONDS_PER_REQUEST)
    assert limit.ask(client, ["a"], 100.0 + SECONDS_PER_REQUEST) == 0
    assert limit.ask(client, ["a"], 100.0 + SECONDS_PER_REQUEST) > 0


def test_each_stream_and_client_has_its_own_limit() -> None:
    client = FakeClient()
    limit = used_up(client, "a", now=100.0)
    assert limit.ask(client, ["b"], 100.0) == 0
    assert limit.ask(FakeClient(), ["a"], 100.0) == 0
    # A request for several streams waits for the slowest, and is not charged meanwhile.
    assert limit.ask(client, ["b", "a"], 100.0) > 0
    assert limit.ask(client, ["b"], 100.0) == 0


def test_allowance_is_bounded_and_forgotten_with_its_client() -> None:
    client = FakeClient()
    limit = used_up(client, "a", now=100.0)
    for _ in range(BURST_OF_REQUESTS):
        assert limit.ask(client, ["a"], 1_000.0) == 0
    assert limit.ask(client, ["a"], 1_000.0) > 0
    limit.forget(client)
    assert limit.ask(client, ["a"], 1_000.0) == 0


def by_http(subject: str) -> FakeClient:
    client = FakeClient(Form.LINES)
    client.subject = subject
    return client


def test_http_requests_of_a_subject_share_a_limit() -> None:
    limit = HistoryRateLimit()
    most = round(BURST_OF_REQUESTS * SECONDS_PER_REQUEST / SECONDS_PER_HTTP_REQUEST)
    for _ in range(most):
        client = by_http("greedy")
        assert limit.ask(client, ["a"], 128.0) == pytest.approx(0)
        limit.forget(client)
    assert limit.ask(by_http("greedy"), ["a"], 128.0) == pytest.approx(SECONDS_PER_HTTP_REQUEST)
    assert limit.ask(by_http("honest"), ["a"], 128.0) == 0
    # Nor do its WebSockets wait.
    assert limit.ask(FakeClient(), ["a"], 128.0) == 0
    assert limit.ask(by_http("greedy"), ["a"], 128.2) == 0


def test_subjects_whose_requests_are_paid_for_are_forgotten() -> None:
    limit = HistoryRateLimit()
    for number in range(MOST_SUBJECTS):
        limit.ask(by_http(str(number)), ["a"], 100.0)
    limit.ask(by_http("late"), ["a"], 100.0)
    assert len(limit._of_subjects) == MOST_SUBJECTS + 1
    limit.ask(by_http("later"), ["a"], 101.0)
    assert list(limit._of_subjects) == ["later"]
