from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position
from energyws.stream.bus_messages import (
    FRAME,
    HEADER_SIZE,
    HEARTBEAT,
    VERSION,
    BadMessage,
    BusMessage,
    StreamState,
    SyncReply,
    SyncRequest,
    pack,
    pack_chunks,
    pack_heads,
    pack_history_request,
    pack_start,
    unpack,
    unpack_chunks,
    unpack_heads,
    unpack_history_request,
    unpack_start,
    unpack_sync_reply,
    unpack_sync_request,
)
from energyws.stream.history import Chunk, FindStart, HistoryRequest, ReadChunks, StartPoint

MESSAGE = BusMessage(
    kind=FRAME,
    stream=0x0102,
    partition=0x03040506,
    run=0x0708090A0B0C0D0E,
    sequence=0x1112131415161718,
    offset=0x2122232425262728,
    timestamp_ms=-2,
    frame=b"\x81\x02{}",
)

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
i64 = st.integers(-(2**63), 2**63 - 1)
messages = st.builds(
    BusMessage, st.sampled_from([FRAME, HEARTBEAT]), u16, u32, u64, u64, u64, i64, st.binary()
)
positions = st.builds(
    Position,
    st.text("0123456789abcdef", min_size=1, max_size=16),
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4).map(tuple),
)
names = st.text(min_size=1, max_size=10)
rules = st.none() | st.dictionaries(names, st.none() | names, max_size=4)
requests = st.builds(
    SyncRequest, u64, st.dictionaries(names, st.none() | positions, max_size=4), rules
)
replies = st.builds(
    SyncReply,
    ask=u64,
    run=u64,
    sequence=u64,
    more=st.booleans(),
    streams=st.dictionaries(names, st.builds(StreamState, positions, positions), max_size=4),
    rules=rules,
)

FIELDS = {
    "kind": (0, 1, 1),
    "version": (1, 2, VERSION),
    "stream": (2, 4, 0x0102),
    "partition": (4, 8, 0x03040506),
    "run": (8, 16, 0x0708090A0B0C0D0E),
    "sequence": (16, 24, 0x1112131415161718),
    "offset": (24, 32, 0x2122232425262728),
    "timestamp": (32, 40, 2**64 - 2),
}


@pytest.mark.parametrize(("begin", "end", "value"), FIELDS.values(), ids=FIELDS.keys())
def test_header_field_has_its_documented_place(begin: int, end: int, value: int) -> None:
    assert int.from_bytes(pack(MESSAGE)[begin:end], "little") == value


def test_frame_follows_the_header() -> None:
    assert HEADER_SIZE == 40
    assert pack(MESSAGE)[40:] == MESSAGE.frame


@given(messages)
def test_message_survives_packing(message: BusMessage) -> None:
    assert unpack(pack(message)) == message


GARBLED = {
    "nothing": b"",
    "header cut off": pack(MESSAGE)[:39],
    "older version": bytes([FRAME, VERSION - 1]) + bytes(38),
    "newer version": bytes([FRAME, VERSION + 1]) + bytes(38),
    "unknown kind": bytes([3, VERSION]) + bytes(38),
    "zeros": bytes(40),
}


@pytest.mark.parametrize("data", GARBLED.values(), ids=GARBLED.keys())
def test_unknown_message_is_refused(data: bytes) -> None:
    with pytest.raises(BadMessage, match="bus message of"):
        unpack(data)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda b: bytes([FRAME, VERSION]) + b))
def test_arbitrary_bytes_are_unpacked_or_refused(data: bytes) -> None:
    try:
        message = unpack(data)
    except BadMessage:
        return
    assert pack(message) == data


def test_field_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(struct.error):
        pack(MESSAGE._replace(stream=2**16))


@given(requests)
def test_sync_request_survives_packing(request: SyncRequest) -> None:
    assert unpack_sync_request(request.pack()) == request


@given(replies)
def test_sync_reply_survives_packing(reply: SyncReply) -> None:
    assert unpack_sync_reply(reply.pack()) == reply


