from __future__ import annotations

import itertools
import socket
import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.http.proxy_header import (
    MAX_BYTES,
    MAX_V1_BYTES,
    BadProxyHeader,
    ProxyHeader,
    may_begin,
    parse,
)

SIGN = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 4711, 443)
V6 = bytes.fromhex("20010db8000000000000000000000001") * 2 + struct.pack("!HH", 4711, 443)


def v2(version_command: int, family: int, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return SIGN + bytes((version_command, family)) + struct.pack("!H", size) + data


GOOD = [
    (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n", "192.0.2.1"),
    (b"PROXY TCP6 2001:DB8::1 ::1 4711 443\r\n", "2001:db8::1"),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 65535\r\n", "192.0.2.1"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (v2(0x21, 0x11, V4), "192.0.2.1"),
    (v2(0x21, 0x21, V6), "2001:db8::1"),
    # TLVs are skipped.
    (v2(0x21, 0x11, V4 + b"\x04\x00\x03abc" + b"\xea\x00\x01x"), "192.0.2.1"),
    # LOCAL: a health check of the proxy itself, whatever it says.
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0x11, V4), None),
    (v2(0x20, 0xFF, b"anything"), None),
    # Accepted with the addresses of the connection: unspecified, UDP, Unix.
    (v2(0x21, 0x00, b""), None),
    (v2(0x21, 0x12, V4), None),
    (v2(0x21, 0x31, bytes(216)), None),
    (v2(0x21, 0x11, V4 + bytes(MAX_BYTES - 16 - len(V4))), "192.0.2.1"),
]


@pytest.mark.parametrize(("header", "client"), GOOD)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\n"])
def test_header_names_the_client(header: bytes, client: str | None, rest: bytes) -> None:
    assert parse(header + rest) == ProxyHeader(len(header), client)


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_part_of_a_header_is_incomplete(header: bytes, client: str | None) -> None:
    for size in range(1, len(header)):
        assert may_begin(header[:size])
        assert parse(header[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXX",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\n",
        b"PROXY  TCP4 192.0.2.1 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.256 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 4711 443\r\n",
        b"PROXY TCP6 192.0.2.1 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 -1 443\r\n",
        b"PROXY TCP5 192.0.2.1 10.0.0.1 1 443\r\n",
        b"PROXY / HTTP/1.1\r\n",
        b"PROXY UNKNOWN\x00\r\n",
        b"PROXY " + b"x" * MAX_V1_BYTES,
        b"PROXY UNKNOWN " + b"x" * MAX_V1_BYTES + b"\r\n",
        SIGN[:-1] + b"X",
        v2(0x11, 0x11, V4),
        v2(0x31, 0x11, V4),
        v2(0x22, 0x11, V4),
        v2(0x21, 0x41, V4),
        v2(0x21, 0x13, V4),
        v2(0x21, 0x11, V4[:-1]),
        v2(0x21, 0x21, V4),
        v2(0x21, 0x31, V6),
        v2(0x21, 0x11, V4, MAX_BYTES),
        v2(0x20, 0x00, b"", 65_535),
    ],
)
def test_bad_headers_are_refused(data: bytes) -> None:
    with pytest.raises(BadProxyHeader) as bad:
        parse(data)
    # The message repeats nothing of what came.
    assert data.decode("latin-1") not in str(bad.value)


def named(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse(data)
    except BadProxyHeader:
        return "bad"


@pytest.mark.parametrize("index", range(len(SIGN) + 2))
def test_wrong_byte_of_a_sign_or_kind_is_refused(index: int) -> None:
    header = v2(0x21, 0x11, V4)
    for value in set(range(256)) - {header[index]}:
        found = named(header[:index] + bytes((value,)) + header[index + 1 :])
        # LOCAL; and families that are accepted without an address: none, UDP, or any protocol.
        if (index, value) in {
            (12, 0x20),
            (13, 0x00),
            (13, 0x01),
            (13, 0x02),
            (13, 0x10),
            (13, 0x12),
        }:
            assert found == ProxyHeader(len(header), None)
        else:
            assert found == "bad"


def test_wrong_byte_of_a_line_changes_only_what_it_says() -> None:
    header = GOOD[0][0]
    for index, value in itertools.product(range(len(header)), range(256)):
        data = header[:index] + bytes((value,)) + header[index + 1 :]
        found = named(data)
        if isinstance(found, ProxyHeader):
            # Otherwise the line has exactly the words of a good one.
            assert (found.size, data[-2:]) == (len(header), b"\r\n")
            _, kind, client, *_ = data.decode("ascii").split(" ")
            assert (kind, found.client) == ("TCP4", client)
            assert str(IPv4Address(client)) == client
        else:
            # Incomplete: only if it has no end.
            assert (found is None) == (b"\n" not in data)


beginnings = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", SIGN, SIGN + b"\x21\x11", v2(0x21, 0x21, V6)]
)


@given(beginnings, st.binary(max_size=300))
def test_any_bytes_are_a_header_or_incomplete_or_bad(begin: bytes, data: bytes) -> None:
    given_ = begin + data
    try:
        found = parse(given_)
    except BadProxyHeader:
        return
    if found is None:
        assert len(given_) < MAX_BYTES
    else:
        assert 0 < found.size <= min(len(given_), MAX_BYTES)
        # What follows the header changes nothing, and less than it is incomplete.
        assert parse(given_[: found.size]) == found
        assert parse(given_[: found.size - 1]) is None


@given(st.binary(min_size=1, max_size=40))
def test_only_what_may_begin_a_header_is_waited_for(data: bytes) -> None:
    if not may_begin(data):
        with pytest.raises(BadProxyHeader):
            parse(data)
