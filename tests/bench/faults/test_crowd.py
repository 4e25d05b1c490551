"""Which clients of a crowd use Server-Sent Events, and where."""

from __future__ import annotations

import pytest

from bench.faults.crowd import events_url, takes_events


@pytest.mark.parametrize(
    ("percent", "chosen"),
    [(0, []), (25, [3, 7, 11]), (50, [1, 3, 5, 7, 9, 11]), (100, list(range(12)))],
)
def test_share_of_sse_clients_is_spread_evenly(percent: int, chosen: list[int]) -> None:
    assert [client for client in range(12) if takes_events(client, percent)] == chosen


@pytest.mark.parametrize("percent", range(0, 101, 7))
def test_share_of_sse_clients_is_exact(percent: int) -> None:
    assert sum(takes_events(client, percent) for client in range(200)) == 2 * percent


def test_event_stream_is_on_the_port_of_the_websocket() -> None:
    assert events_url("ws://127.0.0.1:8080/ws/energy") == "http://127.0.0.1:8080/sse/energy"
    assert events_url("wss://127.0.0.1:8080/ws/energy") == "https://127.0.0.1:8080/sse/energy"
