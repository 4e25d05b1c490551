"""Headers of the PROXY protocol, from a trusted proxy's address and from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.attacks.attack import ANYBODY, attack
from bench.attacks.held import Held
from bench.attacks.target import Target
from bench.kit.handshake import upgrade_request

_REQUEST: Final = upgrade_request("/ws/energy").encode()
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
# Attackers have addresses of 127.0.9.0/24 and up (target.address).
_TRUSTED: Final = {
    "server": {"proxy_protocol": "optional", "trusted_proxies": ["127.0.9.0/24"]},
}
_STRANGERS: Final = {
    "server": {"proxy_protocol": "optional", "trusted_proxies": ["10.0.0.0/8"]},
}
# What no proxy sends (haproxy, proxy-protocol.txt): unknown versions, families and lengths, halves.
_GARBAGE: Final = (
    b"PROXY ",
    b"PROXY TCP4 1.1.1.1",
    b"PROXY TCP4 256.1.1.1 1.1.1.1 1 1\r\n" + _REQUEST,
    b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n" + _REQUEST,
    b"PROXY TCP4 " + b"1" * 200,
    b"PROXY UNKNOWN " + b"x" * 120 + b"\r\n" + _REQUEST,
    _SIGNATURE[:7],
    _SIGNATURE + b"\x21\x11\xff\xff" + b"\0" * 64,
    _SIGNATURE + b"\x31\x11\x00\x0c" + b"\0" * 12 + _REQUEST,
    _SIGNATURE + b"\x21\xff\x00\x0c" + b"\0" * 12 + _REQUEST,
    _SIGNATURE + b"\x21\x11\x00\x00" + _REQUEST,
    _SIGNATURE + b"\x20\x00\x00\x00" + _SIGNATURE + b"\x20\x00\x00\x00" + _REQUEST,
)


@attack(
    name="proxy-headers",
    title="1,000 connections a second with wrong, endless or half PROXY headers, from the address "
    "of a trusted proxy",
    who="who reaches a trusted proxy's network",
    answer="closed, a half one after 5 s",
    config=_TRUSTED,
    needs=("server.proxy_protocol",),
)
def proxy_headers(target: Target) -> None:
    _send(target, _GARBAGE)


@attack(
    name="stray-proxy-headers",
    title="1,000 connections a second that claim another address each in a good PROXY header, from "
    "an address that is no trusted proxy's",
    who=ANYBODY,
    answer="closed: they are no requests",
    config=_STRANGERS,
    needs=("server.proxy_protocol",),
)
def stray_proxy_headers(target: Target) -> None:
    _send(
        target,
        [
            f"PROXY TCP4 10.1.{number // 250}.{number % 250} 127.0.0.1 1000 80\r\n".encode()
            + _REQUEST
            for number in range(1_000)
        ],
    )


def _send(target: Target, headers: Sequence[bytes]) -> None:
    Held(target, 1_000, lambda number: headers[number % len(headers)], rate=1_000).run()
