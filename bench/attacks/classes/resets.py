"""Connections that are reset together with their last bytes, in each phase.

The kernel reports the reset, not the bytes before it: a service that only reads what can be read
does not notice, and keeps the descriptor.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

from bench.attacks.attack import ANYBODY, ONE_SUBJECT, attack
from bench.attacks.classes.sockets import DESCRIPTORS
from bench.attacks.target import Target
from bench.attacks.wire import PING, reset
from bench.kit.handshake import bearer, upgrade_request

_ROOM: Final = {"server": {"max_connections": 500}}
_ANSWER: Final = "noticed at once, the descriptor is free again"


@attack(
    name="reset-silent",
    title="1,000 connections a second, reset before a word",
    who=ANYBODY,
    answer=_ANSWER,
    config=_ROOM,
    descriptors=DESCRIPTORS,
    each="reset",
)
def reset_silent(target: Target) -> None:
    _resets(target, b"")


@attack(
    name="reset-half-requests",
    title="1,000 a second, reset with half a request",
    who=ANYBODY,
    answer=_ANSWER,
    config=_ROOM,
    descriptors=DESCRIPTORS,
    each="reset",
)
def reset_half_requests(target: Target) -> None:
    _resets(target, upgrade_request("/ws/energy").encode()[:-20])


@attack(
    name="reset-sessions",
    title="200 clients a second, reset with their first message",
    who=ONE_SUBJECT,
    answer=_ANSWER,
    config=_ROOM,
    descriptors=DESCRIPTORS,
    each="reset",
)
def reset_sessions(target: Target) -> None:
    request = upgrade_request("/ws/energy?subscribe=energy", bearer(target.token)).encode()
    for _ in target.paced(200):
        with contextlib.suppress(OSError):
            connection = target.connected()
            connection.sendall(request)
            if connection.recv(1 << 16).startswith(b"HTTP/1.1 101"):
                target.counts["status 101"] += 1
            reset(connection, PING)
            target.counts["reset"] += 1


@attack(
    name="reset-requests",
    title="1,000 a second, reset with a whole request",
    who=ONE_SUBJECT,
    answer=_ANSWER,
    config=_ROOM,
    descriptors=DESCRIPTORS,
    each="reset",
)
def reset_requests(target: Target) -> None:
    _resets(target, upgrade_request("/ws/energy?subscribe=energy", bearer(target.token)).encode())


@attack(
    name="reset-tls",
    title="1,000 a second, reset with half of a TLS hello",
    who=ANYBODY,
    answer=_ANSWER,
    config=_ROOM,
    descriptors=DESCRIPTORS,
    each="reset",
    tls=True,
)
def reset_tls(target: Target) -> None:
    hello = client_hello()
    _resets(target, hello[: len(hello) // 2])


def _resets(target: Target, last: bytes) -> None:
    for _ in target.paced(1_000):
        with contextlib.suppress(OSError):
            reset(target.connected(), last)
            target.counts["reset"] += 1


def client_hello(session: ssl.SSLSession | None = None) -> bytes:
    """The first bytes of a TLS connection; with the ticket of a session."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), sent, session=session)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return sent.read()
