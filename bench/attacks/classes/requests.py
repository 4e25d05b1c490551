"""Requests: what they cost before anybody is known, and the doors over HTTP."""

from __future__ import annotations

from typing import Final

from bench.attacks.attack import ANYBODY, ONE_SUBJECT, attack
from bench.attacks.held import Held, Until
from bench.attacks.target import Target
from bench.attacks.wire import nested_token
from bench.kit.handshake import bearer, get_request, upgrade_request

# At this rate, dear requests once held up everybody else.
_DEAR_PER_SECOND: Final = 255.0
_LARGE: Final = 15_000
# Longer targets are refused unread (energyws.protocol.http.request).
_TARGET: Final = 12_000
_DEAR_ANSWER: Final = "401 at the price of any refusal, two times at most"
_CLOSE: Final = "Connection: close"


def _refusals(target: Target, request: str, rate: float) -> None:
    sent = request.encode()
    Held(target, 200, lambda _: sent, rate=rate, until=Until.ANSWERED).run()


@attack(
    name="refusals",
    title="2,000 requests a second without a token, one connection each",
    who=ANYBODY,
    answer="401",
    each="opened",
)
def refusals(target: Target) -> None:
    _refusals(target, upgrade_request("/ws/energy"), 2_000)


@attack(
    name="connections",
    title="2,000 connections a second that ask for /health",
    who=ANYBODY,
    answer="200; closed unread beyond the limit for an address",
    each="opened",
)
def connections(target: Target) -> None:
    _refusals(target, get_request("/health", _CLOSE), 2_000)


@attack(
    name="queries",
    title="255 requests a second with a query of 12 KB in 3,000 parameters",
    who=ANYBODY,
    answer=_DEAR_ANSWER,
    each="opened",
)
def queries(target: Target) -> None:
    path = "/ws/energy?x=1" + "&a=1" * (_TARGET // 4)
    _refusals(target, upgrade_request(path), _DEAR_PER_SECOND)


@attack(
    name="escaped-queries",
    title="the same with one parameter of 4,000 escapes",
    who=ANYBODY,
    answer=_DEAR_ANSWER,
    each="opened",
)
def escaped_queries(target: Target) -> None:
    _refusals(
        target, upgrade_request("/ws/energy?token=" + "%41" * (_TARGET // 3)), _DEAR_PER_SECOND
    )


@attack(
    name="extensions",
    title="255 requests a second with 15 KB of Sec-WebSocket-Extensions",
    who=ANYBODY,
    answer=_DEAR_ANSWER,
    each="opened",
)
def extensions(target: Target) -> None:
    offers = "Sec-WebSocket-Extensions: " + "permessage-deflate;a," * (_LARGE // 21)
    _refusals(target, upgrade_request("/ws/energy", offers + "x"), _DEAR_PER_SECOND)


@attack(
    name="subprotocols",
    title="255 requests a second with 15 KB of Sec-WebSocket-Protocol",
    who=ANYBODY,
    answer=_DEAR_ANSWER,
    each="opened",
)
def subprotocols(target: Target) -> None:
    offers = "Sec-WebSocket-Protocol: " + "a," * (_LARGE // 2) + "a"
    _refusals(target, upgrade_request("/ws/energy", offers), _DEAR_PER_SECOND)


@attack(
    name="nested-tokens",
    title="255 requests a second with a token whose claims are 6 KB of nested JSON",
    who=ANYBODY,
    answer=_DEAR_ANSWER,
    each="opened",
)
def nested_tokens(target: Target) -> None:
    _refusals(target, upgrade_request("/ws/energy", bearer(nested_token(6_000))), _DEAR_PER_SECOND)


@attack(
    name="page",
    title="500 requests a second for the page, one connection each",
    who=ANYBODY,
    answer="200; closed unread beyond the limit for an address",
    needs=("server.dashboard",),
    each="opened",
)
def page(target: Target) -> None:
    request = get_request("/", _CLOSE).encode()
    Held(target, 200, lambda _: request, rate=500, until=Until.READ).run()


@attack(
    name="last",
    title="500 requests a second for the newest 100 records",
    who=ONE_SUBJECT,
    answer="200; 429 beyond the limit for a subject",
    door="/last/energy",
    each="opened",
)
def last(target: Target) -> None:
    request = get_request("/last/energy?last=100", bearer(target.token), _CLOSE).encode()
    Held(target, 200, lambda _: request, rate=500, until=Until.READ).run()


@attack(
    name="history",
    title="100 requests a second for 5,000 past records, most of them in the log",
    who=ONE_SUBJECT,
    answer="200 in turn; 429 beyond what a subject may ask for at a time",
    door="/history/energy",
    records=6_000,
    each="opened",
)
def history(target: Target) -> None:
    request = get_request("/history/energy?last=5000", bearer(target.token), _CLOSE).encode()
    Held(target, 100, lambda _: request, rate=100, until=Until.READ).run()


@attack(
    name="events",
    title="200 event streams a second that leave at once",
    who=ONE_SUBJECT,
    answer="200; 429 beyond the limit for a token",
    door="/sse/energy",
    each="opened",
)
def events(target: Target) -> None:
    _refusals(target, get_request("/sse/energy", bearer(target.token)), 200)
