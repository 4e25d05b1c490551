"""Decodes a record: the JSON object in its value, or the reason why there is none, and its key.

The object's own bytes pass through untouched: decoding proves that they are one JSON object (RFC
8259) in valid UTF-8, as a text frame requires, and re-encoding would only alter numbers.
The grammar decides, not what a parser can represent; it has no byte order mark (section 8.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import orjson

from energyws.errors import EnergywsError
from energyws.settings import Stream
from energyws.stream.record_key import KafkaMessage, KeyRule

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

# What a record says: data, a JSON object, and of which key (escaped), if it has one. Without data,
# the key has no record any more. A plain tuple, because thousands are made each second.
Decoded = tuple[bytes | None, bytes | None]


class Decoder:
    """Decodes the records of one stream, live ones and those of the log alike.

    keyed: whether the stream has keys. withholds: whether nobody may get its records without one.
    """

    __slots__ = ("_max_bytes", "_rule", "keyed", "withholds")

    def __init__(self, stream: Stream, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rule = None if stream.key is None else KeyRule(stream.key)
        self.keyed: Final = self._rule is not None
        self.withholds: Final = stream.access == "keyed"

    def raw_key(self, message: KafkaMessage) -> bytes | None:
        """What `decode` needs of a message besides its value."""
        return self._rule.raw(message) if self._rule is not None and self._rule.outside else None

    def decode(
        self, value: bytes | None, raw_key: bytes | None, reader: Reader | None = None
    ) -> Decoded:
        """Raises BadRecord. reader: None for a value that is JSON as it stands."""
        rule = self._rule
        if value is None and rule is not None and rule.outside:
            key = rule.key(raw_key, None)
            if key is not None:
                return None, key
        if reader is None:
            text, parsed = _parse(value, self._max_bytes)
        else:
            text = decode(value, max_bytes=self._max_bytes, reader=reader)
            parsed = None if rule is None or rule.outside else _object_in(text)
        return text, None if rule is None else rule.key(raw_key, parsed)


def decode(value: bytes | None, *, max_bytes: int, reader: Reader | None = None) -> bytes:
    """The JSON object in a record's value, without surrounding white space; raises BadRecord.

    reader: as for `Decoder.decode`.
    """
    if value is None or reader is None:
        return _parse(value, max_bytes)[0]
    check_size(len(value), max_bytes)
    text = reader(value)
    check_size(len(text), max_bytes)
    return text


def _object_in(text: bytes) -> dict[str, Any] | None:
    """The object; None for one that the parser cannot represent."""
    try:
        parsed: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return parsed


def _parse(value: bytes | None, max_bytes: int) -> tuple[bytes, dict[str, Any] | None]:
    """The same, and the object; None for one that the parser cannot represent."""
    if value is None:
        raise BadRecord("tombstone", "the record has no value")
    check_size(len(value), max_bytes)
    text = value.strip(b" \t\r\n")
    if not text:
        raise BadRecord("empty", "the value is empty")
    try:
        decoded = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        _require_object(_second_opinion(text, error))
        return text, None
    return text, _require_object(decoded)


def _require_object(decoded: object) -> dict[str, Any]:
    if type(decoded) is not dict:
        raise BadRecord("not_an_object", f"a JSON {type(decoded).__name__}, not an object")
    return decoded


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
