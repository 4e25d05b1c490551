"""permessage-deflate (RFC 7692) between the real service and independent clients."""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from energyws.protocol.deflate import deflate
from energyws.testing import Records, Service
from tests.clients import (
    PATIENCE_SECONDS,
    Peer,
    bare_socket,
    close_code,
    masked,
    open_peer,
    response_head,
    upgrade_request,
)

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

Serve = Callable[..., Service]

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
ACCEPTED = "permessage-deflate; server_no_context_takeover"
# The offer of Netty 4.1 and of clients built on it.
NETTY = (
    "sec-websocket-extensions: "
    "permessage-deflate;client_max_window_bits,deflate-frame,x-webkit-deflate-frame"
)
# Compressible, and too long for a frame's 7-bit length.
TEXTS = {"pad": "na" * 500, "unit": "kWh"}
RSV1 = 4
PING = deflate(b'{"type":"ping"}')


def answered(head: str) -> list[str]:
    """The extensions in the answer to a handshake."""
    lines = [line.partition(":") for line in head.splitlines()]
    return [v.strip() for name, _, v in lines if name.lower() == "sec-websocket-extensions"]


def compressed_peer(service: Service, **options: Any) -> Peer:
    """A client of an independent library that has negotiated compression."""
    peer = open_peer(service, compression="deflate", **options)
    (extension,) = peer.connection.protocol.extensions
    assert extension.name == "permessage-deflate"
    return peer


def texts(peer: Peer, count: int) -> list[str]:
    """The text of the next `count` data messages."""
    found: list[str] = []
    while len(found) < count:
        message = peer.connection.recv(timeout=PATIENCE_SECONDS)
        assert isinstance(message, str)
        if message.startswith('{"type":"data"'):
            found.append(message)
    return found


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ([OFFER], [ACCEPTED]),
        # An answer that exceeds its offer makes the client give up.
        ([NETTY], [ACCEPTED]),
        (
            ["Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover"],
            [f"{ACCEPTED}; client_no_context_takeover"],
        ),
        ([], []),
        (["Sec-WebSocket-Extensions: x-webkit-deflate-frame"], []),
        (["Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10"], []),
        (
            [
                "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10",
                "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=15",
            ],
            [f"{ACCEPTED}; server_max_window_bits=12"],
        ),
    ],
    ids=[
        "a browser's",
        "Netty's",
        "without context",
        "none",
        "another",
        "a window that is too small",
        "two headers",
    ],
)
def test_offer_is_answered(service: Service, lines: list[str], answer: list[str]) -> None:
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service, *lines))
        head = response_head(client)
    assert " 101 " in head
    assert answered(head) == answer


def test_invalid_header_is_refused(service: Service) -> None:
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service, "Sec-WebSocket-Extensions: permessage deflate"))
        assert response_head(client).startswith("HTTP/1.1 400 ")


def test_plain_and_compressed_clients_receive_the_same(service: Service, producer: Records) -> None:
    with open_peer(service) as plain, compressed_peer(service) as compressed:
        plain.subscribe()
        compressed.subscribe()
        producer.send(1)
        producer.send(40, **TEXTS)
        expected = texts(plain, 41)
        assert texts(compressed, 41) == expected
        position = plain.ask({"type": "subscribe", "streams": ["energy"]})["positions"]["energy"]
    producer.send(20, **TEXTS)
    service.caught_up(producer)
    # Records that a client catches up on are the same too.
    with open_peer(service) as plain, compressed_peer(service) as compressed:
        for peer in (plain, compressed):
            assert peer.subscribe(resume={"energy": position["position"]})["recovered"]
        assert texts(compressed, 20) == texts(plain, 20)


def test_history_from_the_log_is_compressed_too(serve: Serve, records: Records) -> None:
    records.send(200, **TEXTS)
    service = serve(history={"max_frames": 10, "warm": 5}).ready()
    with open_peer(service) as plain, compressed_peer(service) as compressed:
        for peer in (plain, compressed):
            peer.subscribe(since="1970-01-01T00:00:00Z")
        received = texts(plain, 200)
        assert texts(compressed, 200) == received
    both = sum(child["board"]["bytes"] for child in service.admin("/workers")[1])
    assert both < 1.3 * sum(map(len, received))


@pytest.mark.parametrize("lines", [1, 3], ids=["one client", "three clients"])
def test_compressed_frames_are_smaller_and_whole(
    service: Service, producer: Records, lines: int
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(bare_socket(service)) for _ in range(lines)]
        for client in clients:
            client.sendall(upgrade_request(service, OFFER, query="?subscribe=energy"))
            assert " 101 " in response_head(client)
            # `subscribed` is for one client, so it is not compressed.
            assert next(frames(client))[0] == 0x81
        producer.send(1, **TEXTS)
        received = [next(frames(client)) for client in clients]
    assert {first for first, _ in received} == {0xC1}
    assert len({payload for _, payload in received}) == 1
    assert len(received[0][1]) < 200


