"""Clients that read slowly or not at all learn what they missed, and affect no other client."""

from __future__ import annotations

import itertools
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from energyws.protocol.position import Position, parse
from energyws.testing import PARTITIONS, Records, Service, eventually, token
from tests.clients import (
    PATIENCE_SECONDS,
    bare_socket,
    first_frame,
    open_peer,
    response_head,
    upgrade_request,
)

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]

# The worker's ring is so small that a client that stops reading soon misses records.
SHALLOW = {"max_frames": 50, "warm": 5}
# More than the buffers of a socket (4 MiB) and SHALLOW hold together.
FLOOD_RECORDS = 400
FLOOD_PAD = "x" * 20_000

HOSTILE = 128
HOSTILE_RECORDS = 4_096
HOSTILE_PAD = "x" * 4_096
# The limit for the memory of a client that never reads: server.write_buffer_bytes (64 KiB), the
# last write, which may join frames and is shared by the clients that stopped there (some tens of
# KiB), and a TLS connection (60 KiB). A server that queues unread frames would need
# HOSTILE_RECORDS x 4 KiB = 16 MiB for each.
HOSTILE_BYTES = 256 * 1024


@contextmanager
def stalled(
    service: Service, query: str = "?subscribe=energy", trust: ssl.SSLContext | None = None
) -> Iterator[socket.socket]:
    """A subscribed client with a small receive buffer, which has read nothing but the handshake."""
    with bare_socket(service, trust) as client:
        # With a much smaller buffer, it would take minutes to read what the server has buffered.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(upgrade_request(service, query=query))
        assert " 101 " in response_head(client)
        yield client


@contextmanager
def asking(
    service: Service, path: str, trust: ssl.SSLContext | None = None
) -> Iterator[socket.socket]:
    """A client of HTTP with a small receive buffer, which reads nothing but the response's head."""
    with bare_socket(service, trust) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        bearer = f"Authorization: Bearer {token()}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n\r\n".encode())
        assert " 200 " in response_head(client)
        yield client


class Honest:
    """A subscribed client that keeps up, on a bare socket: websockets' threads share an SSL
    object, which Python 3.11 does not allow.
    """

    def __init__(self, client: socket.socket) -> None:
        self._messages = messages(client)
        # A worker may be ready just before it knows the consumer's floor, and sends a notice then.
        types = (each["type"] for each in self._messages)
        assert next(kind for kind in types if kind != "notice") == "subscribed"

    def numbers(self, count: int) -> list[int]:
        """The numbers of the next `count` messages, which must be records."""
        return [each["data"]["n"] for each in itertools.islice(self._messages, count)]


@contextmanager
def reading(service: Service, trust: ssl.SSLContext | None = None) -> Iterator[Honest]:
    """An honest client."""
    with bare_socket(service, trust) as client:
        client.sendall(upgrade_request(service, query="?subscribe=energy"))
        assert " 101 " in response_head(client)
        yield Honest(client)


def messages(client: socket.socket, step: int = 1 << 20) -> Iterator[dict[str, Any]]:
    """Everything that was sent to a client, to its end; a close frame is the last, as its code.

    step: the number of bytes that are read at a time.
    """
    client.settimeout(PATIENCE_SECONDS)
    data = b""
    while True:
        while (frame := first_frame(data)) is not None:
            opcode, (payload, data) = data[0] & 0xF, frame
            if opcode == 8:
                yield {"type": "close", "code": int.from_bytes(payload[:2], "big")}
                return
            if opcode == 1:
                yield orjson.loads(payload)
        piece = client.recv(step)
        if not piece:
            return
        data += piece


def flood(records: Records, honest: Honest, count: int, pad: str, step: int = 50) -> list[int]:
    """Write records while an honest client keeps up; the numbers that it got."""
    numbers: list[int] = []
    for _ in range(0, count, step):
        records.send(step, pad=pad)
        numbers += honest.numbers(step)
    return numbers


def between(begin: Position, end: Position) -> set[int]:
    """The numbers of the records between two positions, of a topic that only Records wrote to."""
    return {
        offset * PARTITIONS + partition
        for partition in range(PARTITIONS)
        for offset in range(begin.offsets[partition], end.offsets[partition])
    }


def in_order(numbers: list[int]) -> bool:
    """Whether the records of each partition are in order, each once."""
    return all(
        own == sorted(set(own))
        for partition in range(PARTITIONS)
        for own in [[n for n in numbers if n % PARTITIONS == partition]]
    )


