"""The address of a client behind proxies, and what of an address stands for one client.

A proxy appends the address that it sees, so headers are read from the right: what a trusted proxy
has appended counts, what stands to the left of an untrusted address is that client's own invention.
X-Forwarded-For has no standard; Forwarded is RFC 7239.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

# More proxies in a row are not followed.
_MOST_HOPS: Final = 16
# A header is read up to here, from the right.
_MOST_TEXT: Final = 2048
# RFC 7239 section 4; names are case-insensitive.
_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PAIR: Final = rf"({_WORD})=({_WORD}|{_QUOTED})"
_PAIRS: Final = re.compile(_PAIR)
_ELEMENT: Final = re.compile(rf"{_PAIR}(?:;{_PAIR})*")
# RFC 7239 section 6, and what proxies write into X-Forwarded-For.
_NODE: Final = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[\w.-]+)?|([0-9.]+)(?::[\w.-]+)?|([0-9A-Fa-f:.]+)"
)
_KNOWN: Final = 4096
# The prefix of IPv4 in IPv6, ::ffff:0:0/96 (RFC 4291 section 2.5.5.2).
_MAPPED_BITS: Final = 96


@lru_cache(_KNOWN)
def client_of(address: str) -> str:
    """What counts as one client: an address of IPv4, or a network of IPv6, which is a subscriber's.

    address: as the kernel or `canonical` writes it. An address of IPv4 in IPv6 is one of IPv4.
    """
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"


def canonical(address: str) -> str | None:
    """An address in the one way to write it; None if it is none."""
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return str(_unmapped(found))


class TrustedProxies:
    """networks: addresses and networks in CIDR notation. Raises ValueError.

    some: whether there are any.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [network(each) for each in networks]
        self.some = bool(self._networks)
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[address] = self._has(address)
        return known

    def client(self, peer: str, hops: Iterable[str | None]) -> str:
        """The nearest address that is no proxy's.

        peer: of the connection. hops: what the proxies say, the nearest first; None: the address
        is unknown.
        """
        client = peer
        for hop in hops:
            if client not in self:
                break
            if hop is None:
                # Nobody knows more than that it came through this proxy.
                break
            client = hop
        return client

    def _has(self, address: str) -> bool:
        try:
            found = _unmapped(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        return any(found in each for each in self._networks)


def network(text: str) -> IPv4Network | IPv6Network:
    """Raises ValueError, also for a network with bits behind its prefix."""
    found = ip_network(text.strip())
    inner = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    if inner is None or found.prefixlen < _MAPPED_BITS:
        return found
    return IPv4Network((inner, found.prefixlen - _MAPPED_BITS))


def forwarded_for(fields: Iterable[str]) -> Iterable[str | None]:
    """The hops in header fields X-Forwarded-For, the nearest first."""
    hops = ",".join(fields)[-_MOST_TEXT:].rsplit(",", _MOST_HOPS)
    for hop in reversed(hops[-_MOST_HOPS:]):
        yield _address(hop.strip())


def forwarded(fields: Iterable[str]) -> Iterable[str | None]:
    """The hops in header fields Forwarded (RFC 7239 section 4), the nearest first.

    A comma in a quoted string ends no element. The shortest text that can be the last element is
    taken for it, so nothing that a client sends can swallow what a proxy appends to it.
    """
    text = ",".join(fields)[-_MOST_TEXT:]
    for _ in range(_MOST_HOPS):
        begin = len(text)
        for _ in range(_MOST_HOPS):
            begin = text.rfind(",", 0, begin) if begin else -1
            element = text[begin + 1 :].strip()
            if _ELEMENT.fullmatch(element) or begin < 0:
                break
        if not _ELEMENT.fullmatch(element):
            yield None
            return
        yield _for(element)
        if begin < 0:
            return
        text = text[:begin]


def _for(element: str) -> str | None:
    named = [value for name, value in _PAIRS.findall(element) if name.lower() == "for"]
    if len(named) != 1:
        return None
    return _address(named[0].strip('"').replace("\\", ""))


def _address(node: str) -> str | None:
    """The address in a node, which may have a port; None: unknown, or hidden on purpose."""
    found = _NODE.fullmatch(node)
    return canonical(found[1] or found[2] or found[3]) if found else None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