def frames(client: Any) -> Iterator[tuple[int, bytes]]:
    """The first byte and the payload of each frame."""
    file = client.makefile("rb", buffering=0)
    for _ in itertools.count():
        first, size = file.read(2)
        if size == 126:
            size = int.from_bytes(file.read(2), "big")
        yield first, file.read(size)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_client_may_compress_its_messages(service: Service, binary: bool) -> None:
    with compressed_peer(service) as peer:
        peer.send({"type": "ping", "pad": "x" * 10_000}, binary=binary)
        assert peer.receive()["type"] == "pong"
        # In fragments: only the first one has the bit for compression.
        peer.connection.send(iter(['{"type":', '"ping"', "}"]))
        assert peer.receive()["type"] == "pong"
        peer.send("")
        assert peer.receive()["code"] == "BAD_JSON"


@pytest.mark.parametrize("pieces", [1, 3])
def test_client_may_compress_all_its_messages_in_one_context(service: Service, pieces: int) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    message = b'{"type":"ping","pad":"%b"}' % random.Random(1).randbytes(2000).hex().encode()
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service, NETTY))
        assert answered(response_head(client)) == [ACCEPTED]
        received = frames(client)
        for number in range(5):
            data = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
            data = data.removesuffix(b"\0\0\xff\xff")
            # Every message but the first refers back to the one before.
            assert (len(data) < 100) == (number > 0)
            step = len(data) // pieces
            for at in range(pieces):
                last = at == pieces - 1
                piece = data[at * step :] if last else data[at * step : (at + 1) * step]
                client.sendall(masked(0 if at else 1, piece, final=last, reserved=0 if at else 4))
            assert b'"pong"' in next(received)[1]
            # Uncompressed messages are not part of the context.
            client.sendall(masked(1, b'{"type":"ping"}'))
            assert b'"pong"' in next(received)[1]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([masked(1, deflate(bytes(100_000_000))[:16_000], reserved=RSV1)], 1009),
        ([masked(1, deflate(bytes(16_385)), reserved=RSV1)], 1009),
        ([masked(1, b"\xff\xff", reserved=RSV1)], 1007),
        ([masked(1, deflate(b"\xff"), reserved=RSV1)], 1007),
        ([masked(1, PING[:-1], reserved=RSV1)], 1007),
        ([masked(1, b"", reserved=RSV1)], 1007),
        ([masked(1, PING[:4], final=False, reserved=RSV1), masked(0, PING[4:], reserved=4)], 1002),
        ([masked(9, b"\0", reserved=RSV1)], 1002),
        ([masked(8, b"\0", reserved=RSV1)], 1002),
        ([masked(1, PING, reserved=RSV1 | 1)], 1002),
    ],
    ids=[
        "bomb",
        "message over the limit",
        "no deflate data",
        "text that is not UTF-8",
        "half a message",
        "no data",
        "reserved bit on a continuation",
        "reserved bit on a ping",
        "reserved bit on a close",
        "another reserved bit",
    ],
)
def test_broken_compression_ends_its_client_only(
    service: Service, producer: Records, sent: list[bytes], code: int
) -> None:
    with compressed_peer(service) as peer, bare_socket(service) as client:
        peer.subscribe()
        client.sendall(upgrade_request(service, OFFER))
        assert answered(response_head(client)) == [ACCEPTED]
        client.sendall(b"".join(sent))
        assert close_code(client) == code
        numbers = producer.send(3, **TEXTS)
        assert sorted(peer.numbers(3)) == numbers


def test_offer_that_a_proxy_strips_leaves_plain_frames(service: Service, producer: Records) -> None:
    # Without its offer, a client's compressed frame breaks the protocol.
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service, query="?subscribe=energy"))
        assert answered(response_head(client)) == []
        subscribed = next(frames(client))
        producer.send(1, **TEXTS)
        assert subscribed[0] == next(frames(client))[0] == 0x81
        client.sendall(masked(1, PING, reserved=RSV1))
        assert close_code(client) == 1002


def test_compression_can_be_switched_off(serve: Serve, records: Records) -> None:
    service = serve(server={"compression": False}).ready()
    with open_peer(service, compression="deflate") as peer:
        assert peer.connection.protocol.extensions == []
        peer.subscribe()
        numbers = records.send(3, **TEXTS)
        assert sorted(peer.numbers(3)) == numbers
