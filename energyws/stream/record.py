"""From a record's bytes to the JSON object in it, or to the reason why there is none.

The object's own bytes pass through untouched: decoding proves that they are one JSON object (RFC
8259) in valid UTF-8, which is what a text frame needs, and re-encoding would only alter numbers.
The grammar decides, not what a parser can represent; a byte order mark is none of it (section 8.1).
"""

from __future__ import annotations

import re
from typing import Final, Literal

import orjson

from energyws.errors import EnergywsError

Reason = Literal["tombstone", "empty", "oversized", "not_json", "not_an_object"]
REASONS: Final[tuple[Reason, ...]] = (
    "tombstone",
    "empty",
    "oversized",
    "not_json",
    "not_an_object",
)


# Where the parser refuses such a place, what to replace everywhere, and by what. First every escape
# sequence: without them nothing that looks like a number is half of one. The numbers that are left
# in the end are below 10^199 * 10^99.
_ESCAPE: Final = rb'\\(?:u[0-9A-Fa-f]{4}|["\\/bfnrt])'
_NUMBER: Final = r"-?(?:[0-9]{200}|[0-9.]+[eE]\+?[0-9]{3})"
_STEPS: Final = (
    (
        re.compile(rf"\\u[Dd][89A-Fa-f]|{_NUMBER}"),
        ((re.compile(rb"%b(?:%b)*+" % (_ESCAPE, _ESCAPE)), b"?"),),
    ),
    (
        re.compile(_NUMBER),
        (
            (re.compile(rb"e\+?[0-9]{3,}+"), b"e1"),
            (re.compile(rb"E\+?[0-9]{3,}+"), b"e1"),
            (re.compile(rb"(?<![0-9])[1-9][0-9]{199,}+"), b"1"),
        ),
    ),
)

# The last millisecond of year 9999: RFC 3339 has no later one.
MAX_TIMESTAMP_MS: Final = 253_402_300_799_999


class BadRecord(EnergywsError):
    """A record that is not a reading. `reason` is one of `REASONS`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


def decode(value: bytes | None, *, max_bytes: int) -> bytes:
    """The JSON object in a record's value, without surrounding white space; or BadRecord."""
    if value is None:
        raise BadRecord("tombstone", "the record has no value")
    if len(value) > max_bytes:
        raise BadRecord(
            "oversized", f"{len(value)} bytes, more than kafka.max_record_bytes ({max_bytes})"
        )
    text = value.strip(b" \t\r\n")
    if not text:
        raise BadRecord("empty", "the value is empty")
    try:
        decoded = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        decoded = _second_opinion(text, error)
    if type(decoded) is not dict:
        raise BadRecord("not_an_object", f"a JSON {type(decoded).__name__}, not an object")
    return text


def _second_opinion(text: bytes, refusal: orjson.JSONDecodeError) -> object:
    """What the parser makes of the text once what it cannot represent is something else.

    RFC 8259 allows a surrogate alone (section 8.2) and numbers beyond a double (section 6). They
    are replaced where the grammar has room for both: in two steps, each linear, and only taken if
    such a place is what the parser has refused last.
    """
    for refused, replacements in _STEPS:
        if not refused.match(refusal.doc, refusal.pos):
            continue
        for pattern, plain in replacements:
            text = pattern.sub(plain, text)
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as still:
            refusal = still
    raise BadRecord("not_json", refusal.msg)


def timestamp(record_ms: int | None, now_ms: int) -> int:
    """A record's own time, or the present where it has none that can be written down."""
    return record_ms if record_ms is not None and 0 <= record_ms <= MAX_TIMESTAMP_MS else now_ms
