"""Both ends of the bus over real sockets: every gap is noticed after drops and restarts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from energyws.protocol.position import Position, from_offsets
from energyws.settings import Bus, History
from energyws.stream.bus_messages import KeyRules
from energyws.stream.ring import Entry, Ring
from energyws.testing import until
from workers.bus.publisher import Publisher
from workers.bus.rendezvous import BusDirectory, current
from workers.bus.subscriber import Subscriber

EPOCH = "abcd0123"
STREAM = "energy"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine with a deadline."""
    asyncio.run(asyncio.wait_for(main(), 30))


class FakeSink:
    """A hub that records what it receives."""

    def __init__(self) -> None:
        self.ring: Ring | None = None
        self.offsets: list[int] = []
        self.gaps: list[tuple[int, int]] = []
        self.restarts = 0
        self.syncs = 0
        self.disputed: list[list[str]] = []

    def have(self) -> dict[str, Position | None]:
        return {STREAM: None if self.ring is None else self.ring.head}

    def dispute(self, streams: Collection[str]) -> None:
        self.disputed.append(sorted(streams))

    def set_floor(self, stream: str, floor: Position) -> None:
        if self.ring is None or self.ring.epoch != floor.epoch:
            self.restarts += self.ring is not None
            self.ring = Ring(History(), floor)
        elif floor.beyond(self.ring.head):
            self.gaps.append((self.ring.head.offsets[0], floor.offsets[0]))
            self.ring.advance(floor)

    def append(self, stream: str, entry: Entry) -> None:
        assert self.ring is not None
        if not self.ring.covers(entry.partition, entry.offset):
            self.ring.append(entry, 0.0)
            self.offsets.append(entry.offset)

    def advance(self, stream: str, head: Position) -> None:
        if self.ring is not None and self.ring.epoch == head.epoch:
            self.ring.advance(head)

    def synced(self) -> None:
        self.syncs += 1


class Feed:
    """A publisher with its ring and consecutive offsets."""

    def __init__(
        self,
        directory: Path,
        settings: Bus,
        history: History | None = None,
        rules: KeyRules | None = None,
    ) -> None:
        self.ring = Ring(history or History(), from_offsets(EPOCH, [0]))
        self.rings: dict[str, Ring] = {STREAM: self.ring}
        self.publisher = Publisher(directory, settings, rules or {STREAM: None}, self.rings)
        self.sent = 0

    def entries(self, count: int, size: int = 10) -> list[Entry]:
        entries = [Entry(0, self.sent + i, 0, b"x" * size) for i in range(count)]
        self.sent += count
        return entries

    def send(self, count: int, size: int = 10) -> None:
        for entry in self.entries(count, size):
            self.ring.append(entry, 0.0)
            self.publisher.publish(STREAM, entry)

    def send_dropped(self, count: int) -> None:
        """Imitate PUB dropping frames for a full queue: the sequence continues."""
        for entry in self.entries(count):
            self.ring.append(entry, 0.0)
            self.publisher._sequence += 1


@asynccontextmanager
async def subscriber(directory: Path, settings: Bus) -> AsyncIterator[tuple[FakeSink, list[str]]]:
    sink = FakeSink()
    resyncs: list[str] = []
    made = Subscriber(directory, settings, {STREAM: None}, sink, lambda: resyncs.append("again"))
    try:
        yield sink, resyncs
    finally:
        made.close()


FAST = Bus(heartbeat_seconds=0.02)


