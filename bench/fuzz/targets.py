"""What is fuzzed: each decoder that outsiders reach, and what it must do with any bytes.

A target takes bytes and returns the kind of outcome, for the counts; whatever it raises is a fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

from bench.fuzz import schemas
from bench.fuzz.session import MAX_MESSAGE_BYTES, Sessions
from bench.kit.echo import Silent
from energyws.auth import denied
from energyws.auth.claims import TokenRefused
from energyws.auth.jwks import BadKeys, parse_jwks
from energyws.auth.verifier import Verifier, mint
from energyws.client import position as client_position
from energyws.control.config.load import parse as parse_configuration
from energyws.errors import ConfigError
from energyws.process.board import Board
from energyws.process.counters import HANDSHAKES
from energyws.protocol import messages, position
from energyws.protocol.deflate import BadDeflate, BadOffer, TooLong, inflate, negotiate
from energyws.protocol.http import client_address, proxy_header, queries, stream_queries
from energyws.protocol.http.client_address import TrustedProxies
from energyws.protocol.messages import BadClientMessage
from energyws.settings import Auth, Limits, Server, Stream
from energyws.stream import bus_messages, record
from energyws.stream.bus_messages import BadMessage
from energyws.testing.service import SECRET
from workers.websocket.accept.handshake import Gate
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.clients.context import Context
from workers.websocket.connection.http_exchange import Exchange
from workers.websocket.shares import Shares

NOW: Final = 1_790_000_000.0
# A token that the http and token targets accept, for the corpus.
_STREAMS: Final = {"energy": Stream(topic="readings", key="record")}
TOKEN: Final = mint(SECRET, "fuzz", 600, NOW, None)
_AUTH: Final = Auth(jwt_secret=SECRET)
_PEER: Final = "10.0.0.1"
_NEXT_PROXY: Final = "10.0.0.2"
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ")

Target = Callable[[bytes], str]


@cache
def _gate() -> Gate:
    server = Server(compression=True)
    board = Board.create()
    row = board.row(0)
    shares = Shares(board.usage(0), row, Limits())
    silent: Any = Silent()
    silent.streams = frozenset({"energy"})
    tokens: Any = SimpleNamespace(check=lambda text: _verifier().verify(text, {}, now=NOW))
    # Its log lines about refusals are held back, and would come at the end.
    context = Context(server, silent, silent, tokens, row, shares, KeyAccess(_STREAMS, shares, row))
    return Gate(context, _AUTH, board, _limited=silent)


def http(data: bytes) -> str:
    """The handshake, and every HTTP path: always an answer, and never one that blames us."""
    gate = _gate()
    step = Exchange(gate, "192.0.2.1").take(data)
    faults = HANDSHAKES.read(gate.context.row.columns())
    assert not any(count for labels, count in faults.items() if "internal_error" in labels)
    status = _STATUS.match(step.out)
    assert status or not step.out
    return status[1].decode() if status else step.then.name.lower()


def frames(data: bytes) -> str:
    """A session, in one piece and byte by byte: the same end."""
    deflate = bool(data) and bool(data[0] & 1)
    stream = data[1:]
    whole = _sessions().run(stream, [], deflate=deflate)
    if len(stream) < 64:
        assert whole == _sessions().run(stream, list(range(len(stream))), deflate=deflate)
    return str(whole.code)


@cache
def _sessions() -> Sessions:
    return Sessions()


def message(data: bytes) -> str:
    """A message of a client, and the queries of all paths."""
    text = data.decode("latin-1")
    for parse in (
        queries.parse_query,
        lambda query: stream_queries.parse_sse("energy", query, query[:40]),
        lambda query: stream_queries.parse_history("energy", query),
        lambda query: stream_queries.parse_last("energy", query),
    ):
        try:
            parse(text)
        except BadClientMessage as bad:
            bad.error.message.encode()
    try:
        return type(messages.parse(data)).__name__
    except BadClientMessage as bad:
        return bad.error.code


def positions(data: bytes) -> str:
    """A position's text: service and client agree, and write what they read."""
    text = data.decode("latin-1")
    try:
        found = position.parse(text)
    except position.BadPosition:
        try:
            client_position.parse(text)
        except client_position.BadPosition:
            return "refused"
        raise AssertionError("the client accepts what the service refuses") from None
    ours = client_position.parse(text)
    assert str(found) == str(ours) == text
    assert (found.epoch, found.offsets) == (ours.epoch, ours.offsets)
    assert found.merge(found) == found
    return "accepted"


def records(data: bytes) -> str:
    """A record's value: what is accepted is a JSON object, by another parser, too."""
    try:
        text = record.decode(data, max_bytes=10_000)
    except record.BadRecord as bad:
        return bad.reason
    try:
        assert type(json.loads(text.decode("utf-8", "surrogatepass"), parse_int=str)) is dict
    except RecursionError:
        return "nested"
    return "accepted"


