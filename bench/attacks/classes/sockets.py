"""Sockets that never become clients, and clients that take all the room there is."""

from __future__ import annotations

from typing import Final

from bench.attacks.attack import ANYBODY, ONE_SUBJECT, SUBJECTS, Bound, attack
from bench.attacks.held import Held
from bench.attacks.target import Target
from bench.kit.handshake import bearer, get_request, upgrade_request

# A worker has fewer descriptors than one attacker has sockets; far fewer clients are admitted.
DESCRIPTORS: Final = 2_048
_SOCKETS: Final = 2_500
_ROOM: Final = {"server": {"max_connections": 500}}
# Longer than a socket may take until it is a client.
_LASTS: Final = 8.0
_HALF: Final = upgrade_request("/ws/energy").encode()[:-20]
# Of the harness's configuration (tree.LIMITS).
_PER_ADDRESS: Final = Bound("held", 100, where="limits.connections_per_address")
_PER_TOKEN: Final = Bound("held", 25, where="limits.connections_per_token")


@attack(
    name="silent",
    title="2,500 sockets of one address say nothing; a worker has 2,048 descriptors",
    who=ANYBODY,
    answer="closed after 5 s; beyond the limit for an address at once",
    config=_ROOM,
    descriptors=DESCRIPTORS,
    lasts=_LASTS,
)
def silent(target: Target) -> None:
    Held(target, _SOCKETS, lambda _: b"", rate=2_500).run()


@attack(
    name="half-requests",
    title="2,500 sockets of one address send half a request",
    who=ANYBODY,
    answer="as above",
    config=_ROOM,
    descriptors=DESCRIPTORS,
    lasts=_LASTS,
)
def half_requests(target: Target) -> None:
    Held(target, _SOCKETS, lambda _: _HALF, rate=2_500).run()


@attack(
    name="slow-requests",
    title="2,500 sockets of one address send a byte of a header every second",
    who=ANYBODY,
    answer="as above: each byte does not buy more time",
    config=_ROOM,
    descriptors=DESCRIPTORS,
    lasts=_LASTS,
)
def slow_requests(target: Target) -> None:
    Held(target, _SOCKETS, lambda _: _HALF, rate=2_500, word=lambda: b"x").run()


@attack(
    name="keep-alive",
    title="2,500 sockets of one address send a whole request for /health, then half of another",
    who=ANYBODY,
    answer="as above: an answer does not make a client of a socket",
    config=_ROOM,
    descriptors=DESCRIPTORS,
    lasts=_LASTS,
)
def keep_alive(target: Target) -> None:
    request = get_request("/health").encode() + _HALF
    Held(target, _SOCKETS, lambda _: request, rate=2_500).run()


@attack(
    name="token-takes-all",
    title="600 clients with one token from 100 addresses, where `server.max_connections` is 500",
    who=ONE_SUBJECT,
    answer="429 beyond the limit for a token",
    config=_ROOM,
    bounds=(_PER_TOKEN,),
)
def token_takes_all(target: Target) -> None:
    request = upgrade_request("/ws/energy", bearer(target.token)).encode()
    Held(target, 600, lambda _: request, rate=600, addresses=100).run()


@attack(
    name="address-takes-all",
    title="the same with 600 tokens from one address",
    who=SUBJECTS,
    answer="429 beyond the limit for an address",
    config=_ROOM,
    bounds=(_PER_ADDRESS,),
)
def address_takes_all(target: Target) -> None:
    def begin(number: int) -> bytes:
        return upgrade_request("/ws/energy", bearer(target.plan.tokens[number % 600])).encode()

    Held(target, 600, begin, rate=600).run()


@attack(
    name="forwarded",
    title="the same, and each request claims another address in `X-Forwarded-For`, `Forwarded` and "
    "`X-Real-IP`",
    who=SUBJECTS,
    answer="429 as before: nobody believes an address that is no trusted proxy's",
    config=_ROOM,
    bounds=(_PER_ADDRESS,),
)
def forwarded(target: Target) -> None:
    def begin(number: int) -> bytes:
        claimed = f"10.{number % 250}.{number // 250 % 250}.7"
        return upgrade_request(
            "/ws/energy",
            bearer(target.plan.tokens[number % 600]),
            f"X-Forwarded-For: {claimed}",
            f"Forwarded: for={claimed}",
            f"X-Real-IP: {claimed}",
        ).encode()

    Held(target, 600, begin, rate=600).run()


@attack(
    name="events-take-all",
    title="600 event streams with one token, where `server.max_connections` is 500",
    who=ONE_SUBJECT,
    answer="429 beyond the limit for a token",
    config=_ROOM,
    door="/sse/energy",
    bounds=(_PER_TOKEN,),
)
def events_take_all(target: Target) -> None:
    request = get_request("/sse/energy", bearer(target.token)).encode()
    Held(target, 600, lambda _: request, rate=600, addresses=100).run()


@attack(
    name="half-events",
    title="2,500 sockets of one address send half a request for an event stream",
    who=ANYBODY,
    answer="as for half a request",
    config=_ROOM,
    door="/sse/energy",
    descriptors=DESCRIPTORS,
    lasts=_LASTS,
)
def half_events(target: Target) -> None:
    half = get_request("/sse/energy", "Accept: text/event-stream").encode()[:-4]
    Held(target, _SOCKETS, lambda _: half, rate=2_500).run()