def test_late_subscriber_gets_the_ring_and_then_every_frame(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        feed.send(500)
        async with subscriber(tmp_path, FAST) as (sink, resyncs):
            # Frames are published while it synchronises.
            while not sink.syncs:
                feed.send(1)
                await asyncio.sleep(0)
            feed.send(200)
            await until(lambda: len(sink.offsets) == feed.sent)
        feed.publisher.close()
        assert sink.offsets == list(range(feed.sent))
        assert resyncs == []

    run(main)


def test_large_ring_comes_in_several_replies(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        feed.send(400, size=10_000)
        async with subscriber(tmp_path, FAST) as (sink, _):
            await until(lambda: sink.syncs == 1)
            assert sink.offsets == list(range(400))
        feed.publisher.close()

    run(main)


def test_gap_is_filled_before_later_frames(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        async with subscriber(tmp_path, FAST) as (sink, resyncs):
            await until(lambda: sink.syncs == 1)
            feed.send(10)
            feed.send_dropped(5)
            feed.send(10)
            await until(lambda: len(sink.offsets) == 25)
        feed.publisher.close()
        assert sink.offsets == list(range(25))
        assert resyncs == ["again"]

    run(main)


def test_heartbeat_reveals_dropped_last_frames(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        async with subscriber(tmp_path, FAST) as (sink, _):
            await until(lambda: sink.syncs == 1)
            feed.send(3)
            feed.send_dropped(4)
            await until(lambda: sink.offsets == list(range(7)))
        feed.publisher.close()

    run(main)


def test_subscriber_that_does_not_read_loses_nothing_to_a_tiny_queue(tmp_path: Path) -> None:
    async def main() -> None:
        tiny = Bus(heartbeat_seconds=0.02, high_watermark_frames=10)
        feed = Feed(tmp_path, tiny)
        async with subscriber(tmp_path, tiny) as (sink, resyncs):
            await until(lambda: sink.syncs == 1)
            # All in one turn of the loop, so that no frame is read meanwhile.
            feed.send(5_000)
            time.sleep(0.05)
            await until(lambda: len(sink.offsets) == 5_000)
        feed.publisher.close()
        assert sink.offsets == list(range(5_000))
        assert resyncs

    run(main)


def test_successor_on_the_same_log_continues_without_gap_or_repeat(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        async with subscriber(tmp_path, FAST) as (sink, _):
            await until(lambda: sink.syncs == 1)
            feed.send(20)
            await until(lambda: len(sink.offsets) == 20)
            feed.publisher.close()
            successor = Feed(tmp_path, FAST)
            # It has read back records before and after its predecessor's last one.
            for entry in successor.entries(30):
                successor.ring.append(entry, 0.0)
            successor.publisher.break_run()
            successor.send(5)
            await until(lambda: len(sink.offsets) == 35)
            successor.publisher.close()
        assert sink.offsets == list(range(35))
        assert sink.gaps == []

    run(main)


def test_successor_with_a_ring_that_starts_too_late_is_a_gap(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        async with subscriber(tmp_path, FAST) as (sink, _):
            await until(lambda: sink.syncs == 1)
            feed.send(20)
            await until(lambda: len(sink.offsets) == 20)
            feed.publisher.close()
            successor = Feed(tmp_path, FAST, History(max_frames=4))
            for entry in successor.entries(50):
                successor.ring.append(entry, 0.0)
            successor.publisher.break_run()
            await until(lambda: len(sink.offsets) == 24)
            successor.publisher.close()
        assert sink.gaps == [(20, 46)]
        assert sink.offsets[-4:] == [46, 47, 48, 49]

    run(main)


def test_stream_arrives_with_the_first_run_after_its_topic_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        feed.rings.clear()
        async with subscriber(tmp_path, FAST) as (sink, _):
            await until(lambda: sink.syncs == 1)
            assert sink.ring is None
            for entry in feed.entries(3):
                feed.ring.append(entry, 0.0)
            feed.rings[STREAM] = feed.ring
            feed.publisher.break_run()
            await until(lambda: sink.offsets == [0, 1, 2])
        feed.publisher.close()

    run(main)


def test_another_epoch_restarts_the_stream(tmp_path: Path) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        async with subscriber(tmp_path, FAST) as (sink, _):
            await until(lambda: sink.syncs == 1)
            feed.send(5)
            await until(lambda: len(sink.offsets) == 5)
            feed.ring = feed.rings[STREAM] = Ring(History(), from_offsets("beef", [0]))
            feed.sent = 0
            feed.publisher.break_run()
            feed.send(2)
            await until(lambda: sink.offsets[5:] == [0, 1])
        feed.publisher.close()
        assert sink.restarts == 1

    run(main)


def test_subscriber_waits_for_a_publisher_that_starts_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with subscriber(tmp_path, FAST) as (sink, _):
            await asyncio.sleep(0)
            feed = Feed(tmp_path, FAST)
            feed.send(7)
            await until(lambda: sink.offsets == list(range(7)))
            feed.publisher.close()

    run(main)


@pytest.mark.parametrize("garbage", [b"", b"x", b"\xff" * 60])
def test_garbage_on_the_bus_is_refused_and_harmless(tmp_path: Path, garbage: bytes) -> None:
    async def main() -> None:
        feed = Feed(tmp_path, FAST)
        async with subscriber(tmp_path, FAST) as (sink, _):
            await until(lambda: sink.syncs == 1)
            feed.publisher._pub.send(garbage)
            feed.send(2)
            await until(lambda: sink.offsets == [0, 1])
        feed.publisher.close()

    run(main)


class Streams:
    """A hub of several streams: what came of each, as (where the ring began, frames)."""

    def __init__(self) -> None:
        self.got: dict[str, list[bytes]] = {}
        self.heads: dict[str, Position] = {}
        self.disputed: list[str] = []
        self.syncs = 0

    def have(self) -> dict[str, Position | None]:
        return dict(self.heads)

    def dispute(self, streams: Collection[str]) -> None:
        self.disputed = sorted(streams)

    def set_floor(self, stream: str, floor: Position) -> None:
        self.heads.setdefault(stream, floor)

    def append(self, stream: str, entry: Entry) -> None:
        if entry.offset >= self.heads[stream].offsets[0]:
            self.got.setdefault(stream, []).append(entry.frame)
            self.heads[stream] = from_offsets(EPOCH, [entry.offset + 1])

    def advance(self, stream: str, head: Position) -> None:
        self.heads[stream] = head

    def synced(self) -> None:
        self.syncs += 1


class Many:
    """A consumer of several streams, with a consecutive number in each frame."""

    def __init__(self, directory: Path, rules: KeyRules, offset: int = 0) -> None:
        begin = from_offsets(EPOCH, [0])
        self.rings = {name: Ring(History(), begin) for name in rules}
        self.publisher = Publisher(directory, FAST, rules, self.rings)
        for each in range(offset):
            self._append(each, b"old")
        self.offset = offset

    def _append(self, offset: int, frame: bytes) -> None:
        for name, each in self.rings.items():
            each.append(Entry(0, offset, 0, frame + b" " + name.encode()), 0.0)

    def send(self, frame: bytes) -> None:
        for name in self.rings:
            entry = Entry(0, self.offset, 0, frame + b" " + name.encode())
            self.rings[name].append(entry, 0.0)
            self.publisher.publish(name, entry)
        self.offset += 1


@pytest.mark.parametrize(
    ("theirs", "served", "disputed"),
    [
        pytest.param({"a": None, "m": "/meter"}, ["a", "m"], [], id="the same"),
        pytest.param({"a": None, "m": "/home"}, ["a"], ["m"], id="another key"),
        pytest.param({"a": None, "m": None}, ["a"], ["m"], id="no key"),
        pytest.param({"a": "/meter", "m": "/meter"}, ["m"], ["a"], id="a key"),
        pytest.param({"0": None, "a": None, "m": "/meter"}, ["a", "m"], [], id="one more stream"),
        pytest.param({"m": "/meter"}, ["m"], [], id="one stream less"),
        pytest.param({"b": None, "m": "/home", "z": "/meter"}, [], ["m"], id="others"),
    ],
)
def test_worker_takes_the_streams_of_which_it_has_the_same_key_rule(
    tmp_path: Path, theirs: KeyRules, served: list[str], disputed: list[str]
) -> None:
    async def main() -> None:
        consumer = Many(tmp_path, theirs, offset=3)
        sink = Streams()
        ours = {"a": None, "m": "/meter"}
        made = Subscriber(tmp_path, FAST, ours, sink, lambda: None)
        await until(lambda: sink.syncs == 1)
        consumer.send(b"new")
        # A head that no frame tells.
        for ring in consumer.rings.values():
            ring.advance(from_offsets(EPOCH, [9]))
        consumer.publisher.head_moved()
        await until(
            lambda: [str(sink.heads[name]) for name in served] == [f"{EPOCH}-9"] * len(served)
        )
        if not served:
            # Whatever would come has come before this.
            consumer.publisher.break_run()
            await until(lambda: sink.syncs == 2)
        made.close()
        consumer.publisher.close()
        assert sink.disputed == disputed
        # The index of a stream may mean another one here.
        assert sink.got == {
            name: [text.encode() + b" " + name.encode() for text in ("old", "old", "old", "new")]
            for name in served
        }
        assert sink.heads.keys() == {*served}

    run(main)


def test_stream_goes_on_where_it_stood_still(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        sink = Streams()
        bus = BusDirectory(tmp_path)
        first = Many(bus.path, {"m": "/meter"}, offset=2)
        bus.take_over()
        made = Subscriber(current(tmp_path), FAST, {"m": "/meter"}, sink, lambda: None)
        await until(lambda: sink.syncs == 1)
        for number, (rule, disputed) in enumerate([("/home", ["m"]), ("/meter", [])]):
            first.publisher.close()
            first = Many(bus.path, {"m": rule}, offset=first.offset)
            first.send(b"%d" % number)
            await until(lambda expected=number + 2: sink.syncs == expected)
            assert sink.disputed == disputed
        made.close()
        first.publisher.close()
        # The second consumer's frames are not in it: the third has made them anew.
        assert sink.got == {"m": [b"old m", b"old m", b"old m", b"1 m"]}

    caplog.set_level(logging.INFO)
    run(main)
    told = [text for text in caplog.messages if text.startswith("stream ")]
    assert [text.split()[1] for text in told] == ["stands", "goes"]
