"""The parser follows the HTML standard, section 9.2.6."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.faults.clients.event_stream import Event, EventStream

# The examples of section 9.2.6, and its rules one by one.
CASES = {
    "stock ticker": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [Event("message", "YHOO\n+2\n10", "")],
    ),
    "ids": (
        b": test\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        [Event("message", "first event", "1"), Event("message", "second event", "")],
    ),
    "empty data": (
        b"data\n\ndata\ndata\n\ndata:",
        [Event("message", "", ""), Event("message", "\n", "")],
    ),
    "one space is removed": (
        b"data:test\n\ndata: test\n\ndata:  test\n\n",
        [Event("message", "test", ""), Event("message", "test", ""), Event("message", " test", "")],
    ),
    "the type is that of one event": (
        b"event: lagged\ndata: 1\n\ndata: 2\n\n",
        [Event("lagged", "1", ""), Event("message", "2", "")],
    ),
    "an event without data is none, and its type is gone": (
        b"event: lagged\nid: 7\n\ndata: 2\n\n",
        [Event("message", "2", "7")],
    ),
    "an id stays until the next one": (
        b"id: 7\ndata: 1\n\ndata: 2\n\n",
        [Event("message", "1", "7"), Event("message", "2", "7")],
    ),
    "an id with NUL is ignored": (b"id: 7\nid: 8\0\ndata: 1\n\n", [Event("message", "1", "7")]),
    "any line end": (
        b"data: 1\r\rdata: 2\r\n\r\ndata: 3\n\n",
        [Event("message", "1", ""), Event("message", "2", ""), Event("message", "3", "")],
    ),
    "unknown fields and comments are ignored": (
        b":data: 0\nDATA: 1\ndatas: 2\n data: 3\ndata: 4:5\n\n",
        [Event("message", "4:5", "")],
    ),
    "one byte order mark, at the start": (
        b"\xef\xbb\xbfdata: 1\n\n\xef\xbb\xbfdata: 2\n\n",
        [Event("message", "1", "")],
    ),
    "bad UTF-8 is replaced": (b"data: \xff\xc3\xa4\n\n", [Event("message", "\ufffdä", "")]),
}


@pytest.mark.parametrize("name", CASES)
def test_stream_gives_the_events_of_the_standard(name: str) -> None:
    stream, events = CASES[name]
    assert EventStream().feed(stream) == events


@given(st.sampled_from(sorted(CASES)), st.sets(st.integers(0, 100)))
def test_events_do_not_depend_on_the_pieces(name: str, cuts: set[int]) -> None:
    stream, events = CASES[name]
    parser = EventStream()
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[begin:end] for begin, end in pairwise(places)]
    assert [event for piece in pieces for event in parser.feed(piece)] == events


@pytest.mark.parametrize(
    ("stream", "retry_ms"),
    [
        (b"retry: 1500\n", 1500),
        (b"retry: 1500\nretry: 20\n\n", 20),
        (b"retry: 1.5\n", None),
        (b"retry: -1\n", None),
        (b"retry\n", None),
        (b"retry: 15", None),
    ],
)
def test_reconnection_time_is_digits_of_a_whole_line(stream: bytes, retry_ms: int | None) -> None:
    parser = EventStream()
    parser.feed(stream)
    assert parser.retry_ms == retry_ms


@pytest.mark.parametrize(
    ("stream", "last_event_id"),
    [
        (b"", "7"),
        (b"id: 8\ndata: 1\n", "7"),
        (b"id: 8\n\n", "8"),
        (b"retry: 10\n", "7"),
        # To the letter: the buffer of a new connection is empty.
        (b"data: 1\n\n", ""),
        (b":\n\n", ""),
    ],
)
def test_end_of_an_event_sets_the_last_event_id(stream: bytes, last_event_id: str) -> None:
    parser = EventStream("7")
    parser.feed(stream)
    assert parser.last_event_id == last_event_id
