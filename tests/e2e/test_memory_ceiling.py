"""Hostile clients of every kind hold no more memory than docs/sizing.md says."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from energyws.control.host.memory import SEGMENT_BYTES, pinned_bytes
from energyws.settings import KIB, MIB, Kafka, Server, Settings
from energyws.testing import Records, Service, eventually, token
from tests.clients import bare_socket, masked, response_head, unacknowledged, upgrade_request

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

Serve = Callable[..., Service]

DEFAULTS = Settings(kafka=Kafka(brokers="b:9092", topic="t"))
MOST_SENT = 2 * (Server().send_buffer_bytes or 0) + SEGMENT_BYTES
# The reserved bits of a frame, of which the first marks a compressed message.
RSV1 = 4
EACH = 8
# Far more than one of them may hold.
RECORDS = 200
PAD = "x" * 16_000


def subscribed(service: Service, query: str) -> socket.socket:
    client = bare_socket(service)
    client.sendall(upgrade_request(service, query=query))
    assert " 101 " in response_head(client)
    return client


def never_reads(service: Service) -> socket.socket:
    return subscribed(service, "?subscribe=energy")


def reads_fast_and_stops(service: Service) -> socket.socket:
    client = subscribed(service, f"?subscribe=energy&last={RECORDS}")
    for _ in range(8):
        assert client.recv(256 * KIB)
    return client


def asking(service: Service, path: str) -> socket.socket:
    client = bare_socket(service)
    bearer = f"Authorization: Bearer {token()}"
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n\r\n".encode())
    assert " 200 " in response_head(client)
    return client


def event_stream_that_stops(service: Service) -> socket.socket:
    return asking(service, f"/sse/energy?last={RECORDS}")


def answer_that_is_not_read(service: Service) -> socket.socket:
    return asking(service, "/last/energy?last=100")


def half_a_request(service: Service) -> socket.socket:
    client = bare_socket(service)
    client.sendall(b"GET /ws/energy HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 15_000)
    return client


def unfinished_message(service: Service) -> socket.socket:
    client = subscribed(service, "")
    client.sendall(masked(1, b"x" * 16_000, final=False))
    return client


def compressed_messages(service: Service) -> socket.socket:
    client = bare_socket(service)
    extension = "Sec-WebSocket-Extensions: permessage-deflate"
    client.sendall(upgrade_request(service, extension))
    assert " 101 " in response_head(client)
    # What cannot be compressed, in two messages of 16 KiB each.
    for _ in range(2):
        client.sendall(masked(1, stored(os.urandom(8_000).hex().encode()), reserved=RSV1))
    return client


def stored(message: bytes) -> bytes:
    """Deflated into blocks that are not compressed, as of RFC 7692."""
    deflater = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)
    return (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def sends_and_does_not_read(service: Service) -> socket.socket:
    client = subscribed(service, f"?subscribe=energy&last={RECORDS}")
    client.setblocking(False)
    try:
        while True:
            client.send(masked(9, b"x" * 125) * 500)
    except (BlockingIOError, ConnectionError):
        client.setblocking(True)
    return client


KINDS = (
    never_reads,
    reads_fast_and_stops,
    event_stream_that_stops,
    answer_that_is_not_read,
    half_a_request,
    unfinished_message,
    compressed_messages,
    sends_and_does_not_read,
)


def test_hostile_clients_hold_no_more_than_the_documented_sum(
    serve: Serve, records: Records
) -> None:
    service = serve(
        server={"workers": 1, "handshake_timeout_seconds": 60, "tcp_user_timeout_seconds": 60},
        # It is soon full, and grows no more.
        history={"max_bytes": 4 * MIB},
    ).ready()
    worker = service.children()["worker-0"]
    # What the worker keeps of its ring, and of the first clients of each kind, is not theirs.
    for _ in range(2):
        send(service, records)
    with ExitStack() as warm:
        for kind in KINDS:
            warm.enter_context(kind(service))
        send(service, records)
    most, filled = EACH * pinned_bytes(DEFAULTS), 0
    for kind in KINDS:
        before = worker.memory_info().rss
        with ExitStack() as hostile:
            clients = [hostile.enter_context(kind(service)) for _ in range(EACH)]
            send(service, records)
            kernel = [unacknowledged(client) for client in clients]
            grown = worker.memory_info().rss - before
        print(f"{kind.__name__}: {grown / KIB / EACH:.0f} KiB, {max(kernel) / KIB:.0f} KiB")
        assert grown + sum(kernel) < most, kind
        assert max(kernel) <= MOST_SENT, kind
        filled = max(filled, *kernel)
    # Some have filled the kernel's buffer.
    assert filled > MOST_SENT / 4


def send(service: Service, records: Records) -> None:
    """Send records, until the worker has written them."""
    written = service.boards()["worker-0"]["frames"] + RECORDS
    records.send(RECORDS, pad=PAD)
    eventually(lambda: service.boards()["worker-0"]["frames"] == written, "all are written")
