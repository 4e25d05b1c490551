"""Decodes a record: the JSON object in its value, or the reason why there is none.

The object's own bytes pass through untouched: decoding proves that they are one JSON object (RFC
8259) in valid UTF-8, as a text frame requires, and re-encoding would only alter numbers.
The grammar decides, not what a parser can represent; it has no byte order mark (section 8.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, get_args

import orjson

from energyws.errors import EnergywsError

# The last three: of records with a schema.
Reason = Literal[
    "tombstone",
    "empty",
    "oversized",
    "not_json",
    "not_an_object",
    "not_framed",
    "unknown_schema",
    "undecodable",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

# Each step: what the parser refuses although the grammar allows it, and which patterns to replace
# by what then. Escape sequences come first: once they are gone, no number in the text is part of
# one. The numbers that remain in the end are below 10^199 * 10^99.
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
    """A record that cannot be made a JSON object, or is too large. `reason`: one of `REASONS`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


# Makes JSON of a value that has a schema; raises BadRecord.
Reader = Callable[[bytes], bytes]


def decode(value: bytes | None, *, max_bytes: int, reader: Reader | None = None) -> bytes:
    """The JSON object in a record's value, without surrounding white space; raises BadRecord.

    reader: None for a value that is JSON as it stands.
    """
    if value is None:
        raise BadRecord("tombstone", "the record has no value")
    check_size(len(value), max_bytes)
    if reader is not None:
        text = reader(value)
        check_size(len(text), max_bytes)
        return text
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


def check_size(size: int, max_bytes: int) -> None:
    """Raises BadRecord for more than max_bytes."""
    if size > max_bytes:
        raise BadRecord(
            "oversized", f"{size} bytes, more than kafka.max_record_bytes ({max_bytes})"
        )


def _second_opinion(text: bytes, refusal: orjson.JSONDecodeError) -> object:
    """Parse the text again, with what the parser cannot represent replaced; raises BadRecord.

    RFC 8259 allows a lone surrogate (section 8.2) and numbers beyond a double (section 6). Each
    step replaces some of these in linear time, and is taken only if one of them is what the parser
    has just refused.
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
    """The record's timestamp in milliseconds; now_ms if it has none that RFC 3339 can express."""
    return record_ms if record_ms is not None and 0 <= record_ms <= MAX_TIMESTAMP_MS else now_ms
