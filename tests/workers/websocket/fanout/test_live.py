"""A batch goes to every live client once, whoever comes, pauses or leaves meanwhile."""

from __future__ import annotations

import pytest

from energyws.process.board import Field
from tests.workers.websocket.fanout.one_stream import EPOCH, OneStream, ReadingClient


def test_pending_frames_are_one_write(stream: OneStream) -> None:
    clients = [ReadingClient() for _ in range(3)]
    for client in clients:
        stream.subscribe(client)
    numbers = stream.records(20)
    stream.settle()
    assert [client.numbers for client in clients] == [numbers] * 3
    assert [client.writes for client in clients] == [1] * 3
    assert stream.row[Field.DELIVERIES] == 60
    assert stream.row[Field.WRITES] == 3


def test_turn_makes_no_more_writes_than_allowed(stream: OneStream) -> None:
    clients = [ReadingClient() for _ in range(10)]
    for client in clients:
        stream.subscribe(client)
    stream.records(1)
    assert stream.fanout.work(4, 0.0) == 0
    assert sum(client.writes for client in clients) == 4
    # Later records wait for the next batch, and no client gets a record twice.
    stream.records(2)
    stream.settle(writes=4)
    assert [client.numbers for client in clients] == [[0, 1, 2]] * 10


def test_client_that_subscribes_during_a_fan_out_gets_later_records(
    stream: OneStream,
) -> None:
    early = [ReadingClient() for _ in range(6)]
    for client in early:
        stream.subscribe(client)
    stream.records(3)
    stream.fanout.work(2, 0.0)
    late = ReadingClient()
    reply = stream.subscribe(late)
    stream.records(2)
    stream.settle()
    assert late.numbers == [3, 4]
    assert reply.position == f"{EPOCH}-2.1"
    assert [client.numbers for client in early] == [[0, 1, 2, 3, 4]] * 6


def test_client_that_leaves_during_a_fan_out_gets_nothing_more(stream: OneStream) -> None:
    clients = [ReadingClient() for _ in range(4)]
    for client in clients:
        stream.subscribe(client)
    stream.records(1)
    stream.fanout.work(2, 0.0)
    for client in clients:
        stream.fanout.leave(client)
    stream.settle()
    assert sorted(client.writes for client in clients) == [0, 0, 1, 1]
    assert len(stream.fanout.catch_up) == 0
    assert stream.row[Field.DELIVERIES] == 2


def test_first_client_of_a_batch_varies(stream: OneStream) -> None:
    clients = [ReadingClient() for _ in range(20)]
    for client in clients:
        stream.subscribe(client)
    first = set()
    for round_ in range(50):
        stream.records(1)
        stream.fanout.work(1, 0.0)
        first |= {at for at, client in enumerate(clients) if client.writes > round_}
        stream.settle()
    # By chance, it is the same every time once in 20 ** 49 runs.
    assert len(first) > 1
    assert [client.numbers for client in clients] == [list(range(50))] * 20


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_client_that_pauses_during_a_fan_out_gets_its_frames_once(
    stream: OneStream, turns: int
) -> None:
    clients = [ReadingClient() for _ in range(6)]
    for client in clients:
        stream.subscribe(client)
    stream.records(2)
    for _ in range(turns):
        stream.fanout.work(1, 0.0)
    for client in clients:
        client.pause()
    stream.records(1)
    stream.settle()
    assert sum(client.writes for client in clients) == turns
    assert len(stream.fanout.catch_up) == 6
    for client in clients:
        client.resume()
    stream.settle()
    assert [client.numbers for client in clients] == [[0, 1, 2]] * 6
