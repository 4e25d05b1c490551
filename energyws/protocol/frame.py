"""Whole WebSocket frames, built once for all clients (RFC 6455 section 5.2).

A server's frames are not masked, so the bytes of one are the same for every client:

    byte 0     FIN=1, RSV=000, opcode (1 text, 8 close, 9 ping, 10 pong)
    byte 1     MASK=0, length 0..125; 126: two bytes of length follow; 127: eight bytes follow
    then       the payload

The payload of a data frame has the form that energy-ws had. It is the only serialization of a
record in the whole system:

    {"type":"data","stream":"energy","timestamp":"…Z","data":{…},"id":"7f3a90c2-1042.998.17"}

Where the stream has keys, `"key":"…",` stands before the position, and a record without a value is

    {"type":"removed","stream":"energy","timestamp":"…Z","key":"…","id":"7f3a90c2-1042.998.18"}

In a snapshot, which has one position for all of its records, a record is

    {"type":"snapshot","stream":"energy","key":"…","timestamp":"…Z","data":{…}}
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import orjson

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
# RFC 6455 section 5.5: the payload of a control frame; a close reason has two bytes less.
MAX_CONTROL_BYTES: Final = 125

_SHORT: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")


def encode(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return _SHORT.pack(0x80 | opcode, 126, size) + payload
    return _LONG.pack(0x80 | opcode, 127, size) + payload


def split(frames: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each of these unmasked frames, whole and its payload."""
    at = 0
    while at < len(frames):
        size, begin = frames[at + 1], at + 2
        if size >= 126:
            begin += 2 if size == 126 else 8
            size = int.from_bytes(frames[at + 2 : begin], "big")
        end = begin + size
        yield frames[at:end], frames[begin:end]
        at = end


def payload(frame: bytes) -> bytes:
    """The payload of one whole, unmasked frame."""
    size = frame[1]
    return frame[2:] if size < 126 else frame[4:] if size == 126 else frame[10:]


def text(message: object) -> bytes:
    """A text frame with this message as JSON."""
    return encode(TEXT, orjson.dumps(message))


def close(code: int, reason: str) -> bytes:
    """A close frame (RFC 6455 section 5.5.1)."""
    payload = code.to_bytes(2, "big") + reason.encode()
    if len(payload) > MAX_CONTROL_BYTES:
        raise ValueError(f"close reason of {len(payload) - 2} bytes: at most 123 fit")
    return encode(CLOSE, payload)


def rfc3339(timestamp_ms: int) -> str:
    """Milliseconds since the Unix epoch as RFC 3339 in UTC, e.g. 2025-12-26T12:34:56.789Z."""
    seconds, millis = divmod(timestamp_ms, 1000)
    return f"{_whole_second(seconds)}.{millis:03d}Z"


# Many records share a second, and strftime costs more than the rest of the frame.
@lru_cache(maxsize=64)
def _whole_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class DataFrames:
    """Builds the data frames of one stream."""

    __slots__ = ("_prefix", "_removed", "_snapshot")

    def __init__(self, stream: str) -> None:
        name = orjson.dumps(stream)
        self._prefix = b'{"type":"data","stream":%b,"timestamp":"' % name
        self._removed = b'{"type":"removed","stream":%b,"timestamp":"' % name
        self._snapshot = b'{"type":"snapshot","stream":%b,"key":"' % name

    def build(
        self, timestamp_ms: int, data: bytes | None, position: str, key: bytes | None = None
    ) -> bytes:
        """The frame of one record. data: a JSON object; position: that after the record.

        key: that of the record, escaped (energyws.protocol.keys); None without one.
        data None: the record has no value, which removes its key.
        """
        if data is None:
            assert key is not None
            return self.removed(timestamp_ms, position, key)
        keyed = b"" if key is None else b',"key":"%b"' % key
        return encode(
            TEXT,
            b'%b%b","data":%b%b,"id":"%b"}'
            % (self._prefix, rfc3339(timestamp_ms).encode(), data, keyed, position.encode()),
        )

    def snapshot(self, key: bytes, timestamp_ms: int, data: bytes) -> bytes:
        """The frame of a key's newest record, in a snapshot."""
        return encode(
            TEXT,
            b'%b%b","timestamp":"%b","data":%b}'
            % (self._snapshot, key, rfc3339(timestamp_ms).encode(), data),
        )

    def removed(self, timestamp_ms: int, position: str, key: bytes) -> bytes:
        """The frame that says that a key has no record any more."""
        return encode(
            TEXT,
            b'%b%b","key":"%b","id":"%b"}'
            % (self._removed, rfc3339(timestamp_ms).encode(), key, position.encode()),
        )


def lagged(stream: str, missed: int | None, start: str | None, end: str, reason: str) -> bytes:
    """The frame that reports a gap: `missed` frames between two positions.

    missed: None where the number is unknown. start: None where nothing was delivered before.
    """
    return text(
        {
            "type": "lagged",
            "stream": stream,
            "missed": missed,
            "from": start,
            "to": end,
            "reason": reason,
        }
    )


def uncounted(report: bytes) -> bytes:
    """A `lagged` frame for a client that gets some keys only: how much it misses is unknown."""
    return text({**orjson.loads(payload(report)), "missed": None})
