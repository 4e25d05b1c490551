"""What a client receives: the bytes of a message to a dict, whatever the record in it holds.

A record is any JSON object by RFC 8259, and no parser takes all of them: orjson refuses half of a
surrogate pair (section 8.2), numbers beyond a double (section 6) and more than 1,024 levels
(section 9). So the standard library's has a second try; and where that gives up as well, what the
service put around the record still says what is missing.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import orjson

UNREADABLE: Final = "UNREADABLE"
# energyws.protocol.frame.DataFrames writes these, without white space and in this order.
_HEAD: Final = re.compile(rb'\{"type":"data","stream":("(?:[^"\\]|\\.)*"),"timestamp":"')
_ID: Final = b',"id":"'
_TAIL: Final = re.compile(rb'([0-9a-f]{1,16}-[0-9.]+)"\}')
# CPython refuses to convert longer ones.
_MAX_DIGITS: Final = 4_000


class NoMessage(ValueError):
    """Bytes that no service of ours sends."""


def decode(payload: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The message; empty where it is JSON but no object. Raises NoMessage.

    A data message whose record cannot be represented becomes a `lagged` one with the reason
    UNREADABLE.
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
    if head is None or tail is None:
        raise NoMessage("a message that is not JSON")
    return {
        "type": "lagged",
        "stream": orjson.loads(head[1]),
        "missed": 1,
        "to": tail[1].decode(),
        "reason": UNREADABLE,
    }


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
