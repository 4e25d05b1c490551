"""Parses the messages that a client receives, with any record in them.

A record is any JSON object by RFC 8259, and no parser takes all of them: orjson refuses half of a
surrogate pair (section 8.2), numbers beyond a double (section 6) and more than 1,024 levels
(section 9). So the standard library's parser is tried second; if it fails too, the fields around
the record still tell which record is missing.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import orjson

UNREADABLE: Final = "UNREADABLE"
# energyws.protocol.frame.DataFrames writes these fields in this order, without white space.
_STREAM: Final = rb',"stream":("(?:[^"\\]|\\.)*"),"'
_HEAD: Final = re.compile(rb'\{"type":"data"' + _STREAM + rb'timestamp":"')
_SNAPSHOT: Final = re.compile(rb'\{"type":"snapshot"' + _STREAM)
_ID: Final = b',"id":"'
_TAIL: Final = re.compile(rb'([0-9a-f]{1,16}-[0-9.]+)"\}')
# CPython refuses to convert longer integers.
_MAX_DIGITS: Final = 4_000


class NoMessage(ValueError):
    """Bytes that are not a message of energyws."""


def decode(payload: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The message; empty for JSON that is not an object. Raises NoMessage.

    A `data` or `snapshot` message whose record no parser can represent becomes a `lagged` message
    with the reason UNREADABLE; of a snapshot, it has an empty position.
    """
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError:
        message = _second_try(bytes(payload))
    return message if type(message) is dict else {}


def _second_try(payload: bytes) -> Any:
    try:
        return json.loads(payload, parse_int=_integer, parse_constant=_constant)
    except (ValueError, RecursionError):
        pass
    head = _HEAD.match(payload)
    tail = _TAIL.fullmatch(payload, payload.rfind(_ID) + len(_ID))
    snapshot = _SNAPSHOT.match(payload)
    if head is not None and tail is not None:
        stream, position = head[1], tail[1]
    elif snapshot is not None:
        stream, position = snapshot[1], b""
    else:
        raise NoMessage("a message that is not JSON")
    return {
        "type": "lagged",
        "stream": orjson.loads(stream),
        "missed": 1,
        "to": position.decode(),
        "reason": UNREADABLE,
    }


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
