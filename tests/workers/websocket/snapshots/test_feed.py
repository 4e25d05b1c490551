from __future__ import annotations

from collections.abc import Callable
from typing import Any

from energyws.protocol.frame import DataFrames, split
from energyws.protocol.position import parse
from energyws.stream.snapshot_messages import TableState
from tests.workers.websocket.fanout.keyed_stream import keys
from workers.websocket.snapshots.client import Scan, Snapshot, Step
from workers.websocket.snapshots.feed import PIECE_BYTES, Feed

FRAMES = DataFrames("energy")
STATE = TableState(parse("ab-7"), True, None, 9, "t1", 20)


class Steps:
    """A client whose steps the test gives."""

    def __init__(self) -> None:
        self.known: dict[int, Step] = {}
        self.asked: list[tuple[Scan, Callable[[Step | None], None]]] = []
        self.woken: list[int] = []

    def step(self, scan: Scan, done: Callable[[Step | None], None]) -> Step | None:
        if scan.slot not in self.known:
            self.asked.append((scan, done))
        return self.known.get(scan.slot)


def scan(slot: int) -> Scan:
    return Scan("energy", None, STATE, slot)


def frames(*keys: bytes, size: int = 0) -> bytes:
    data = b'{"x":"%b"}' % (b"x" * size)
    return b"".join(FRAMES.snapshot(key, 1_000, data) for key in keys)


def feed(steps: Steps, count: int, data: bytes, left: Scan | None = None) -> Feed:
    client: Any = steps
    return Feed(client, Snapshot(STATE, count, data, count, left), lambda: steps.woken.append(0))


def never() -> None:
    raise AssertionError


def test_small_snapshot_is_one_piece() -> None:
    made = feed(Steps(), 2, frames(b"a", b"b"))
    assert str(made.position) == "ab-7"
    assert not made.over
    assert made.take(never) == (2, frames(b"a", b"b"))
    assert made.over


def test_snapshot_without_a_record_is_over_at_once() -> None:
    assert feed(Steps(), 0, b"").over


def test_large_snapshot_comes_in_pieces_of_whole_frames() -> None:
    keys = [b"%d" % n for n in range(40)]
    data = frames(*keys, size=9_000) + frames(b"huge", size=3 * PIECE_BYTES) + frames(b"last")
    made = feed(Steps(), 42, data)
    taken = []
    while not made.over:
        piece = made.take(never)
        assert piece is not None
        assert len(list(split(piece[1]))) == piece[0]
        assert len(piece[1]) <= PIECE_BYTES or piece[0] == 1
        taken.append(piece)
    assert b"".join(data for _, data in taken) == data
    assert sum(count for count, _ in taken) == 42


def test_scan_is_asked_for_as_it_is_taken() -> None:
    steps, woken = Steps(), list[int]()
    made = feed(steps, 1, frames(b"a"), scan(5))
    assert made.take(never) == (1, frames(b"a"))
    assert not made.over
    assert made.take(lambda: woken.append(1)) is None
    assert made.take(lambda: woken.append(2)) is None
    ((asked, done),) = steps.asked
    assert asked == scan(5)
    # A step may have nothing for this scan.
    done(Step(0, b"", scan(9)))
    assert (woken, steps.woken) == ([2], [0])
    steps.known[9] = Step(1, frames(b"b"), None)
    assert made.take(never) == (1, frames(b"b"))
    assert made.over


def test_failed_scan_says_so() -> None:
    steps, woken = Steps(), list[int]()
    made = feed(steps, 0, b"", scan(5))
    assert made.take(lambda: woken.append(1)) is None
    steps.asked[0][1](None)
    assert (made.failed, woken) == (True, [1])


def test_rest_of_a_snapshot_is_for_the_keys_that_its_client_has_had_all_the_time() -> None:
    steps = Steps()
    made = feed(steps, 4, frames(b"a", b"b", b"c", b"d"), scan(5))
    made.goes_on(None)
    made.goes_on(keys("a", "b", "e"))
    made.goes_on(keys("b", "d", "e"))
    assert (made.told.complete, made.told.keys) == (True, None)
    assert made.take(never) == (1, frames(b"b"))
    # It goes on also while a step is on its way.
    assert made.take(lambda: None) is None
    made.goes_on(keys("e", "f"))
    steps.asked[0][1](Step(4, frames(b"b", b"d", b"e", b"f"), None))
    assert made.take(never) == (1, frames(b"e"))
    assert made.over
