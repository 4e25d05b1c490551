"""What lies further back than anybody's memory, read from Kafka's log: a thread of the consumer.

It has a socket, a Kafka client and a cache of its own, so that live delivery waits for nothing
here. Workers ask for chunks one after another, when their clients have room for them; many clients
that want the same are one request, and what they ask within a while is read once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from energyws.board import Field, Row
from energyws.frame import DataFrames
from energyws.history import (
    Block,
    BlocksNeeded,
    Chunk,
    Query,
    Start,
    assemble,
    block_records,
    first_since,
    newest,
    resume_after,
)
from energyws.log import Limited, Log
from energyws.position import Position, start
from energyws.protocol import Unrecovered
from energyws.replay import gap_entries
from energyws.settings import Settings
from energyws.wire import Read, pack_chunks, pack_start, unpack_inquiry
from workers.blocks import BlockReader, Unreadable
from workers.discovery import Topic, describe, list_offsets

CHUNK_BYTES: Final = 64 * 1024
CHUNKS_PER_REPLY: Final = 4
CACHE_BYTES: Final = 16 << 20
# How many blocks are read in one go: who asks for one will want the next.
BLOCKS_AHEAD: Final = 4
# How long a topic's ends, and the offsets of an age, are taken to be what they were.
ENDS_SECONDS: Final = 1.0
AGE_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.25
# A request that could not be answered for so long is forgotten; who still wants it asks again.
FORGET_SECONDS: Final = 10.0
POLL_MILLISECONDS: Final = 500

_log = Log("history")


class View(NamedTuple):
    """A stream as the live side sees it.

    epoch: of its positions; topic_epoch: of the topic, as discovery names it; head: everything
    before it has been published.
    """

    epoch: str
    topic_epoch: str
    head: Position


class NotNow(Exception):
    """Try again a little later: Kafka is away, or the live side is not there yet."""


@dataclass(slots=True)
class _Job:
    """One inquiry, and the workers that wait for its answer."""

    inquiry: Query | Read
    since: float
    due: float = 0.0
    waiting: set[bytes] = field(default_factory=set)


class _Past:
    """What is known of one stream's log. lows: the broker's low watermarks; size: of a block."""

    def __init__(self, stream: str, epoch: str, topic: Topic, now: float) -> None:
        self.epoch = epoch
        self.frames = DataFrames(stream)
        self.size = block_records(len(topic.ends))
        self.blocks: OrderedDict[tuple[int, int], Block] = OrderedDict()
        self.oldest: tuple[float, Position] | None = None
        self.update(topic, now)

    def update(self, topic: Topic, now: float) -> None:
        self.seen_at = now
        self.lows = start(self.epoch, (low for low, _ in topic.ends))

    def block(self, partition: int, offset: int) -> Block | None:
        key = partition, offset // self.size
        block = self.blocks.get(key)
        if block is None or not block.start <= offset < block.stop:
            return None
        self.blocks.move_to_end(key)
        return block


class History(threading.Thread):
    """Answers the workers' inquiries. `view(stream)` is called from this thread; None: not yet."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        client: Mapping[str, Any],
        view: Callable[[str], View | None],
        row: Row,
    ) -> None:
        super().__init__(name="history", daemon=True)
        self._endpoint = f"ipc://{directory / 'history'}"
        self._settings = settings
        self._client = client
        self._view = view
        self._row = row
        self._logs: dict[str, _Past] = {}
        self._cached = 0
        self._jobs: OrderedDict[bytes, _Job] = OrderedDict()
        self._reader: BlockReader | None = None
        self._admin: AdminClient | None = None
        self._allowance = 0.0
        self._allowed_at = time.monotonic()
        self._troubles = Limited(10.0)
        self._stopping = False

    def stop(self) -> None:
        """End the thread soon; it does not wait for that."""
        self._stopping = True

    def run(self) -> None:
        """The thread."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.bind(self._endpoint)
        try:
            while not self._stopping:
                self._receive(router)
                self._work(router)
        finally:
            router.close()
            context.term()
            if self._reader is not None:
                self._reader.close()

    def _receive(self, router: zmq.Socket[bytes]) -> None:
        if router.poll(self._patience()):
            now = time.monotonic()
            while True:
                try:
                    identity, body = router.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    return
                job = self._jobs.get(body)
                if job is None:
                    job = self._jobs[body] = _Job(unpack_inquiry(body), now)
                job.waiting.add(identity)

    def _patience(self) -> int:
        """How long nothing but a new request can be of interest, in milliseconds."""
        if not self._jobs:
            return POLL_MILLISECONDS
        due = min(job.due for job in self._jobs.values()) - time.monotonic()
        debt = -self._allowance / self._settings.history.bytes_per_second
        return max(0, min(POLL_MILLISECONDS, ceil(1000 * max(due, debt))))

    def _work(self, router: zmq.Socket[bytes]) -> None:
        """Answer the first request that is due, unless too much was handed out lately."""
        now = time.monotonic()
        rate = self._settings.history.bytes_per_second
        # Up to a quarter of a second's worth at once.
        self._allowance = min(rate / 4, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        if self._allowance < 0:
            return
        body = next((body for body, job in self._jobs.items() if job.due <= now), None)
        if body is None:
            return
        job = self._jobs.pop(body)
        try:
            answer = self._answer(job.inquiry, now)
        except NotNow:
            if now - job.since < FORGET_SECONDS:
                job.due = now + RETRY_SECONDS
                self._jobs[body] = job
            return
        for identity in job.waiting:
            try:
                router.send_multipart([identity, body, *answer], zmq.NOBLOCK)
            except zmq.Again:
                # It takes nothing at present; it will ask again.
                continue
            self._allowance -= sum(len(part) for part in answer)

    def _answer(self, inquiry: Query | Read, now: float) -> list[bytes]:
        epoch = inquiry.epoch if isinstance(inquiry, Query) else inquiry.after.epoch
        view = self._view(inquiry.stream)
        if view is None or view.epoch != epoch:
            # Another epoch: the worker is about to hear of it, or has told us of it too early.
            raise NotNow
        try:
            log = self._log_of(inquiry.stream, view, now)
            while True:
                try:
                    if isinstance(inquiry, Query):
                        return pack_start(self._find(inquiry, log, view.head, now))
                    return self._read(inquiry, log, view.head)
                except BlocksNeeded as needed:
                    self._load(inquiry.stream, log, view.head, needed.places)
        except (KafkaException, Unreadable) as trouble:
            if (held := self._troubles.ready()) is not None:
                reason = trouble.args[0].str() if isinstance(trouble, KafkaException) else trouble
                _log.warning(
                    "the log cannot be read back: trying again",
                    stream=inquiry.stream,
                    reason=reason,
                    held_back=held,
                )
            if (known := self._logs.get(inquiry.stream)) is not None:
                # Retention may have been at work.
                known.seen_at = 0.0
            raise NotNow from None

    def _find(self, query: Query, log: _Past, head: Position, now: float) -> Start:
        limits = self._settings.history
        oldest = self._oldest(query.stream, log, head, now)
        if query.after is not None:
            return resume_after(query.after, log.lows, oldest, head, limits.max_messages)
        if query.last is not None:
            wanted = min(query.last, limits.max_messages)
            position, found = newest(wanted, log.lows.merge(oldest), head, log.block)
            exceeded = Unrecovered.HISTORY_EXCEEDED if found < query.last else None
            return Start(position, log.lows.merge(oldest), exceeded)
        assert query.since_ms is not None
        position = self._since(query.stream, log, head, query.since_ms)
        found_at = resume_after(position, log.lows, oldest, head, limits.max_messages)
        if found_at.reason is None and any(
            0 < low == offset
            for low, offset in zip(log.lows.offsets, position.offsets, strict=False)
        ):
            # The log begins with a record from after that time: nobody can tell what was before.
            return Start(position, found_at.earliest, Unrecovered.RETENTION)
        return found_at

    def _read(self, read: Read, log: _Past, head: Position) -> list[bytes]:
        position = read.after
        chunks: list[Chunk] = []
        lost = gap_entries(
            read.stream, position, position.merge(log.lows), Unrecovered.RETENTION.value
        )
        while len(chunks) < CHUNKS_PER_REPLY and head.beyond(position):
            try:
                if lost:
                    position = position.merge(log.lows)
                chunk = assemble(log.frames, position, head, log.block, CHUNK_BYTES)
            except BlocksNeeded:
                if chunks:
                    break
                raise
            if lost:
                data = b"".join([*(entry.frame for entry in lost), chunk.data])
                chunk = chunk._replace(start=read.after, frames=chunk.frames + len(lost), data=data)
                lost = []
            chunks.append(chunk)
            position = chunk.end
        if not chunks:
            # The live side has not come as far as this client yet.
            raise NotNow
        return pack_chunks(chunks)

    def _since(self, stream: str, log: _Past, head: Position, since_ms: int) -> Position:
        """The position before the first record of each partition that is not older."""
        partitions = range(len(head.offsets))
        name = self._settings.streams[stream].topic
        spec = OffsetSpec.for_timestamp(since_ms)
        offsets = list_offsets(self._connected(), name, partitions, spec)
        for partition, offset in enumerate(offsets):
            low, end = log.lows.next_offset(partition), head.offsets[partition]
            if 0 <= offset < end:
                continue
            # None: so it is, or the broker does not look it up (the embedded one does not).
            offsets[partition] = (
                first_since(since_ms, partition, low, end, log.size, log.block)
                if low < end
                else end
            )
        return start(log.epoch, offsets)

    def _oldest(self, stream: str, log: _Past, head: Position, now: float) -> Position:
        """The earliest position that history.max_record_age_seconds allows."""
        age = self._settings.history.max_record_age_seconds
        if age is None:
            return log.lows
        if log.oldest is None or now - log.oldest[0] > min(AGE_SECONDS, age / 10):
            since_ms = max(0, int((time.time() - age) * 1000))
            log.oldest = now, self._since(stream, log, head, since_ms)
        return log.oldest[1]

    def _log_of(self, stream: str, view: View, now: float) -> _Past:
        log = self._logs.get(stream)
        if log is not None and log.epoch == view.epoch and now - log.seen_at < ENDS_SECONDS:
            return log
        topic = describe(self._connected(), self._settings.streams[stream].topic)
        if topic.epoch != view.topic_epoch or len(topic.ends) < len(view.head.offsets):
            # It was made anew, and the live side has yet to notice.
            raise NotNow
        if log is None or log.epoch != view.epoch or log.size != block_records(len(topic.ends)):
            self._forget(log)
            log = self._logs[stream] = _Past(stream, view.epoch, topic, now)
        else:
            log.update(topic, now)
        return log

    def _load(self, stream: str, log: _Past, head: Position, places: list[tuple[int, int]]) -> None:
        """Read the blocks of these places, and some that follow, into the cache."""
        size = log.size
        wanted = {}
        for partition, offset in places:
            # Never beyond the head: what has been published can be read, whatever transaction is
            # still open behind it.
            low, high = log.lows.next_offset(partition), head.offsets[partition]
            first = offset // size
            last = first + 1
            while last < first + BLOCKS_AHEAD and (partition, last) not in log.blocks:
                last += 1
            begin, stop = max(low, first * size), min(high, last * size)
            if not begin <= offset < stop:
                raise Unreadable(
                    f"partition {partition}: offset {offset} is not from {low} to {high}"
                )
            wanted[partition] = begin, stop
        if self._reader is None:
            self._reader = BlockReader(self._client, self._settings.kafka)
        name = self._settings.streams[stream].topic
        for partition, records in self._reader.read(name, wanted).items():
            self._row.add(Field.READ_BACK, len(records))
            begin, stop = wanted[partition]
            for first in range(begin - begin % size, stop, size):
                block = Block(
                    max(begin, first),
                    min(stop, first + size),
                    [record for record in records if first <= record.offset < first + size],
                )
                self._keep(log, (partition, first // size), block)
        self._evict(log)

    def _keep(self, log: _Past, key: tuple[int, int], block: Block) -> None:
        if (old := log.blocks.pop(key, None)) is not None:
            self._cached -= _weight(old)
        log.blocks[key] = block
        self._cached += _weight(block)

    def _evict(self, current: _Past) -> None:
        # Of other streams first, and never what has just been read: one merge needs it whole.
        fresh = len(current.lows.offsets) * BLOCKS_AHEAD
        for log in (*(log for log in self._logs.values() if log is not current), current):
            while self._cached > CACHE_BYTES and len(log.blocks) > (fresh if log is current else 0):
                _, block = log.blocks.popitem(last=False)
                self._cached -= _weight(block)

    def _forget(self, log: _Past | None) -> None:
        if log is not None:
            self._cached -= sum(_weight(block) for block in log.blocks.values())
            log.blocks.clear()

    def _connected(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(dict(self._client))
        return self._admin


def _weight(block: Block) -> int:
    # The records' objects weigh about as much as short data.
    return sum(len(record.data) + 200 for record in block.records) + 200
