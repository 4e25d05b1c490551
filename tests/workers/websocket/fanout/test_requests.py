"""How soon a client may send another history request."""

from __future__ import annotations

import pytest

from tests.workers.websocket.fanout.test_hub import FakeClient
from workers.websocket.fanout.requests import (
    BURST_OF_REQUESTS,
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