def board(service: Service, field: str) -> int:
    """One figure of the only worker."""
    workers: list[dict[str, Any]] = service.admin("/workers")[1]
    value: int = next(each["board"][field] for each in workers if each["name"] == "worker-0")
    return value


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """server.tls: a certificate of its own for 127.0.0.1."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-keyout {key} -out {cert} -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1",
        shell=True,
        check=True,
        capture_output=True,
    )
    return {"cert": str(cert), "key": str(key)}


@pytest.fixture(params=["ws", "wss"])
def server(
    request: pytest.FixtureRequest, tls: dict[str, str]
) -> tuple[dict[str, Any], ssl.SSLContext | None]:
    """The section `server` with one worker, and the TLS context of its clients."""
    if request.param == "ws":
        return {"workers": 1}, None
    return {"workers": 1, "tls": tls}, ssl.create_default_context(cafile=tls["cert"])


def test_lagged_reports_exactly_the_missing_records(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}, history=SHALLOW).ready()
    numbers: list[int] = []
    gaps: list[dict[str, Any]] = []
    with stalled(service) as slow, reading(service) as honest:
        flood(records, honest, FLOOD_RECORDS, FLOOD_PAD)
        for message in messages(slow):
            if message["type"] == "data":
                numbers.append(message["data"]["n"])
            elif message["type"] == "lagged":
                gaps.append(message)
            if len(numbers) + sum(gap["missed"] for gap in gaps) >= FLOOD_RECORDS:
                break
    assert gaps, "the buffers took everything: nothing was tested"
    assert in_order(numbers)
    missing = [between(parse(gap["from"]), parse(gap["to"])) for gap in gaps]
    assert [len(each) for each in missing] == [gap["missed"] for gap in gaps]
    assert set.union(*missing) == set(range(FLOOD_RECORDS)) - set(numbers)
    # Resuming from `from` brings the missing records and all later ones; from `to` the later ones.
    for gap, absent in zip(gaps, missing, strict=True):
        after = between(parse(gap["to"]), Position("0", (FLOOD_RECORDS,) * PARTITIONS))
        after &= set(range(FLOOD_RECORDS))
        for end, expected in (("from", absent | after), ("to", after)):
            with open_peer(service) as again:
                assert again.subscribe(resume={"energy": gap[end]})["recovered"]
                returned = again.numbers(len(expected))
                assert set(returned) == expected
                assert in_order(returned)


def test_latest_continues_with_the_newest_and_reports_the_gap(
    serve: Serve, records: Records
) -> None:
    # The ring holds all records: they are skipped at the client's wish.
    service = serve(server={"workers": 1}).ready()
    with stalled(service, "?subscribe=energy&on_lag=latest") as slow, reading(service) as honest:
        newest = flood(records, honest, FLOOD_RECORDS, FLOOD_PAD)[-1]
        numbers: list[int] = []
        missed = 0
        for message in messages(slow):
            if message["type"] == "data":
                numbers.append(message["data"]["n"])
            elif message["type"] == "lagged":
                assert (
                    len(between(parse(message["from"]), parse(message["to"])))
                    == (message["missed"])
                )
                missed += message["missed"]
            if len(numbers) + missed == FLOOD_RECORDS:
                break
        assert missed > 0
        assert numbers[-1] == newest
        assert in_order(numbers)


def test_disconnect_closes_with_4008_and_a_resume_loses_nothing(
    serve: Serve, records: Records
) -> None:
    service = serve(server={"workers": 1}, history=SHALLOW).ready()
    numbers: list[int] = []
    query = "?subscribe=energy&on_lag=disconnect"
    with stalled(service, query) as slow, reading(service) as honest:
        flood(records, honest, FLOOD_RECORDS, FLOOD_PAD)
        position = None
        for message in messages(slow):
            if message["type"] == "data":
                numbers.append(message["data"]["n"])
                seen = parse(message["id"])
                position = seen if position is None else position.merge(seen)
        assert message == {"type": "close", "code": 4008}
    assert 0 < len(numbers) < FLOOD_RECORDS
    with open_peer(service) as again:
        assert again.subscribe(resume={"energy": str(position)}, on_lag="disconnect")["recovered"]
        numbers += again.numbers(FLOOD_RECORDS - len(numbers))
        numbers += again.numbers(len(records.send(3)))
    assert sorted(numbers) == list(range(records.sent))
    assert in_order(numbers)


def test_clients_that_never_read_cost_constant_memory_and_no_other_client_a_frame(
    serve: Serve,
    records: Records,
    server: tuple[dict[str, Any], ssl.SSLContext | None],
) -> None:
    settings, trust = server
    service = serve(server=settings, history=SHALLOW).ready()
    worker = service.children()["worker-0"]
    with reading(service, trust) as honest, ExitStack() as open_clients:
        # A first flood, whose memory the worker keeps, is not counted. At once come fewer records
        # than the worker's ring holds: who reads must not miss any.
        flood(records, honest, 2_048, HOSTILE_PAD, step=32)
        before = most = worker.memory_info().rss
        for _ in range(HOSTILE):
            open_clients.enter_context(stalled(service, trust=trust))
        numbers: list[int] = []
        while len(numbers) < HOSTILE_RECORDS:
            numbers += flood(records, honest, 256, HOSTILE_PAD, step=32)
            most = max(most, worker.memory_info().rss)
        assert sorted(numbers) == list(range(2_048, records.sent))
        assert in_order(numbers)
        # All of them are still connected, each with its cursor.
        eventually(lambda: board(service, "lagging") == HOSTILE, "the clients that never read lag")
        assert board(service, "connections") == HOSTILE + 1
    each = (most - before) / HOSTILE
    print(f"{each / 1024:.0f} KiB for each client that never reads")
    assert each < HOSTILE_BYTES


def test_connections_of_clients_that_never_read_end(
    serve: Serve,
    records: Records,
    server: tuple[dict[str, Any], ssl.SSLContext | None],
) -> None:
    settings, trust = server
    service = serve(server={**settings, "tcp_user_timeout_seconds": 1.0}, history=SHALLOW).ready()
    with ExitStack() as open_clients:
        for _ in range(4):
            open_clients.enter_context(stalled(service, trust=trust))
            open_clients.enter_context(asking(service, "/sse/energy", trust))
        honest = open_clients.enter_context(reading(service, trust))
        assert board(service, "connections") == 9
        numbers = flood(records, honest, FLOOD_RECORDS, FLOOD_PAD)
        history = f"/history/energy?last={FLOOD_RECORDS}"
        open_clients.enter_context(asking(service, history, trust))
        # The connections end although the worker writes no more to them.
        eventually(
            lambda: board(service, "connections") == 1, "the clients that never read are gone", 10
        )
        numbers += honest.numbers(len(records.send(3)))
        assert sorted(numbers) == list(range(records.sent))
        for parts in (("WebSocket client disconnected",), ("client disconnected", "kind=sse")):
            eventually(
                lambda parts=parts: len(service.logged(*parts, "code=1006 by=client")) == 4,
                "each is in the log",
            )


def test_client_that_pauses_now_and_then_keeps_its_connection(
    serve: Serve, records: Records
) -> None:
    """TCP_USER_TIMEOUT would end its connection at the second pause."""
    service = serve(server={"workers": 1, "tcp_user_timeout_seconds": 1.5}).ready()
    with socket.socket() as client:
        # So small that a read makes room for less than a segment.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", service.port))
        client.sendall(upgrade_request(service, query="?subscribe=energy"))
        assert " 101 " in response_head(client)
        received = messages(client, 300)
        numbers: list[int] = []
        for _ in range(3):
            records.send(10, pad=FLOOD_PAD)
            # The kernel probes the closed window, first after 0.2 s.
            time.sleep(0.5)
            while len(numbers) < records.sent:
                message = next(received)
                assert message["type"] in ("subscribed", "notice", "data")
                if message["type"] == "data":
                    numbers.append(message["data"]["n"])
            time.sleep(2.0)
        assert sorted(numbers) == list(range(records.sent))


def test_clients_that_never_read_do_not_delay_the_end(
    serve: Serve,
    records: Records,
    server: tuple[dict[str, Any], ssl.SSLContext | None],
) -> None:
    settings, trust = server
    service = serve(server=settings, history=SHALLOW).ready()
    with ExitStack() as open_clients:
        for _ in range(8):
            open_clients.enter_context(stalled(service, trust=trust))
        with reading(service, trust) as honest:
            flood(records, honest, FLOOD_RECORDS, FLOOD_PAD)
        began = time.monotonic()
        assert service.stop() == 0
        # These tests have a drain_seconds of 0.2 and a close_timeout_seconds of 0.5.
        assert time.monotonic() - began < 5
