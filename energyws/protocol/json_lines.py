"""Newline-delimited JSON, made from the messages of the WebSocket protocol."""

from __future__ import annotations

from typing import Final

import orjson

from energyws.protocol.frame import split

# How messages begin (energyws.protocol.frame).
DATA: Final = b'{"type":"data",'
# Each message of a record begins with one of these, and ends with its position.
RECORD: Final = (DATA, b'{"type":"removed",')
SNAPSHOT: Final = b'{"type":"snapshot",'
_ID: Final = b',"id":"'
_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")


def encode(frames: bytes) -> bytes:
    """One line for each of these whole, uncompressed frames."""
    return b"".join(one_line(payload) + b"\n" for _, payload in split(frames))


def line(message: object) -> bytes:
    """A message of ours as one line."""
    return orjson.dumps(message) + b"\n"


def one_line(payload: bytes) -> bytes:
    """The same JSON without line breaks, which producers may put between its tokens."""
    if b"\n" in payload or b"\r" in payload:
        return payload.translate(_BREAKS)
    return payload


def position(payload: bytes) -> bytes:
    """The position in a message: after its record, at the end of its gap, or what it is about."""
    if payload.startswith(RECORD):
        # The last field; the record may have one of this name, too.
        return payload[payload.rindex(_ID) + len(_ID) : -2]
    message = orjson.loads(payload)
    place: str = message["id"] if message["type"] == "position" else message["to"]
    return place.encode()
