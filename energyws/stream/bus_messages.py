"""What travels between the consumer and its workers: zguide chapter 5's Clone pattern.

On PUB/SUB, one part per message, little-endian:

    offset size  field
    0      1     kind: 1 frame, 2 heartbeat
    1      1     version of this layout
    2      2     stream: index into the sorted stream names of the consumer's settings
    4      4     partition
    8      8     run id: random, one per consumer run and per break in its log
    16     8     sequence: dense, one more than the frame before; a heartbeat repeats the last one
    24     8     offset of the record
    32     8     timestamp of the record, milliseconds since the Unix epoch
    40           frame: the WebSocket frame, nothing or more (a heartbeat: the JSON of Heads)

A subscriber that sees another run id, or a sequence that is not the next one, has missed frames.
It then sends a sync request over DEALER/ROUTER, with the positions that it has, and repeats it
until a reply says that nothing more is waiting. Frames that it receives meanwhile, up to the
sequence in that reply, are in the replies too.

Amid a reload, consumer and worker may have other settings. So each tells the other its streams,
with the key rule of each (streams.<name>.key). A key says who may have a record, so a worker gets,
and takes, frames of the streams only of which both have the same rule. The rules in the reply are
in the order of the streams' indexes.

    request    one part: the JSON of SyncRequest
    reply      first part: the JSON of SyncReply; each further part: one frame message as above,
               with sequence 0

History requests have a DEALER/ROUTER pair of their own. A reply repeats its request, by which the
worker recognises it; a request may be sent again, since answering it changes nothing.

    request    the JSON of FindStart or ReadChunks; a hash of the subject that it is counted for;
               the worker's key rule of the stream, as JSON: with another one there is no reply
    reply      the request's first part; the JSON of the answer; for ReadChunks, one part per chunk:
               its frames
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Final, NamedTuple, ParamSpec, TypeVar

import orjson

from energyws.errors import EnergywsError
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position, parse
from energyws.stream.history import Chunk, FindStart, HistoryRequest, ReadChunks, StartPoint

FRAME: Final = 1
HEARTBEAT: Final = 2
VERSION: Final = 1
_HEADER: Final = struct.Struct("<BBHIQQQq")
HEADER_SIZE: Final = _HEADER.size

# By stream, where the keys of its records are (streams.<name>.key); None: they have none.
KeyRules = Mapping[str, str | None]

P = ParamSpec("P")
R = TypeVar("R")


class BadMessage(EnergywsError):
    """Bytes on the bus that this version does not understand."""


def decoder(decode: Callable[P, R]) -> Callable[P, R]:
    """The same, which raises BadMessage for everything that it does not understand."""

    @wraps(decode)
    def decoded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return decode(*args, **kwargs)
        except Exception as error:
            # JSON of another shape fails in more ways than could be listed.
            raise BadMessage(f"{decode.__name__}: {error!r}") from error

    return decoded


class BusMessage(NamedTuple):
    """One message of the bus. A NamedTuple, because thousands are created each second."""

    kind: int
    stream: int
    partition: int
    run: int
    sequence: int
    offset: int
    timestamp_ms: int
    frame: bytes


def pack(message: BusMessage) -> bytes:
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
    """The positions that a worker has, per stream; None where it has nothing yet.

    ask: any number; the reply repeats it, so that a late reply is not taken for a newer one.
    rules: the worker's; None: during an upgrade, one of the version before does not tell.
    """

    ask: int
    have: dict[str, Position | None]
    rules: KeyRules | None = None

    def pack(self) -> bytes:
        return orjson.dumps(
            {
                "ask": self.ask,
                "have": {k: v and str(v) for k, v in self.have.items()},
                "rules": self.rules,
            }
        )


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the consumer's ring holds of a stream: everything from `floor` to `head`."""

    floor: Position
    head: Position


@dataclass(frozen=True, slots=True)
class SyncReply:
    """The state as of bus sequence `sequence` of run `run`.

    streams: only those whose topic the consumer has found, and of which the worker has the same key
    rule. more: the worker must send another request, with the positions that it has by then. rules:
    the consumer's, in the order of the indexes; None: as in SyncRequest.
    """

    ask: int
    run: int
    sequence: int
    more: bool
    streams: dict[str, StreamState]
    rules: KeyRules | None = None

    def pack(self) -> bytes:
        """The reply's first part."""
        return orjson.dumps(
            {
                "ask": self.ask,
                # As text: ids are larger than what every JSON parser keeps (53 bits).
                "run": str(self.run),
                "sequence": self.sequence,
                "more": self.more,
                "streams": {
                    name: [str(state.floor), str(state.head)]
                    for name, state in self.streams.items()
                },
                "rules": self.rules,
            }
        )


@decoder
def unpack_sync_request(data: bytes) -> SyncRequest:
    request = orjson.loads(data)
    have = {name: text and parse(text) for name, text in request["have"].items()}
    return SyncRequest(request["ask"], have, request.get("rules"))


@decoder
def unpack_sync_reply(data: bytes) -> SyncReply:
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
        rules=reply.get("rules"),
    )


def pack_heads(heads: dict[str, Position]) -> bytes:
    """A heartbeat's payload: the head of each stream, past bad records too."""
    return orjson.dumps({name: str(head) for name, head in heads.items()})


@decoder
def unpack_heads(data: bytes) -> dict[str, Position]:
    return {name: parse(text) for name, text in orjson.loads(data).items()}


def pack_rule(rule: str | None) -> bytes:
    """A stream's key rule, as the last part of a request."""
    return orjson.dumps(rule)


def pack_history_request(request: HistoryRequest) -> bytes:
    """The request's first part; equal requests have equal bytes."""
    if isinstance(request, ReadChunks):
        return orjson.dumps(["read", request.stream, str(request.after)])
    after = request.after and str(request.after)
    return orjson.dumps(
        ["find", request.stream, request.epoch, after, request.since_ms, request.last]
    )


@decoder
def unpack_history_request(data: bytes) -> HistoryRequest:
    kind, stream, *rest = orjson.loads(data)
    if kind == "read":
        return ReadChunks(stream, parse(rest[0]))
    epoch, after, since_ms, last = rest
    return FindStart(stream, epoch, after and parse(after), since_ms, last)


def pack_start(found: StartPoint) -> list[bytes]:
    """The answer to a FindStart."""
    reason = found.reason and found.reason.value
    return [orjson.dumps([str(found.position), str(found.earliest), reason, found.missing])]


@decoder
def unpack_start(parts: Sequence[bytes]) -> StartPoint:
    position, earliest, reason, missing = orjson.loads(parts[0])
    return StartPoint(
        parse(position),
        parse(earliest),
        reason and Unrecovered(reason),
        None if missing is None else tuple(missing),
    )


def pack_chunks(chunks: Sequence[Chunk]) -> list[bytes]:
    """The answer to a ReadChunks: each chunk starts where the one before it ends."""
    ends = [[str(chunk.end), chunk.frames] for chunk in chunks]
    return [orjson.dumps(ends), *(chunk.data for chunk in chunks)]


@decoder
def unpack_chunks(begin: Position, parts: Sequence[bytes]) -> list[Chunk]:
    """The chunks in the answer to a ReadChunks; begin: the position in the request."""
    chunks = []
    for (end, frames), data in zip(orjson.loads(parts[0]), parts[1:], strict=True):
        chunks.append(Chunk(begin, parse(end), frames, data))
        begin = chunks[-1].end
    return chunks
