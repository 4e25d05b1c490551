"""A consumer, its workers' hubs, the log, and clients that check what they get; no socket, no time.

What crosses a process is queued, and goes on when a test says so.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import orjson

from energyws.process.board import Board
from energyws.protocol.forms import Form
from energyws.protocol.keys import EVERYTHING, KeyFilter, escaped
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import Position, from_offsets, parse
from energyws.settings import History
from energyws.stream.history import Block, Chunk, FindStart, StartPoint, Stored, assemble
from energyws.stream.ring import Entry, Ring
from tests.workers.websocket.fanout.keyed_stream import FRAMES, STREAM, Client, Record
from tests.workers.websocket.fanout.snapshot_table import Table
from workers.websocket.fanout.history_client import ChunkListener
from workers.websocket.fanout.hub import Hub
from workers.websocket.fanout.subscription import FanoutClient
from workers.websocket.snapshots.client import OnSnapshot, OnStep, Scan, Step

EPOCH = "0001"
PARTITIONS = 2
CHUNK_BYTES = 400


class Clock:
    """Time that passes only when a test says so, and an event loop that lives by it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ready: deque[Callable[[], object]] = deque()
        self._later: list[tuple[float, int, Any]] = []
        self._number = count()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> Any:
        return self.call_later(0.0, callback, *arguments)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Any:
        handle = SimpleNamespace(cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        handle.call = lambda: None if handle.cancelled else callback(*arguments)
        if delay > 0:
            heapq.heappush(self._later, (self.now + delay, next(self._number), handle))
        else:
            self.ready.append(handle.call)
        return handle

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while self._later and self._later[0][0] <= self.now:
            self.ready.append(heapq.heappop(self._later)[2].call)

    def run(self, most: int) -> None:
        for _ in range(min(most, len(self.ready))):
            self.ready.popleft()()


class Past:
    """A worker's history client, with the log behind it."""

    waiting = 0

    def __init__(self, service: Service) -> None:
        self._service = service
        self._listener: ChunkListener | None = None
        self._finds: list[tuple[FindStart, Callable[[StartPoint | None], None]]] = []
        self._wanted: list[Position] = []
        self._chunks: dict[Position, Chunk] = {}

    @property
    def waits(self) -> bool:
        return bool(self._finds or self._wanted)

    def listen(self, listener: ChunkListener) -> None:
        self._listener = listener

    def find(
        self, requester: FanoutClient, request: FindStart, done: Callable[[StartPoint | None], None]
    ) -> None:
        self._finds.append((request, done))

    def chunk(self, requester: FanoutClient, stream: str, position: Position) -> Chunk | None:
        if position not in self._chunks and position not in self._wanted:
            self._wanted.append(position)
        return self._chunks.get(position)

    def withdraw(self, requester: FanoutClient, stream: str) -> None:
        """Nobody is kept an answer for."""

    def forget(self, stream: str) -> None:
        raise AssertionError("there is one epoch")

    def tick(self) -> None:
        """Nothing is sent again."""

    def answer(self) -> None:
        """Answer the oldest request."""
        if self._finds:
            request, done = self._finds.pop(0)
            assert request.after is not None
            done(StartPoint(request.after, from_offsets(EPOCH, [0] * PARTITIONS)))
        elif self._wanted:
            position, service = self._wanted.pop(0), self._service
            self._chunks[position] = assemble(
                FRAMES, position, service.head, service.block, CHUNK_BYTES
            )
            assert self._listener is not None
            self._listener.chunk_arrived(STREAM, position)


class Worker:
    """A hub, and what is on its way to it. lacks: it has to ask what it has missed."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.past = Past(service)
        self.asked: list[tuple[KeyFilter | None, OnSnapshot]] = []
        self.on_the_way: deque[Entry] = deque()
        self.lacks = True
        log: Any = self.past
        snapshots: Any = self
        with patch("asyncio.get_running_loop", return_value=service.clock):
            self.hub = Hub(
                [STREAM],
                service.limits,
                log,
                Board.create().row(0),
                lambda: None,
                keyed=[STREAM],
                snapshots=snapshots,
            )
        self.ask()

    def ask(self) -> None:
        """Get what the consumer's ring has, and this worker has not."""
        ring = self.service.ring
        self.on_the_way.clear()
        self.hub.set_floor(STREAM, ring.floor)
        for index in range(ring.first, ring.end):
            self.hub.append(STREAM, ring[index])
        self.hub.advance(STREAM, ring.head)
        self.hub.synced()
        self.lacks = False

    def deliver(self, most: int) -> None:
        if self.lacks:
            self.ask()
        for _ in range(min(most, len(self.on_the_way))):
            self.hub.append(STREAM, self.on_the_way.popleft())

    def find(self, stream: str, keys: KeyFilter | None, subject: str, done: OnSnapshot) -> None:
        """That of SnapshotClient."""
        self.asked.append((keys, done))

    def step(self, scan: Scan, subject: str, done: OnStep) -> Step | None:
        """That of SnapshotClient."""
        return self.service.table.step(scan, subject, done)

    def answer(self) -> None:
        """Answer the oldest request for a snapshot."""
        if self.asked:
            keys, done = self.asked.pop(0)
            done(self.service.table.snapshot(keys, self.service.head))


class Service:
    """records: all that ever were; the one with number n was written at n ms."""

    def __init__(self, max_frames: int, warm: int, slots: int, workers: int) -> None:
        self.clock = Clock()
        self.limits = History(max_frames=max_frames)
        self.records: list[Record] = []
        self.head = from_offsets(EPOCH, [0] * PARTITIONS)
        self.ring = Ring(self.limits, self.head, keyed=True)
        steps = count()
        self.table = Table(slots, lambda: next(steps) % 3 == 0)
        self._warm = warm
        self._log: list[list[Stored]] = [[] for _ in range(PARTITIONS)]
        self.workers = [Worker(self) for _ in range(workers)]

    def record(self, key: str | None, partition: int, *, removed: bool = False) -> None:
        number, offset = len(self.records), self.head.next_offset(partition)
        text = None if key is None else escaped(key)
        data = None if removed and key is not None else orjson.dumps({"n": number})
        self.records.append(Record(EPOCH, partition, offset, number, text))
        self._log[partition].append(Stored(offset, number, data, text))
        self.head = self.head.after(partition, offset)
        if text is not None:
            self.table.values.put(text, number, data)
        entry = self._entry(self.records[-1], data, self.head)
        self.ring.append(entry, self.clock.now)
        for worker in self.workers:
            worker.on_the_way.append(entry)

    def data(self, record: Record) -> bytes | None:
        """Its value; None: it removes its key."""
        return self._log[record.partition][record.offset].data

    def block(self, partition: int, offset: int) -> Block:
        return Block(0, len(self._log[partition]), self._log[partition])

    def replace_consumer(self) -> None:
        """A new one reads back the newest records and the table; nothing is on the way."""
        begin = [max(0, len(records) - self._warm) for records in self._log]
        position = from_offsets(EPOCH, begin)
        self.ring = Ring(self.limits, position, keyed=True)
        # Another order between the partitions than that in which they came.
        for record in sorted(self.records, key=lambda each: (each.partition, each.number)):
            if not record.before(position):
                place = self.ring.head.after(record.partition, record.offset)
                self.ring.append(self._entry(record, self.data(record), place), self.clock.now)
        self.table.begin_anew(each for records in self._log for each in records)
        for worker in self.workers:
            worker.on_the_way.clear()
            worker.lacks = True

    def _entry(self, record: Record, data: bytes | None, place: Position) -> Entry:
        frame = FRAMES.build(record.number, data, str(place), record.key)
        return Entry(record.partition, record.offset, record.number, frame)


class Connection(Client):
    """A client of a worker that may subscribe again and again.

    It starts where `subscribed` says, and what it gets then is checked by Client. kept: the filters
    that it has had since its snapshot began, while that comes; valued: the keys that it had.
    """

    def __init__(self, worker: Worker, service: Service, form: Form) -> None:
        stream: Any = SimpleNamespace(records=service.records, fanout=worker.hub)
        super().__init__(stream, EVERYTHING, form)
        self.service = service
        self.worker = worker
        self.place = from_offsets(EPOCH, [0] * PARTITIONS)
        self.answered = False
        self.kept: list[KeyFilter] = []
        self.valued: set[bytes] = set()
        self._request: Subscribe | None = None
        self._next = EVERYTHING

    def subscribe(
        self,
        wanted: KeyFilter,
        rate: float | None,
        on_lag: OnLag,
        resume: Position | None,
        *,
        snapshot: bool,
    ) -> None:
        filters = {} if wanted is EVERYTHING else {STREAM: wanted}
        resumes = {} if resume is None else {STREAM: str(resume)}
        request = Subscribe(
            (STREAM,), resumes, None, on_lag, filters=filters, snapshot=snapshot, max_rate=rate
        )
        self._request, self._next = request, wanted
        # While it waits for the log or for a snapshot, it is nowhere.
        self.answered = self.answered and not (snapshot or resume)
        self.worker.hub.subscribe(self, request)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        reply, request = streams[STREAM], self._request
        assert request is not None
        begin = parse(reply.position)
        if STREAM in request.resume:
            assert reply.recovered
            assert (reply.position, reply.snapshot) == (request.resume[STREAM], None)
        elif self.answered and not request.snapshot and self.has_place and reply.snapshot is None:
            # It goes on: of the keys that it keeps, it has got all before, and nothing after.
            assert not any(self._record(number).before(begin) is False for number in self.numbers)
            self.wanted = self.wanted.common(self._next)
            self._reached(begin)
        if reply.snapshot is None or request.snapshot:
            self.kept, self.valued = [], set()
        if reply.snapshot is not None:
            self.kept.append(self._next)
        self.answered = True
        self.wanted, self.rate, self.on_lag = self._next, request.max_rate, request.on_lag
        self.start = self.place = begin
        self.numbers, self.lost, self.told, self.conflated = [], [], [], 0

    @property
    def has_place(self) -> bool:
        """Whether it may come back to where it is: not amid a snapshot."""
        return self.answered and not self.kept

    def _record(self, number: int) -> Record:
        return self.service.records[number]

    def _take(self, message: Any) -> None:
        match message["type"]:
            case "snapshot":
                record, before = self._newest(key := escaped(message["key"])), self.kept
                assert before
                assert all(each.admits(key) for each in before)
                assert key not in self.valued
                # The newest one before the position, of what has not changed since then.
                assert record is not None
                assert record.number == _milliseconds(message["timestamp"])
                self.valued.add(key)
            case "position" if self.kept:
                assert parse(message["id"]) == self.start
                self._ends()
            case "removed":
                record = self._record(_milliseconds(message["timestamp"]))
                assert self.service.data(record) is None
                assert self.wants(record)
                assert not record.before(self.place)
                self.numbers.append(record.number)
                self._reached(parse(message["id"]))
            case _:
                assert not self.kept, "this comes after the snapshot"
                super()._take(message)

    def _ends(self) -> None:
        """It has a record of each key, but for those whose newer one follows."""
        for key in {record.key for record in self.service.records if record.key is not None}:
            if all(each.admits(key) for each in self.kept):
                newest = self._newest(key)
                has_value = newest is not None and self.service.data(newest) is not None
                changes = any(
                    record.key == key and not record.before(self.start)
                    for record in self.service.records
                )
                assert key not in self.valued or has_value
                assert key in self.valued or changes or not has_value
        self.kept, self.valued = [], set()

    def _newest(self, key: bytes) -> Record | None:
        """Of the records of a key before its position."""
        found = [r for r in self.service.records if r.key == key and r.before(self.start)]
        return found[-1] if found else None

    def check_end(self) -> None:
        """Everything has been delivered."""
        assert self.has_place
        assert sorted(self.numbers) == sorted(set(self.numbers))
        assert not self.service.head.beyond(self.place)
        assert set(self.owed()) <= set(self.numbers)
        if not self.lost:
            wanted = [
                record
                for record in self.service.records
                if self.wants(record) and not record.before(self.start)
            ]
            assert len(wanted) == len(self.numbers) + self.conflated


def _milliseconds(timestamp: str) -> int:
    return 1_000 * int(timestamp[17:19]) + int(timestamp[20:23])
