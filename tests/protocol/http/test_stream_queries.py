"""The queries of the HTTP paths that name a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from energyws.protocol.http.stream_queries import parse_history, parse_last, parse_sse
from energyws.protocol.messages import BadClientMessage, OnLag, Subscribe


def subscribe(
    resume: str | None = None,
    last: int | None = None,
    on_lag: OnLag = OnLag.SKIP,
    since_ms: int | None = None,
) -> Subscribe:
    return Subscribe(("a",), {} if resume is None else {"a": resume}, last, on_lag, since_ms)


@pytest.mark.parametrize(
    ("query", "last_event_id", "expected"),
    [
        ("", "", subscribe()),
        ("token=x&subscribe=b", "", subscribe()),
        ("resume=ab-1", "", subscribe("ab-1")),
        ("last=5&on_lag=latest", "", subscribe(last=5, on_lag=OnLag.LATEST)),
        ("since=1970-01-01T00:00:01Z", "", subscribe(since_ms=1000)),
        ("resume=ab-1", "ab-2", subscribe("ab-2")),
        ("last=5&on_lag=disconnect", "ab-2", subscribe("ab-2", on_lag=OnLag.DISCONNECT)),
        ("snapshot=1", "", replace(subscribe(), snapshot=True)),
        ("snapshot=1", "ab-2", replace(subscribe("ab-2"), snapshot=True)),
        # It was good once, or the stream would not have begun.
        ("last=?", "b:ab-2", subscribe("b:ab-2")),
        ("last=?", "what it sent", subscribe("what it sent")),
    ],
)
def test_event_stream(query: str, last_event_id: str, expected: Subscribe) -> None:
    assert parse_sse("a", query, last_event_id) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("after=ab-1", (subscribe("ab-1"), 1000)),
        ("after=b:ab-2", (subscribe("b:ab-2"), 1000)),
        ("last=5&limit=10000", (subscribe(last=5), 10_000)),
        ("since=1970-01-01T00:00:01+00:00&limit=1", (subscribe(since_ms=1000), 1)),
    ],
)
def test_history(query: str, expected: tuple[Subscribe, int]) -> None:
    assert parse_history("a", query) == expected


def test_last() -> None:
    assert parse_last("a", "") == (subscribe(last=1), 1)
    assert parse_last("a", "last=100&token=x") == (subscribe(last=100), 100)
    assert parse_last("a", "snapshot=0&since=x") == (subscribe(last=1), 1)


def test_newest_record_of_each_key() -> None:
    wanted, _ = parse_last("a", "snapshot=1&key=m7&key=m8&token=x")
    assert wanted == replace(subscribe(), keys={"a": ("m7", "m8")}, snapshot=True)


def sse(stream: str, query: str) -> Subscribe:
    return parse_sse(stream, query, "")


@pytest.mark.parametrize(
    ("parse", "query", "says"),
    [
        (sse, "last=-1", "`last` must be an integer from 0"),
        (sse, "since=yesterday", "RFC 3339"),
        (sse, "resume=ab-1&last=1", "exclude each other"),
        (sse, "on_lag=wait", "skip, latest or disconnect"),
        (parse_history, "", "give one of `after`, `since` and `last`"),
        (parse_history, "after=ab-1&last=1", "give one of"),
        (parse_history, "resume=ab-1", "give one of"),
        (parse_history, "last=5&limit=0", "`limit` must be an integer from 1 to 10000"),
        (parse_history, "last=5&limit=10001", "`limit`"),
        (parse_history, "last=5&limit=" + "9" * 5000, "`limit`"),
        (parse_history, "last=x", "`last`"),
        (parse_last, "last=0", "`last` must be an integer from 1 to 100"),
        (parse_last, "last=0&snapshot=1", "`last` must be an integer from 1 to 100"),
        (parse_last, "last=5&snapshot=1", "exclude"),
        (parse_last, "snapshot=yes", "`snapshot`"),
        (parse_last, "last=101", "`last`"),
        (parse_last, "last=", "`last`"),
        (parse_last, "last=٣", "`last`"),
    ],
)
def test_bad_values_are_named(parse: Callable[[str, str], object], query: str, says: str) -> None:
    with pytest.raises(BadClientMessage, match=says):
        parse("a", query)
