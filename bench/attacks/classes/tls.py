"""TLS: what a handshake costs the worker, and sockets that stop in the middle of it."""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

from bench.attacks.attack import ANYBODY, ONE_SUBJECT, attack
from bench.attacks.classes.resets import client_hello
from bench.attacks.classes.sockets import DESCRIPTORS
from bench.attacks.held import Held, Until
from bench.attacks.target import Target
from bench.kit.handshake import bearer, get_request

_HANDSHAKES_PER_SECOND: Final = 500.0


@attack(
    name="tls-half-hellos",
    title="2,500 sockets of one address send half of a TLS hello",
    who=ANYBODY,
    answer="closed after 5 s; beyond the limit for an address at once",
    config={"server": {"max_connections": 500}},
    descriptors=DESCRIPTORS,
    tls=True,
)
def tls_half_hellos(target: Target) -> None:
    hello = client_hello()
    Held(target, 2_500, lambda _: hello[: len(hello) // 2], rate=2_500).run()


@attack(
    name="tls-hellos",
    title="500 TLS handshakes a second, one and the same hello each time; each has the worker sign",
    who=ANYBODY,
    answer="handshakes wait in turn; beyond the limit for an address none begins",
    tls=True,
    each="opened",
)
def tls_hellos(target: Target) -> None:
    hello = client_hello()
    _handshakes(target, hello)


@attack(
    name="tls-tickets",
    title="the same with a ticket of an earlier session",
    who=ONE_SUBJECT,
    answer="as above",
    tls=True,
    each="opened",
)
def tls_tickets(target: Target) -> None:
    hello = client_hello()
    with contextlib.suppress(OSError):
        ticket = _hello_with_ticket(target)
        target.counts["bytes of a hello with ticket"] = len(ticket)
        target.counts["bytes of a hello without"] = len(hello)
        hello = ticket
    _handshakes(target, hello)


def _handshakes(target: Target, hello: bytes) -> None:
    Held(target, 200, lambda _: hello, rate=_HANDSHAKES_PER_SECOND, until=Until.ANSWERED).run()


def _hello_with_ticket(target: Target) -> bytes:
    """The hello of a client that has had a session; raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(target.plan.certificate)
    context.check_hostname = False
    with context.wrap_socket(target.connected()) as connection:
        connection.sendall(get_request("/health", bearer(target.token)).encode())
        # The ticket of TLS 1.3 comes before the answer.
        connection.recv(1 << 16)
        session = connection.session
    # A session belongs to the context that made it.
    sent = ssl.MemoryBIO()
    again = context.wrap_bio(ssl.MemoryBIO(), sent, session=session)
    with contextlib.suppress(ssl.SSLWantReadError):
        again.do_handshake()
    return sent.read()
