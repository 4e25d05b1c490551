"""Adapts the position in a frame to a client, or a ring, that has more than the frame says.

A frame's position covers what came before it where it was built. Another replica, another run of
the consumer or a replay may have interleaved the partitions differently; a client that has
received more than that would resume from too early a place.
"""

from __future__ import annotations

import orjson

from energyws.protocol.frame import TEXT, encode, payload
from energyws.protocol.json_lines import RECORD, position
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position, parse


def position_of(frame: bytes) -> Position:
    """That of a `data`, `removed` or `lagged` frame: the end of what it covers."""
    return parse(position(payload(frame)).decode())


def covering(frame: bytes, known: Position) -> bytes:
    """A `data`, `removed` or `lagged` frame whose position also covers `known`.

    The same one if it does already.
    """
    message_text = payload(frame)
    text = position(message_text)
    merged = str(known.merge(parse(text.decode()))).encode()
    if merged == text:
        return frame
    if message_text.startswith(RECORD):
        return encode(TEXT, message_text[: -len(text) - 2] + merged + message_text[-2:])
    message = orjson.loads(message_text)
    if message["reason"] == Unrecovered.POSITION_AHEAD.value:
        # It takes the client back, since the log does not reach to where the client claims to be.
        return frame
    return encode(TEXT, orjson.dumps({**message, "to": merged.decode()}))
