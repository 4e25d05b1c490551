"""Messages as Server-Sent Events."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.errors import RATE_LIMITED, TOKEN_EXPIRING
from energyws.protocol import event_stream, frame, messages
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import Subscribed
from energyws.protocol.snapshot_told import SnapshotTold

FRAMES = DataFrames("energy")


def test_record_is_an_event_without_a_name_whose_id_is_its_position() -> None:
    built = FRAMES.build(0, b'{"id":"x","n":1}', "ab-1.2")
    payload = next(frame.split(built))[1]
    assert event_stream.encode(built) == b"id: ab-1.2\ndata: " + payload + b"\n\n"


@given(
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**53), 2**53))),
    st.sampled_from([b"\n", b"\r\n", b"\r", b" \n\n"]),
)
def test_line_breaks_of_a_producer_end_no_event(value: dict[str, object], broken: bytes) -> None:
    # Between the tokens: in a string, JSON escapes them.
    data = b"{" + broken + orjson.dumps(value)[1:-1] + broken + b"}"
    event = event_stream.encode(FRAMES.build(0, data, "ab-1"))
    head, _, rest = event.removesuffix(b"\n\n").partition(b"\n")
    assert head == b"id: ab-1"
    assert b"\n" not in rest
    assert b"\r" not in rest
    assert orjson.loads(rest.removeprefix(b"data: "))["data"] == value


def test_frames_of_a_batch_are_events_in_the_same_order() -> None:
    built = [FRAMES.build(n, b'{"n":%d}' % n, f"ab-{n}") for n in range(3)]
    large = FRAMES.build(0, orjson.dumps({"x": "y" * 70_000}), "ab-9")
    together = event_stream.encode(b"".join([*built, large]))
    assert together == b"".join(map(event_stream.encode, [*built, large]))


@pytest.mark.parametrize(
    ("message", "head"),
    [
        (messages.subscribed({"energy": Subscribed("ab-7")}), "event: subscribed\nid: ab-7\n"),
        (frame.lagged("energy", 2, None, "ab-9", "LAGGED"), "event: lagged\nid: ab-9\n"),
        (FRAMES.removed(0, "ab-4", b"m7"), "event: removed\nid: ab-4\n"),
        (messages.error(RATE_LIMITED), "event: problem\n"),
        (messages.error(TOKEN_EXPIRING), "event: notice\n"),
        (messages.reconnect(730), "retry: 730\nevent: reconnect\n"),
    ],
    ids=["subscribed", "lagged", "removed", "error", "notice", "reconnect"],
)
def test_other_messages_are_named_events(message: bytes, head: str) -> None:
    payload = next(frame.split(message))[1].decode()
    assert event_stream.encode(message).decode() == f"{head}data: {payload}\n\n"


def test_snapshot_has_no_position_before_its_end() -> None:
    told = Subscribed("ab-7", snapshot=SnapshotTold(complete=True, since_ms=None, keys=1))
    message = messages.subscribed({"energy": told})
    payload = next(frame.split(message))[1].decode()
    assert event_stream.encode(message).decode() == f"event: subscribed\ndata: {payload}\n\n"
    value = FRAMES.snapshot(b"m7", 0, b'{\n"n":1}')
    payload = next(frame.split(value))[1].decode().replace("\n", " ")
    assert event_stream.encode(value).decode() == f"event: snapshot\ndata: {payload}\n\n"


def test_position_is_an_id_alone_which_dispatches_no_event() -> None:
    assert event_stream.encode(messages.position("energy", "ab-1.2")) == b"id: ab-1.2\n\n"


@pytest.mark.parametrize(
    "told",
    [
        messages.position("energy", "ab-1.2", 3),
        messages.position("energy", "ab-1.2", had=SnapshotTold(False, None, None)),
    ],
)
def test_position_that_says_more_is_an_event(told: bytes) -> None:
    ((_, data),) = frame.split(told)
    assert event_stream.encode(told) == b"event: position\nid: ab-1.2\ndata: %b\n\n" % data


def test_pause_and_heartbeat_dispatch_no_event() -> None:
    assert event_stream.begin(1500, "") == b"retry: 1500\n\n"
    assert event_stream.HEARTBEAT.startswith(b":")