def compressed(data: bytes) -> str:
    """A compressed message, and an offer of compression."""
    with suppress(BadOffer):
        negotiate([data.decode("latin-1")])
    window, payload = data[:32], data[32:]
    try:
        assert len(inflate(payload, MAX_MESSAGE_BYTES, window)) <= MAX_MESSAGE_BYTES
    except TooLong:
        return "too long"
    except BadDeflate:
        return "refused"
    return "accepted"


@cache
def _verifier() -> Verifier:
    return Verifier(_AUTH)


def token(data: bytes) -> str:
    """A token: none but the one that was signed is good."""
    text = data.decode("latin-1")
    try:
        principal = _verifier().verify(text, {}, now=NOW)
    except TokenRefused as refused:
        return refused.reason
    assert text == TOKEN, "accepted, and not ours"
    return principal.subject


def keys(data: bytes) -> str:
    """A JWKS document."""
    try:
        return f"{len(parse_jwks(data))} keys"
    except BadKeys:
        return "refused"


def proxy(data: bytes) -> str:
    """A PROXY header: no byte fewer says the same, and what follows changes nothing."""
    try:
        found = proxy_header.parse(data)
    except proxy_header.BadProxyHeader:
        return "refused"
    if found is None:
        return "incomplete"
    assert proxy_header.parse(data[: found.size] + b"GET /") == found
    assert proxy_header.parse(data[: found.size - 1]) is None
    assert found.client is None or client_address.canonical(found.client) == found.client
    return "accepted"


def forwarded(data: bytes) -> str:
    """What clients invent in X-Forwarded-For and Forwarded: what a proxy appends to it counts.

    Behind one more trusted proxy it says the same as alone.
    """
    invented = data.decode("latin-1")
    proxies = TrustedProxies(["10.0.0.0/8"])
    named = "nobody"
    for name, hops, prefix in (
        ("X-Forwarded-For", client_address.forwarded_for, ""),
        ("Forwarded", client_address.forwarded, "for="),
    ):
        client = proxies.client(_PEER, hops([f"{invented}, {prefix}192.0.2.7"]))
        assert client == "192.0.2.7", client
        alone = proxies.client(_PEER, hops([invented]))
        assert client_address.canonical(alone) == alone
        # Beyond that, the reader's limits make a difference.
        if len(invented) <= 1_000 and invented.count(",") <= 8:
            behind = proxies.client(_PEER, hops([invented, f"{prefix}{_NEXT_PROXY}"]))
            assert behind == alone or (alone, behind) == (_PEER, _NEXT_PROXY), (alone, behind)
        if alone not in proxies:
            named = name
    return named


def deny_list(data: bytes) -> str:
    """A deny list: its entries can be written and read again."""
    entries, bad = denied.parse(data)
    assert denied.parse(denied.dump(entries)) == (entries, [])
    return f"{'some' if entries else 'no'} entries, {'some' if bad else 'none'} refused"


def bus(data: bytes) -> str:
    """A message of the bus, and those of history, whose only writers are our own processes."""
    for unpack in (
        bus_messages.unpack_heads,
        bus_messages.unpack_sync_request,
        bus_messages.unpack_sync_reply,
        bus_messages.unpack_history_request,
        lambda part: bus_messages.unpack_start([part]),
        lambda part: bus_messages.unpack_chunks(position.Position("a", (0,)), [part, b""]),
    ):
        with suppress(BadMessage):
            unpack(data)
    try:
        found = bus_messages.unpack(data)
    except BadMessage:
        return "refused"
    assert bus_messages.pack(found) == data
    return "accepted"


def configuration(data: bytes) -> str:
    """A configuration file: settings, or problems that name a line."""
    try:
        parse_configuration(data.decode("latin-1"), "fuzz.yaml", {"HOME": "/nowhere"})
    except ConfigError as bad:
        problems = bad.problems
    else:
        return "accepted"
    assert problems
    assert all(problem.startswith("fuzz.yaml") for problem in problems)
    return "refused"


# With how many inputs of each make a long run.
TARGETS: Final[dict[str, tuple[Target, int]]] = {
    "http": (http, 1_000_000),
    "frames": (frames, 500_000),
    "message": (message, 1_500_000),
    "position": (positions, 2_000_000),
    "record": (records, 2_000_000),
    "compressed": (compressed, 1_000_000),
    "token": (token, 1_000_000),
    "keys": (keys, 200_000),
    "bus": (bus, 1_000_000),
    "proxy": (proxy, 1_000_000),
    "forwarded": (forwarded, 300_000),
    "denied": (deny_list, 300_000),
    "configuration": (configuration, 20_000),
    "avro": (schemas.avro, 1_000_000),
    "avro_schema": (schemas.avro_schema, 200_000),
    "protobuf": (schemas.protobuf, 1_000_000),
    "answer": (schemas.answer, 1_000_000),
}
