"""One batch to many clients: each gets it once, unless it leaves before its turn."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.deflate import Compressor, compress
from energyws.protocol.frame import TEXT, encode
from energyws.protocol.position import from_offsets
from workers.websocket.fanout.batch import LEAST_QUEUED, Batch, join
from workers.websocket.fanout.crowd import NO_SEAT, Crowd
from workers.websocket.io_uring.send_queue import ENTRIES, SendQueue

REACHED = from_offsets("abcd0123", [1])


class Client:
    """A client that is its own subscription, transport and socket."""

    def __init__(self, descriptor: int = 0) -> None:
        self.seat = NO_SEAT
        self.descriptor = descriptor
        self.received: list[bytes] = []
        # What its transport was given, and what it holds.
        self.written: list[bytes] = []
        self.held = 0

    @property
    def client(self) -> Client:
        return self

    @property
    def sink(self) -> Client:
        return self

    def write(self, data: bytes) -> None:
        self.write_nocheck(data)

    def write_nocheck(self, data: bytes) -> None:
        self.written.append(data)
        self.received.append(data)

    def get_write_buffer_size(self) -> int:
        return self.held

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str) -> Client:
        assert name == "socket"
        return self

    def fileno(self) -> int:
        return self.descriptor


class OtherClient(Client):
    """A client of another type, with a different write method."""

    def write_nocheck(self, data: bytes) -> None:
        self.received.append(data.upper())


class TlsClient(Client):
    def can_write_eof(self) -> bool:
        return False


class Queue:
    """A send queue whose sockets take as much as `takes` says, or everything."""

    def __init__(self, clients: list[Client]) -> None:
        self.failure: OSError | None = None
        self.clients = {client.descriptor: client for client in clients}
        self.takes: dict[int, int] = {}
        self.counts: list[int] = []

    def send(self, descriptors: array[int], data: bytes) -> Sequence[tuple[int, int]]:
        self.counts.append(len(descriptors))
        short = []
        for nth, descriptor in enumerate(descriptors):
            taken = self.takes.get(descriptor, len(data))
            self.clients[descriptor].received.append(data[:taken])
            if taken < len(data):
                short.append((nth, taken))
        return short


def crowd(clients: Sequence[Client], queue: Queue | None = None) -> Crowd:
    made = Crowd(cast(SendQueue | None, queue))
    for client in clients:
        made.join(client)
    made.settle()
    return made


def batch(clients: Sequence[Client], first: int = 0, queue: Queue | None = None) -> Batch:
    return Batch(b"data", 1, 1, REACHED, crowd(clients, queue), first)


def many(count: int) -> list[Client]:
    return [Client(descriptor) for descriptor in range(100, 100 + count)]


@given(st.integers(1, 3 * ENTRIES), st.booleans(), st.data())
def test_each_client_gets_the_batch_once_unless_it_leaves_before_its_turn(
    size: int, queued: bool, data: st.DataObject
) -> None:
    clients = many(size)
    them = crowd(clients, Queue(clients) if queued else None)
    it = Batch(b"data", 1, 1, REACHED, them, data.draw(st.integers(0, size - 1), "first"))
    left: set[Client] = set()
    written = 0
    while not it.over:
        written += it.send(data.draw(st.integers(1, size), "most"))
        leaver = data.draw(st.sampled_from(clients), "leaver")
        served = bool(leaver.received)
        assert it.waits(leaver) is (not served and leaver not in left)
        if it.waits(leaver):
            left.add(leaver)
        them.leave(leaver)
    assert all(client.received == [b"data"] * (client not in left) for client in clients)
    assert written == size - len(left)


@pytest.mark.parametrize("queued", [False, True])
def test_batch_begins_with_the_first_client_and_a_turn_is_bounded(queued: bool) -> None:
    clients = many(5)
    it = batch(clients, 3, Queue(clients) if queued else None)
    assert it.send(3) == 3
    assert [len(client.received) for client in clients] == [1, 0, 0, 1, 1]
    assert (it.served, it.over) == (3, False)
    assert it.send(100) == 2
    assert it.over


def test_client_that_leaves_during_its_write_counts_as_served() -> None:
    class Leaving(Client):
        def write_nocheck(self, data: bytes) -> None:
            super().write_nocheck(data)
            assert not it.waits(self)
            them.leave(self)

    clients = [Leaving() for _ in range(3)]
    them = crowd(clients)
    it = Batch(b"data", 1, 1, REACHED, them, 0)
    assert it.send(3) == 3


def test_batch_does_not_wait_for_a_later_client() -> None:
    it = batch([Client()])
    assert not it.waits(Client())


@pytest.mark.parametrize("clients", [[Client(), OtherClient()], [OtherClient()]])
def test_each_type_of_sink_uses_its_own_write_method(clients: list[Client]) -> None:
    batch(clients).send(2)
    for client in clients:
        assert client.received == [b"DATA" if isinstance(client, OtherClient) else b"data"]


def test_queue_takes_slices_and_their_transports_write_nothing() -> None:
    clients = many(2 * ENTRIES + 10)
    queue = Queue(clients)
    batch(clients, 0, queue).send(1_000)
    assert queue.counts == [ENTRIES, ENTRIES, 10]
    assert not any(client.written for client in clients)


def test_few_clients_are_not_worth_a_queue() -> None:
    clients = many(LEAST_QUEUED - 1)
    queue = Queue(clients)
    batch(clients, 0, queue).send(1_000)
    assert queue.counts == []
    assert all(client.written == [b"data"] for client in clients)


def test_transport_writes_what_the_socket_did_not_take() -> None:
    clients = many(20)
    queue = Queue(clients)
    queue.takes = {103: 0, 107: 1}
    batch(clients, 0, queue).send(1_000)
    assert [client.written for client in clients if client.written] == [[b"data"], [b"ata"]]
    assert all(b"".join(client.received) == b"data" for client in clients)


def test_those_who_stop_in_the_middle_of_a_batch_share_its_bytes() -> None:
    clients = many(20)
    queue = Queue(clients)
    queue.takes = {103: 0, 107: 1}
    it = batch(clients, 0, queue)
    it.send(1_000)
    for client in (clients[3], clients[7]):
        assert memoryview(client.written[0]).obj is it.data


def test_nothing_passes_a_transport_that_holds_bytes() -> None:
    clients = many(20)
    queue = Queue(clients)
    them = crowd(clients, queue)
    clients[4].held = 1
    them.backlog(clients[4])
    Batch(b"data", 1, 1, REACHED, them, 0).send(20)
    assert clients[4].written == [b"data"]
    assert queue.counts == [19]
    clients[4].held = 0
    Batch(b"more", 1, 1, REACHED, them, 0).send(20)
    assert clients[4].received == [b"data", b"more"]
    assert queue.counts == [19, 20]


def test_backlog_that_is_known_is_not_reported_again() -> None:
    class Reporting(Client):
        def write(self, data: bytes) -> None:
            raise AssertionError("reported")

    clients: list[Client] = [Reporting(descriptor) for descriptor in range(100, 120)]
    clients[4].held = 1
    it = batch(clients, 0, Queue(clients))
    assert it.send(20) == 20
    assert clients[4].written == [b"data"]


def test_one_client_that_does_not_read_costs_other_slices_nothing() -> None:
    class Counting(Crowd):
        def may_pass(self, seat: int) -> bool:
            asked.append(seat)
            return super().may_pass(seat)

    clients = many(3 * ENTRIES)
    clients[ENTRIES].held = 1
    them = Counting(cast(SendQueue, Queue(clients)))
    for client in clients:
        them.join(client)
    asked: list[int] = []
    them.settle()
    asked.clear()
    Batch(b"data", 1, 1, REACHED, them, 0).send(1_000)
    assert asked == list(range(ENTRIES, 2 * ENTRIES))
    assert all(client.received == [b"data"] for client in clients)


def test_clients_with_tls_are_served_by_their_transports_alone() -> None:
    clients = many(20)
    secure = [TlsClient(200 + nth) for nth in range(20)]
    queue = Queue(clients)
    batch([*clients, *secure], 0, queue).send(1_000)
    assert sum(queue.counts) == len(clients)
    assert all(client.received == [b"data"] for client in [*clients, *secure])
    counts = list(queue.counts)
    batch(secure, 0, queue).send(1_000)
    assert queue.counts == counts


def test_queue_that_has_failed_is_not_used() -> None:
    clients = many(20)
    queue = Queue(clients)
    queue.failure = OSError()
    batch(clients, 0, queue).send(1_000)
    assert queue.counts == []
    assert all(client.received == [b"data"] for client in clients)


def test_frames_are_compressed_one_by_one() -> None:
    frames = [encode(TEXT, b"[" + digit * 300 + b"]") for digit in (b"1", b"2")]
    assert join(frames, None) == b"".join(frames)
    assert join(frames, Compressor(10_000)) == b"".join(map(compress, frames))
