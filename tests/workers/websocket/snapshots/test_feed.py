from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from energyws.protocol.frame import DataFrames, split
from energyws.protocol.position import parse
from energyws.protocol.snapshot_told import SnapshotTold
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

    def step(self, scan: Scan, subject: str, done: Callable[[Step | None], None]) -> Step | None:
        assert subject == "tester"
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
    return Feed(
        client, Snapshot(STATE, count, data, count, left), "tester", lambda: steps.woken.append(0)
    )


def told(complete: bool, since_ms: int | None) -> TableState:
    return replace(STATE, complete=complete, since_ms=since_ms)


@pytest.mark.parametrize(
    ("begun", "later", "had"),
    [
        pytest.param((True, None), [(True, None)], None, id="as it was"),
        pytest.param((True, None), [(False, 5)], (False, 5), id="less"),
        pytest.param((True, None), [(False, 5), (False, 9)], (False, 9), id="less and less"),
        pytest.param((True, None), [(False, None)], (False, None), id="unknown"),
        pytest.param((False, 5), [(False, 5)], None, id="as little as it was"),
        pytest.param((False, 5), [(False, 5), (False, 9)], (False, 9), id="less than little"),
        pytest.param((False, None), [(True, None)], None, id="the table is warm by now"),
        pytest.param((False, None), [(False, 9)], None, id="the table is warm, and lacks some"),
    ],
)
def test_what_the_table_drops_meanwhile_is_known_at_the_end(
    begun: tuple[bool, int | None],
    later: list[tuple[bool, int | None]],
    had: tuple[bool, int | None] | None,
) -> None:
    steps: Any = Steps()
    for at, state in enumerate(later):
        left = scan(at + 1) if at + 1 < len(later) else None
        steps.known[at] = Step(1, frames(b"%d" % at), left, told(*state))
    made = Feed(steps, Snapshot(told(*begun), 0, b"", 3, scan(0)), "tester", lambda: None)
    while not made.over:
        made.take(never)
    assert made.told == SnapshotTold(*begun, 3)
    assert made.had == (had and SnapshotTold(*had, 3))


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
    done(Step(0, b"", scan(9), STATE))
    assert (woken, steps.woken) == ([2], [0])
    steps.known[9] = Step(1, frames(b"b"), None, STATE)
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
    steps.asked[0][1](Step(4, frames(b"b", b"d", b"e", b"f"), None, STATE))
    assert made.take(never) == (1, frames(b"e"))
    assert made.over
