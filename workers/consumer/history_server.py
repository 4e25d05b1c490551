"""Answers to what lies further back than anybody's memory: a thread of the consumer process.

It has a socket, Kafka clients and a cache of its own, so that live delivery waits for nothing
here. Workers ask for chunks one after another, when their clients have room for them; many clients
that want the same are one request, and what they ask within a while is read once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Final

import zmq
from confluent_kafka import KafkaException

from energyws.errors import EnergywsError
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Row
from energyws.protocol.messages import Unrecovered
from energyws.settings import Settings
from energyws.stream.bus_messages import ReadChunks, pack_chunks, pack_start, unpack_history_request
from energyws.stream.fair_queue import FairQueue, QueueFull
from energyws.stream.history import (
    Block,
    Blocks,
    BlocksNeeded,
    Chunk,
    FindStart,
    StartPoint,
    assemble,
    newest,
    newest_about,
    resume_after,
)
from energyws.stream.ring import gap_entries
from workers.consumer.log_cache import LogCache, NotYet, StreamHead, StreamLog
from workers.consumer.log_reader import Unreadable
from workers.consumer.metadata import Unanswered, Unknown
from workers.runtime import crash_on_error

CHUNK_BYTES: Final = 64 * 1024
CHUNKS_PER_REPLY: Final = 4
# A reply ends here, in bytes; a chunk is larger where one record is.
REPLY_BYTES: Final = CHUNKS_PER_REPLY * CHUNK_BYTES
# How often the log is read for one reply, and how often for one in the order of time.
LOADS_PER_REPLY: Final = 64
LOADS_IN_ORDER: Final = 8
# What is read to find the newest records; where they are heavier, each partition gives its share.
FIND_BYTES: Final = 256 << 20
RETRY_SECONDS: Final = 0.25
# A request that could not be answered for so long is forgotten; who still wants it asks again.
FORGET_SECONDS: Final = 10.0
# What all requests may weigh, and what one does, besides so much for each of its bytes.
JOBS_BYTES: Final = 64 << 20
JOB_BYTES: Final = 1 << 10
BYTES_PER_BYTE: Final = 12
POLL_MILLISECONDS: Final = 500

_log = Log("history")


@dataclass(slots=True)
class _Job:
    """One inquiry, and the workers that wait for its answer. Times are monotonic seconds."""

    inquiry: FindStart | ReadChunks
    asked_at: float
    waiting: set[bytes] = field(default_factory=set)


class _TooMuch(EnergywsError):
    """More would have to be read than a request may cost."""


class HistoryServer(threading.Thread):
    """Answers the workers' inquiries. `view(stream)` is called from this thread; None: not yet."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        client: Mapping[str, Any],
        view: Callable[[str], StreamHead | None],
        row: Row,
    ) -> None:
        super().__init__(name="history", daemon=True)
        self._endpoint = f"ipc://{directory / 'history'}"
        self._limits = settings.history
        self._view = view
        self._archive = LogCache(settings, client, row)
        self._jobs: dict[bytes, _Job] = {}
        self._turns: FairQueue[bytes] = FairQueue(JOBS_BYTES)
        # Those that could not be answered, and when they are tried again, in order.
        self._later: deque[tuple[float, bytes]] = deque()
        # How many bytes may be handed out now; below zero: it takes a while until more may.
        self._allowance = 0.0
        self._allowed_at = time.monotonic()
        self._limited = RateLimitedLog(_log, 10.0)
        self._stopping = False

    def stop(self) -> None:
        """End the thread soon; it does not wait for that."""
        self._stopping = True

    @crash_on_error
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
            self._archive.close()

    def _receive(self, router: zmq.Socket[bytes]) -> None:
        if not router.poll(self._patience()):
            return
        while True:
            try:
                identity, body, *whose = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            job = self._jobs.get(body)
            if job is None:
                # While an upgrade is rolled out, a worker from before it does not say whose.
                subject = (whose or [identity])[0].hex()
                try:
                    self._turns.join(subject, body, JOB_BYTES + BYTES_PER_BYTE * len(body))
                except QueueFull:
                    # The worker asks again if it still wants to know.
                    continue
                job = self._jobs[body] = _Job(unpack_history_request(body), time.monotonic())
            job.waiting.add(identity)

    def _patience(self) -> int:
        """How long nothing but a new request can be of interest, in milliseconds."""
        if not self._jobs:
            return POLL_MILLISECONDS
        waits = len(self._later) == len(self._jobs)
        due = self._later[0][0] - time.monotonic() if waits else 0.0
        debt = -self._allowance / self._limits.bytes_per_second
        return max(0, min(POLL_MILLISECONDS, ceil(1000 * max(due, debt))))

    def _work(self, router: zmq.Socket[bytes]) -> None:
        """Answer the next request, unless too much was handed out lately."""
        now = time.monotonic()
        rate = self._limits.bytes_per_second
        # Up to a quarter of a second's worth at once.
        self._allowance = min(rate / 4, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        while self._later and self._later[0][0] <= now:
            self._turns.again(self._later.popleft()[1])
        if self._allowance < 0 or (taken := self._turns.take()) is None:
            return
        _, body = taken
        job = self._jobs[body]
        answer = self._answer(job.inquiry)
        if answer is None and now - job.asked_at < FORGET_SECONDS:
            self._later.append((now + RETRY_SECONDS, body))
            return
        del self._jobs[body]
        self._turns.leave(body)
        if answer is None:
            return
        for identity in job.waiting:
            try:
                router.send_multipart([identity, body, *answer], zmq.NOBLOCK)
            except zmq.Again:
                # It takes nothing at present; it will ask again.
                continue
            self._allowance -= sum(map(len, answer))

    def _answer(self, inquiry: FindStart | ReadChunks) -> list[bytes] | None:
        """None: not now. Kafka is away, or the live side is not there yet."""
        epoch = inquiry.epoch if isinstance(inquiry, FindStart) else inquiry.after.epoch
        view = self._view(inquiry.stream)
        if view is None or view.epoch != epoch:
            # Another epoch: the worker is about to hear of it, or has told us of it too early.
            return None
        try:
            past = self._archive.past(inquiry.stream, view)
            if isinstance(inquiry, FindStart):
                return pack_start(self._find(inquiry, past))
            chunks = self._read(inquiry, past)
            # No chunk: the live side has not come as far as this client yet.
            return pack_chunks(chunks) if chunks else None
        except NotYet:
            return None
        except (KafkaException, Unreadable, Unanswered, Unknown) as trouble:
            self._limited.warning(
                "the log cannot be read back: trying again",
                stream=inquiry.stream,
                reason=trouble.args[0].str() if isinstance(trouble, KafkaException) else trouble,
            )
            # Retention may have been at work.
            self._archive.doubt(inquiry.stream)
            return None

    def _find(self, query: FindStart, past: StreamLog) -> StartPoint:
        most = self._limits.max_messages
        oldest = past.oldest()
        if query.after is not None:
            past.require(query.after)
            return resume_after(query.after, past.lows, oldest, past.head, most)
        if query.last is not None:
            earliest = past.lows.merge(oldest)
            count = min(query.last, most)
            try:
                block = self._bounded(past.block, FIND_BYTES)
                position, found = newest(count, earliest, past.head, block)
            except _TooMuch:
                position, found = newest_about(count, earliest, past.head)
            exceeded = Unrecovered.HISTORY_EXCEEDED if found < query.last else None
            return StartPoint(position, earliest, exceeded)
        assert query.since_ms is not None
        position = past.since(query.since_ms)
        found_at = resume_after(position, past.lows, oldest, past.head, most)
        if found_at.reason is None and any(
            0 < low == offset
            for low, offset in zip(past.lows.offsets, position.offsets, strict=False)
        ):
            # The log begins with a record from after that time: nobody can tell what was before.
            return StartPoint(position, found_at.earliest, Unrecovered.RETENTION)
        return found_at

    def _bounded(self, blocks: Blocks, most: int) -> Blocks:
        """The same, but it raises _TooMuch once `most` bytes were read."""
        until = self._archive.bytes_read + most

        def block(partition: int, offset: int) -> Block:
            if self._archive.bytes_read > until:
                raise _TooMuch
            return blocks(partition, offset)

        return block

    def _read(self, read: ReadChunks, past: StreamLog) -> list[Chunk]:
        """A few chunks in a row, as far as their blocks are known; at least one, if there is one.

        What retention has taken meanwhile is owned up to at the beginning of the first.
        """
        past.require(read.after)
        begin = read.after.merge(past.lows)
        lost = gap_entries(read.stream, read.after, begin, Unrecovered.RETENTION.value)
        chunks: list[Chunk] = []
        size = 0
        # Of all partitions, unless their blocks do not fit into memory side by side.
        whole = True
        loads = 0
        while (
            len(chunks) < CHUNKS_PER_REPLY
            and size < REPLY_BYTES
            and (lost or past.head.beyond(begin))
        ):
            try:
                chunk = assemble(
                    past.frames, begin, past.head, past.known, CHUNK_BYTES, whole=whole
                )
            except BlocksNeeded as needed:
                if chunks:
                    break
                loads += 1
                if loads > LOADS_PER_REPLY:
                    raise Unreadable(f"the records at {needed.places[0]} cannot be held") from None
                whole = past.load(needed.places) and loads < LOADS_IN_ORDER
                continue
            size += len(chunk.data)
            whole = True
            begin = chunk.end
            if lost:
                data = b"".join([*(entry.frame for entry in lost), chunk.data])
                chunk = Chunk(read.after, chunk.end, chunk.frames + len(lost), data)
                lost = []
            chunks.append(chunk)
        return chunks
