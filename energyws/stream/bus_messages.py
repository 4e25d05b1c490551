"""What travels between the consumer and its workers: zguide chapter 5's Clone pattern.

On PUB/SUB, one part per message, little-endian:

    offset size  field
    0      1     kind: 1 frame, 2 heartbeat
    1      1     version of this layout
    2      2     stream: index into the sorted stream names of the settings
    4      4     partition
    8      8     run id: random, one per consumer run and per break in its log
    16     8     sequence: dense, one more than the frame before; a heartbeat repeats the last one
    24     8     offset of the record
    32     8     timestamp of the record, milliseconds since the Unix epoch
    40           frame: the WebSocket frame, nothing or more (a heartbeat: the JSON of Heads)

A subscriber that sees another run id, or a sequence that is not the next one, has missed
something. It then asks over DEALER/ROUTER, with the positions that it has, until the answer says
that nothing more is waiting; what it hears meanwhile up to the answered sequence is in there too.

    request    one part: the JSON of SyncRequest
    reply      first part: the JSON of SyncReply; each further part: one frame message as above,
               with sequence 0

What lies further back is asked for on a DEALER/ROUTER pair of its own. A reply repeats its
request, by which it is recognised; a request may be sent again, since answering it changes nothing.

    request    the JSON of FindStart or Read; whose turn it was asked in: a hash of the subject
    reply      the request's first part; the JSON of the answer; for Read, one part per chunk: its
               frames
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from energyws.errors import EnergywsError
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position, parse
from energyws.stream.history import Chunk, FindStart, StartPoint

FRAME: Final = 1
HEARTBEAT: Final = 2
VERSION: Final = 1
_HEADER: Final = struct.Struct("<BBHIQQQq")
HEADER_SIZE: Final = _HEADER.size


class BadMessage(EnergywsError):
    """Bytes on the bus that this version does not speak."""


class BusMessage(NamedTuple):
    """One message of the bus. A NamedTuple, because thousands are made each second."""

    kind: int
    stream: int
    partition: int
    run: int
    sequence: int
    offset: int
    timestamp_ms: int
    frame: bytes


def pack(message: BusMessage) -> bytes:
    """The bytes of a message."""
    kind, stream, partition, run, sequence, offset, timestamp_ms, frame = message
    return (
        _HEADER.pack(kind, VERSION, stream, partition, run, sequence, offset, timestamp_ms) + frame
    )


def unpack(data: bytes) -> BusMessage:
    """The message in these bytes; raises BadMessage."""
    if len(data) < HEADER_SIZE:
        raise BadMessage(f"a bus message of {len(data)} bytes: at least {HEADER_SIZE} expected")
    header = _HEADER.unpack_from(data)
    kind, version, stream, partition, run, sequence, offset, timestamp_ms = header
    if version != VERSION or kind not in (FRAME, HEARTBEAT):
        raise BadMessage(f"bus message of kind {kind}, version {version}: not spoken here")
    return BusMessage(
        kind, stream, partition, run, sequence, offset, timestamp_ms, data[HEADER_SIZE:]
    )


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a worker has, per stream; None where it has nothing yet.

    ask: any number; the reply repeats it, so that a late answer is not taken for a newer one.
    """

    ask: int
    have: dict[str, Position | None]

    def pack(self) -> bytes:
        """The request's one part."""
        return orjson.dumps(
            {"ask": self.ask, "have": {k: v and str(v) for k, v in self.have.items()}}
        )


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the consumer can tell of a stream: nothing below `floor` is left in its ring."""

    floor: Position
    head: Position


@dataclass(frozen=True, slots=True)
class SyncReply:
    """The state as of bus sequence `sequence` of run `run`.

    streams: only those whose topic the consumer has found; more: ask again from what you have now.
    """

    ask: int
    run: int
    sequence: int
    more: bool
    streams: dict[str, StreamState]

    def pack(self) -> bytes:
        """The reply's first part."""
        return orjson.dumps(
            {
                "ask": self.ask,
                # As text: the ids use all 64 bits.
                "run": str(self.run),
                "sequence": self.sequence,
                "more": self.more,
                "streams": {
                    name: [str(state.floor), str(state.head)]
                    for name, state in self.streams.items()
                },
            }
        )


def unpack_sync_request(data: bytes) -> SyncRequest:
    """The request in these bytes."""
    request = orjson.loads(data)
    have = {name: text and parse(text) for name, text in request["have"].items()}
    return SyncRequest(request["ask"], have)


def unpack_sync_reply(data: bytes) -> SyncReply:
    """The reply in these bytes."""
    reply = orjson.loads(data)
    return SyncReply(
        ask=reply["ask"],
        run=int(reply["run"]),
        sequence=reply["sequence"],
        more=reply["more"],
        streams={
            name: StreamState(parse(floor), parse(head))
            for name, (floor, head) in reply["streams"].items()
        },
    )


def pack_heads(heads: dict[str, Position]) -> bytes:
    """A heartbeat's payload: where each stream ends, bad records included."""
    return orjson.dumps({name: str(head) for name, head in heads.items()})


def unpack_heads(data: bytes) -> dict[str, Position]:
    """The inverse of `pack_heads`."""
    return {name: parse(text) for name, text in orjson.loads(data).items()}


@dataclass(frozen=True, slots=True)
class ReadChunks:
    """Asks for the chunks that follow a position."""

    stream: str
    after: Position


def pack_history_request(inquiry: FindStart | ReadChunks) -> bytes:
    """The request's first part; equal inquiries have equal bytes."""
    if isinstance(inquiry, ReadChunks):
        return orjson.dumps(["read", inquiry.stream, str(inquiry.after)])
    after = inquiry.after and str(inquiry.after)
    return orjson.dumps(
        ["find", inquiry.stream, inquiry.epoch, after, inquiry.since_ms, inquiry.last]
    )


def unpack_history_request(data: bytes) -> FindStart | ReadChunks:
    """The inquiry in these bytes."""
    kind, stream, *rest = orjson.loads(data)
    if kind == "read":
        return ReadChunks(stream, parse(rest[0]))
    epoch, after, since_ms, last = rest
    return FindStart(stream, epoch, after and parse(after), since_ms, last)


def pack_start(found: StartPoint) -> list[bytes]:
    """The answer to a FindStart."""
    reason = found.reason and found.reason.value
    told = [str(found.position), str(found.earliest), reason, found.missing]
    return [orjson.dumps(told)]


def unpack_start(parts: Sequence[bytes]) -> StartPoint:
    """The inverse of `pack_start`."""
    position, earliest, reason, missing = orjson.loads(parts[0])
    return StartPoint(
        parse(position),
        parse(earliest),
        reason and Unrecovered(reason),
        None if missing is None else tuple(missing),
    )


def pack_chunks(chunks: Sequence[Chunk]) -> list[bytes]:
    """The answer to a Read: chunks of which each begins where the one before it ends."""
    ends = [[str(chunk.end), chunk.frames] for chunk in chunks]
    return [orjson.dumps(ends), *(chunk.data for chunk in chunks)]


def unpack_chunks(begin: Position, parts: Sequence[bytes]) -> list[Chunk]:
    """The inverse of `pack_chunks`; `begin` is what was asked for."""
    chunks = []
    for (end, frames), data in zip(orjson.loads(parts[0]), parts[1:], strict=True):
        chunks.append(Chunk(begin, parse(end), frames, data))
        begin = chunks[-1].end
    return chunks
