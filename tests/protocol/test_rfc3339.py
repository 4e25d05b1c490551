"""Times that clients write; tests/protocol/test_messages.py has the bad ones as messages."""

from __future__ import annotations

import pytest

from energyws.protocol.rfc3339 import milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01t00:00:01.0019z", 1_001),
        ("1970-01-01 01:00:01+01:00", 1_000),
        ("1969-12-31T23:59:59Z", 0),
    ],
)
def test_time_is_milliseconds_rounded_down(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1970-01-01", "1970-01-01T00:00:01", "1970-13-01T00:00:01Z", "19700101T000001Z"]
)
def test_other_text_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|month|isoformat"):
        milliseconds(text)
