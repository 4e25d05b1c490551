"""The header with which a proxy names its client: the PROXY protocol, versions 1 and 2.

HAProxy's proxy-protocol.txt, sections 2.1 and 2.2. It comes once, before anything else, TLS
included. What it says counts only if the proxy is trusted; that is decided elsewhere.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from energyws.errors import EnergywsError
from energyws.protocol.http.client_address import canonical

_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
# Section 2.1: the longest header of version 1, with its CRLF.
MAX_V1_BYTES: Final = 107
# Far more than addresses and the TLVs that balancers add; HAProxy's certificates are not wanted.
MAX_BYTES: Final = 2048
_HEAD_BYTES: Final = 16
_LINE: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [ -~]*)?"
    rb"|(TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n"
)
_MOST_PORT: Final = 65_535
_VERSION: Final = 2
_LOCAL, _PROXY = 0, 1
# Family and protocol of TCP over IPv4 and IPv6, with the bytes of an address.
_FAMILIES: Final = {0x11: (IPv4Address, 4), 0x21: (IPv6Address, 16)}
# Two addresses and two ports of each family that section 2.2 has: any, IPv4, IPv6, Unix.
_LEAST: Final = {0: 0, 1: 12, 2: 36, 3: 216}


class BadProxyHeader(EnergywsError):
    """Bytes that are no header, or one that says what cannot be; the message says which."""


class ProxyHeader(NamedTuple):
    """size: its bytes. client: an address; None: the proxy speaks for itself, or does not know."""

    size: int
    client: str | None


def may_begin(data: bytes) -> bool:
    """Whether a header begins with these bytes, or they with one."""
    return any(sign.startswith(data[: len(sign)]) for sign in (_V1, _V2))


def parse(data: bytes) -> ProxyHeader | None:
    """The header that the bytes begin with; None: it is incomplete. Raises BadProxyHeader."""
    if not may_begin(data):
        raise BadProxyHeader("no PROXY header")
    if data.startswith(_V1):
        return _version_1(data)
    return _version_2(data) if len(data) >= _HEAD_BYTES else None


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, MAX_V1_BYTES) + 1
    if not end:
        if len(data) >= MAX_V1_BYTES:
            raise BadProxyHeader("a PROXY header of version 1 without an end")
        return None
    found = _LINE.fullmatch(data, 0, end)
    if found is None:
        raise BadProxyHeader("a PROXY header of version 1 that cannot be understood")
    if found[1] is None:
        return ProxyHeader(end, None)
    addresses = [found[2].decode(), found[3].decode()]
    if any((":" in each) != (found[1] == b"TCP6") for each in addresses):
        raise BadProxyHeader("a PROXY header of version 1 with addresses of another family")
    client, server = map(canonical, addresses)
    if client is None or server is None or max(int(found[4]), int(found[5])) > _MOST_PORT:
        raise BadProxyHeader("a PROXY header of version 1 with an impossible address")
    return ProxyHeader(end, client)


def _version_2(data: bytes) -> ProxyHeader | None:
    version_command, family, length = struct.unpack_from("!BBH", data, len(_V2))
    command = version_command & 0xF
    if version_command >> 4 != _VERSION or command not in (_LOCAL, _PROXY):
        raise BadProxyHeader("a PROXY header of an unknown version or command")
    size = _HEAD_BYTES + length
    if size > MAX_BYTES:
        raise BadProxyHeader("a PROXY header of version 2 that is too long")
    least = _LEAST.get(family >> 4)
    # The receiver of LOCAL must ignore the family, and skip what follows.
    if command == _PROXY and (least is None or family & 0xF > 2 or length < least):
        raise BadProxyHeader("a PROXY header of version 2 with addresses that do not fit")
    if len(data) < size:
        return None
    if command == _LOCAL or family not in _FAMILIES:
        # Not TCP over IP: section 2.2 has the connection accepted with its own addresses.
        return ProxyHeader(size, None)
    kind, width = _FAMILIES[family]
    return ProxyHeader(size, canonical(str(kind(data[_HEAD_BYTES : _HEAD_BYTES + width]))))
