"""A round goes to each live client that wants some of it, and to it once."""

from __future__ import annotations

import pytest

from energyws.process.board import Field
from energyws.protocol.forms import Form
from tests.workers.websocket.fanout.keyed_stream import KeyedStream
from workers.websocket.fanout.groups import LEAST_CROWD


@pytest.fixture
def stream() -> KeyedStream:
    return KeyedStream()


def test_each_client_gets_its_keys_in_one_write(stream: KeyedStream) -> None:
    one, two, both = stream.client("a"), stream.client("b"), stream.client("a", "b")
    for key in ("a", "b", "c", None, "a"):
        stream.record(key)
    stream.settle()
    assert (one.numbers, two.numbers, both.numbers) == ([0, 4], [1], [0, 1, 4])
    assert (stream.row[Field.WRITES], stream.row[Field.DELIVERIES]) == (3, 6)


def test_frames_that_nobody_wants_cost_no_write(stream: KeyedStream) -> None:
    stream.client("a")
    for _ in range(10):
        stream.record("b")
    stream.settle()
    assert stream.row[Field.WRITES] == 0
    assert not stream.fanout.has_news()


def test_turn_makes_no_more_writes_than_allowed(stream: KeyedStream) -> None:
    clients = [stream.client(f"{n % 5}") for n in range(5 * (LEAST_CROWD - 1))]
    crowd = [stream.client("5") for _ in range(2 * LEAST_CROWD)]
    for n in range(6):
        stream.record(f"{n}")
    everyone = [*clients, *crowd]
    done = 0
    while done < len(everyone):
        left = stream.fanout.work(3, 0.0)
        wrote, done = (
            sum(len(each.numbers) for each in everyone) - done,
            sum(len(each.numbers) for each in everyone),
        )
        # A small group is served as a whole.
        assert 0 < wrote < 3 + LEAST_CROWD
        assert left == 0 or done == len(everyone)


@pytest.mark.parametrize("size", [1, 2 * LEAST_CROWD])
def test_client_that_comes_during_a_round_gets_later_records(
    stream: KeyedStream, size: int
) -> None:
    clients = [stream.client("a") for _ in range(size)]
    others = [stream.client("b") for _ in range(size)]
    stream.record("a")
    stream.record("b")
    stream.fanout.work(1, 0.0)
    late = stream.client("b")
    stream.settle()
    stream.record("b")
    stream.settle()
    assert [each.numbers for each in clients] == [[0]] * size
    assert [each.numbers for each in others] == [[1, 2]] * size
    assert late.numbers == [2]


@pytest.mark.parametrize("size", [1, 2 * LEAST_CROWD])
def test_client_that_pauses_before_its_turn_is_before_what_it_did_not_get(
    stream: KeyedStream, size: int
) -> None:
    clients = [stream.client("a") for _ in range(size)]
    others = [stream.client("b") for _ in range(size)]
    stream.record("a")
    stream.record("b")
    stream.fanout.work(1, 0.0)
    for each in (*clients, *others):
        each.pause()
        word = stream.fanout.last_word(each)
        assert word is not None
        # The client checks that this is not beyond what it got.
        each.write(word)
        each.resume()
    stream.settle()
    assert [each.numbers for each in clients] == [[0]] * size
    assert [each.numbers for each in others] == [[1]] * size


def test_client_that_leaves_during_a_round_gets_nothing_more(stream: KeyedStream) -> None:
    clients = [stream.client(key) for key in "abc"]
    for key in "abc":
        stream.record(key)
    stream.fanout.work(1, 0.0)
    for each in clients:
        stream.fanout.leave(each)
    stream.settle()
    assert sum(len(each.numbers) for each in clients) == 1
    assert stream.fanout.keyed.groups.keys == 0


def test_frames_are_compressed_for_groups_only_that_are_large_enough() -> None:
    stream = KeyedStream(form=Form.DEFLATE)
    alone = stream.client("b")
    together = [stream.client("a") for _ in range(3)]
    wrote: list[bytes] = []
    for each in (alone, together[0]):
        take = each.write
        each.write = lambda data, take=take: (wrote.append(data), take(data))  # type: ignore[method-assign, misc]
    stream.record("b")
    stream.record("a")
    stream.settle()
    assert [data[0] for data in wrote] == [0x81, 0xC1]


def test_more_than_the_ring_holds_in_one_turn_comes_from_the_log() -> None:
    stream = KeyedStream(max_frames=5)
    client = stream.client("a")
    numbers = [stream.record("a" if n % 3 == 0 else "b") for n in range(20)]
    stream.settle()
    assert client.numbers == numbers[::3]