@given(st.dictionaries(names, positions, max_size=4))
def test_heads_survive_packing(heads: dict[str, Position]) -> None:
    assert unpack_heads(pack_heads(heads)) == heads


def test_stream_without_a_position_is_null_in_a_request() -> None:
    have = {"energy": Position("7f", (1, 2)), "water": None}
    request = SyncRequest(7, have, {"energy": "/meter", "water": None})

    assert request.pack() == (
        b'{"ask":7,"have":{"energy":"7f-1.2","water":null},'
        b'"rules":{"energy":"/meter","water":null}}'
    )


def test_run_is_a_string_in_a_reply() -> None:
    state = StreamState(Position("7f", (1,)), Position("7f", (9,)))
    streams = {"energy": state}
    reply = SyncReply(7, 2**64 - 1, 3, more=False, streams=streams, rules={"energy": "/meter"})

    assert reply.pack() == (
        b'{"ask":7,"run":"18446744073709551615","sequence":3,"more":false,'
        b'"streams":{"energy":["7f-1","7f-9"]},"rules":{"energy":"/meter"}}'
    )


def test_messages_of_the_version_before_say_nothing_about_keys() -> None:
    assert unpack_sync_request(b'{"ask":7,"have":{"energy":"7f-1.2"}}').rules is None
    reply = b'{"ask":7,"run":"1","sequence":3,"more":false,"streams":{}}'
    assert unpack_sync_reply(reply).rules is None


@given(
    st.one_of(
        st.builds(ReadChunks, names, positions),
        st.builds(FindStart, names, st.text("0123456789abcdef", min_size=1), after=positions),
        st.builds(FindStart, names, st.text("0123456789abcdef", min_size=1), since_ms=u32),
        st.builds(FindStart, names, st.text("0123456789abcdef", min_size=1), last=u32),
    )
)
def test_history_request_survives_packing(request: HistoryRequest) -> None:
    assert unpack_history_request(pack_history_request(request)) == request


@given(
    positions,
    positions,
    st.none() | st.sampled_from(Unrecovered),
    st.none() | st.lists(u32, max_size=4).map(tuple),
)
def test_start_point_survives_packing(
    position: Position,
    earliest: Position,
    reason: Unrecovered | None,
    missing: tuple[int, ...] | None,
) -> None:
    found = StartPoint(position, earliest, reason, missing)
    assert unpack_start(pack_start(found)) == found


@given(positions, st.lists(st.tuples(positions, u32, st.binary()), max_size=4))
def test_chunks_are_unpacked_as_a_chain(
    begin: Position, parts: list[tuple[Position, int, bytes]]
) -> None:
    chunks = []
    last = begin
    for end, frames, data in parts:
        chunks.append(Chunk(last, end, frames, data))
        last = end
    assert unpack_chunks(begin, pack_chunks(chunks)) == chunks


DECODERS: dict[str, Callable[[bytes], object]] = {
    "sync request": unpack_sync_request,
    "sync reply": unpack_sync_reply,
    "heads": unpack_heads,
    "history request": unpack_history_request,
    "start": lambda data: unpack_start([data]),
    "chunks": lambda data: unpack_chunks(Position("7f", (1,)), [data, b""]),
}
NOT_UNDERSTOOD = {
    "nothing": b"",
    "no JSON": b"{",
    "a number": b"7",
    "a word": b'"read"',
    "an empty list": b"[]",
    "nobody's request": b'["read","energy"]',
    "a position that is none": b'["read","energy","x"]',
    "another type": b'{"ask":1,"have":[],"run":{},"sequence":0,"more":false,"streams":[]}',
    "half a stream": b'{"energy":["7f-1"]}',
}


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS.keys())
@pytest.mark.parametrize("data", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD.keys())
def test_what_is_not_understood_is_a_bad_message(
    decode: Callable[[bytes], object], data: bytes
) -> None:
    with pytest.raises(BadMessage):
        decode(data)


def test_no_part_at_all_is_a_bad_message() -> None:
    with pytest.raises(BadMessage):
        unpack_start([])
    with pytest.raises(BadMessage):
        unpack_chunks(Position("7f", (1,)), [])
