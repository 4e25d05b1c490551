"""From a record's bytes to the JSON object in it, or to the reason why there is none.

The object's own bytes pass through untouched: decoding proves that they are one JSON object in
valid UTF-8, which is what a text frame needs, and re-encoding would only alter numbers.
"""

from __future__ import annotations

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
        raise BadRecord("not_json", error.msg) from None
    if type(decoded) is not dict:
        raise BadRecord("not_an_object", f"a JSON {type(decoded).__name__}, not an object")
    return text


def timestamp(record_ms: int | None, now_ms: int) -> int:
    """A record's own time, or the present where it has none that can be written down."""
    return record_ms if record_ms is not None and 0 <= record_ms <= MAX_TIMESTAMP_MS else now_ms
