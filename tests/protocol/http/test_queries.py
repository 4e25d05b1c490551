"""Keys in the query string; tests/protocol/test_messages.py has the rest of it."""

from __future__ import annotations

import pytest

from energyws.protocol.http.queries import parse_query
from energyws.protocol.http.stream_queries import parse_history, parse_last, parse_sse
from energyws.protocol.messages import BadClientMessage


def keys(query: str) -> dict[str, tuple[str, ...]]:
    made = parse_query(query)
    assert made is not None
    return made.keys


def test_keys_of_one_stream_are_taken_as_they_are() -> None:
    assert keys("subscribe=energy&key=a:1&key=b&key=a:1") == {"energy": ("a:1", "b")}


def test_keys_of_several_streams_name_theirs() -> None:
    query = "subscribe=energy,water&key=energy:a:1&key=water:b&key=energy:c"
    assert keys(query) == {"energy": ("a:1", "c"), "water": ("b",)}


@pytest.mark.parametrize("key", ["canary", "canary:a"])
def test_key_of_none_of_the_streams_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(BadClientMessage, match="`key") as caught:
        parse_query(f"subscribe=energy,water&key={key}")
    assert "canary" not in caught.value.detail


def test_every_path_of_a_stream_takes_keys() -> None:
    wanted = {"energy": ("a", "b")}
    assert parse_sse("energy", "key=a&key=b", "").keys == wanted
    assert parse_sse("energy", "key=a&key=b&last=3", "7f-1").keys == wanted
    assert parse_history("energy", "after=7f-1&key=a&key=b")[0].keys == wanted
    assert parse_history("energy", "last=5&key=a&key=b")[0].keys == wanted
    made, count = parse_last("energy", "last=5&key=a&key=b")
    assert (made.keys, made.last, count) == (wanted, 5, 5)
