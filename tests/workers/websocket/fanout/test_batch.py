"""One batch to many clients: each gets it once, unless it leaves before its turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.deflate import Compressor, compress
from energyws.protocol.frame import TEXT, encode
from energyws.protocol.position import from_offsets
from workers.websocket.fanout.batch import SIDE_BY_SIDE, Batch, Recipients, join

REACHED = from_offsets("abcd0123", [1])


class Client:
    """A client that is its own sink."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    @property
    def sink(self) -> Client:
        return self

    def write_nocheck(self, data: bytes) -> None:
        self.received.append(data)


class OtherClient(Client):
    """A client of another type, with a different write method."""

    def write_nocheck(self, data: bytes) -> None:
        self.received.append(data.upper())


def batch(clients: list[Client], first: int = 0) -> Batch:
    return Batch(b"data", 1, 1, REACHED, Recipients(clients), first)


@given(
    st.integers(1, 3 * SIDE_BY_SIDE),
    st.data(),
)
def test_each_client_gets_the_batch_once_unless_it_leaves_before_its_turn(
    size: int, data: st.DataObject
) -> None:
    clients = [Client() for _ in range(size)]
    it = batch(clients, data.draw(st.integers(0, size - 1), "first"))
    left: set[Client] = set()
    written = 0
    while not it.over:
        written += it.send(data.draw(st.integers(1, size), "most"))
        leaver = data.draw(st.sampled_from(clients), "leaver")
        served = bool(leaver.received)
        assert it.waits(leaver) is (not served and leaver not in left)
        if it.drop(leaver):
            left.add(leaver)
    assert all(client.received == [b"data"] * (client not in left) for client in clients)
    assert written == size - len(left)


def test_batch_begins_with_the_first_client_and_a_turn_is_bounded() -> None:
    clients = [Client() for _ in range(5)]
    it = batch(clients, first=3)
    assert it.send(3) == 3
    assert [len(client.received) for client in clients] == [1, 0, 0, 1, 1]
    assert (it.served, it.over) == (3, False)
    assert it.send(100) == 2
    assert it.over


def test_client_that_leaves_during_its_write_counts_as_served() -> None:
    class Leaving(Client):
        def write_nocheck(self, data: bytes) -> None:
            super().write_nocheck(data)
            assert not it.drop(self)

    clients: list[Client] = [Leaving() for _ in range(3)]
    it = batch(clients)
    assert it.send(3) == 3


def test_batch_does_not_wait_for_a_later_client() -> None:
    it = batch([Client()])
    later = Client()
    assert not it.waits(later)
    assert not it.drop(later)


@pytest.mark.parametrize("clients", [[Client(), OtherClient()], [OtherClient()]])
def test_each_type_of_sink_uses_its_own_write_method(clients: list[Client]) -> None:
    batch(clients).send(2)
    for client in clients:
        assert client.received == [b"DATA" if isinstance(client, OtherClient) else b"data"]


def test_frames_are_compressed_one_by_one() -> None:
    frames = [encode(TEXT, b"[" + digit * 300 + b"]") for digit in (b"1", b"2")]
    assert join(frames, None) == b"".join(frames)
    assert join(frames, Compressor(10_000)) == b"".join(map(compress, frames))
