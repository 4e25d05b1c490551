from __future__ import annotations

import contextlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.schemas.framing import HEADER, Framed, unframe
from energyws.stream.record import BadRecord

GUID = UUID("00000000-0000-0001-0000-000000000007")


def varint(value: int) -> bytes:
    """Zigzag, as Java's ByteUtils.writeVarint."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 1000), max_size=32), st.binary())
def test_id_indexes_and_payload_are_found(schema_id: int, indexes: list[int], tail: bytes) -> None:
    plain = b"\0" + schema_id.to_bytes(4, "big")
    assert unframe(plain + tail, (), indexed=False) == Framed(schema_id, (), 5)
    indexed = plain + varint(len(indexes)) + b"".join(map(varint, indexes))
    found = unframe(indexed + tail, (), indexed=True)
    assert found == Framed(schema_id, tuple(indexes) or (0,), len(indexed))


def test_guid_is_found_in_the_header_and_in_the_value() -> None:
    framed = b"\1" + GUID.bytes
    # The last one counts, as for Confluent's deserializers.
    headers = [(HEADER, b"before"), (HEADER, framed), ("other", b"x")]
    assert unframe(b"payload", headers, indexed=False) == Framed(str(GUID), (), 0)
    assert unframe(b"", [(HEADER, framed + b"\4\2\6")], indexed=True) == Framed(
        str(GUID), (1, 3), 0
    )
    assert unframe(framed + b"\0payload", (), indexed=True) == Framed(str(GUID), (0,), 18)


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b"", []),
        (b'{"n": 1}', []),
        (b"\0\0\0\1", []),
        (b"\1" + GUID.bytes[:-1], []),
        (b"\0\0\0\0\1", []),
        (b"\0\0\0\0\1\x80\x80\x80\x80\x80\1", []),
        (b"\0\0\0\0\1\x01", []),
        (b"\0\0\0\0\1\x84\x01", []),
        (b"\0\0\0\0\1\0x", [(HEADER, b"")]),
    ],
    ids=["empty", "json", "short", "short-guid", "none", "endless", "negative", "many", "header"],
)
def test_anything_else_is_not_framed(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(BadRecord) as bad:
        unframe(value, headers, indexed=True)
    assert bad.value.reason == "not_framed"


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_framed_or_refused(value: bytes, indexed: bool) -> None:
    with contextlib.suppress(BadRecord):
        assert 0 <= unframe(value, (), indexed=indexed).begin <= len(value)
