"""Answers workers' history requests from the log: a thread of the consumer process.

It has a socket, Kafka clients and a cache of its own, so that live delivery never waits for it.
Workers request chunks one after another, as their clients have room for them. Equal requests are
answered together, and what is requested again soon is read only once.
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
from energyws.stream.bus_messages import (
    pack_chunks,
    pack_rule,
    pack_start,
    unpack_history_request,
)
from energyws.stream.fair_queue import FairQueue, QueueFull
from energyws.stream.history import (
    Block,
    Blocks,
    BlocksNeeded,
    Chunk,
    FindStart,
    HistoryRequest,
    ReadChunks,
    StartPoint,
    assemble,
    newest,
    newest_about,
    resume_after,
)
from energyws.stream.ring import gap_entries
from workers.bus.rendezvous import endpoint
from workers.consumer.log_cache import LogCache, NotYet, StreamHead, StreamLog
from workers.consumer.log_reader import Unreadable
from workers.consumer.metadata import BrokersUnavailable, TopicUnavailable
from workers.consumer.schemas.store import Awaited, Schemas
from workers.runtime import crash_on_error

CHUNK_BYTES: Final = 64 * 1024
CHUNKS_PER_REPLY: Final = 4
# No chunk is added to a reply of this size; a chunk is larger only where one record is.
REPLY_BYTES: Final = CHUNKS_PER_REPLY * CHUNK_BYTES
# How often the log is read for one reply, and how often while records are merged by time.
LOADS_PER_REPLY: Final = 64
LOADS_IN_ORDER: Final = 8
# How much is read to find the newest records; beyond that, partitions' lengths decide.
FIND_BYTES: Final = 256 << 20
RETRY_SECONDS: Final = 0.25
# A request that could not be answered for this long is dropped; a worker may send it again.
FORGET_SECONDS: Final = 10.0
# The capacity of the queue, and the weight of one request besides that of each of its bytes.
REQUESTS_BYTES: Final = 64 << 20
REQUEST_BYTES: Final = 1 << 10
BYTES_PER_BYTE: Final = 12
POLL_MILLISECONDS: Final = 500

_log = Log("history")


@dataclass(slots=True)
class _Pending:
    """One request, and the workers that wait for its answer. received_at: monotonic seconds."""

    request: HistoryRequest
    received_at: float
    waiting: set[bytes] = field(default_factory=set)


class _TooMuch(EnergywsError):
    """The request would read more than it may."""


class HistoryServer(threading.Thread):
    """stream_head(stream) is called from this thread; None: the stream is not read back yet."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        client: Mapping[str, Any],
        stream_head: Callable[[str], StreamHead | None],
        row: Row,
        schemas: Schemas,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="history", daemon=True)
        self._endpoint = endpoint(directory, "history")
        self._limits = settings.history
        self._rules = {name: pack_rule(each.key) for name, each in settings.streams.items()}
        self._clock = clock
        self._stream_head = stream_head
        self._cache = LogCache(settings, client, row, schemas, clock)
        self._requests: dict[bytes, _Pending] = {}
        self._queue: FairQueue[bytes] = FairQueue(REQUESTS_BYTES)
        # When requests that could not be answered are tried again, in order.
        self._retries: deque[tuple[float, bytes]] = deque()
        # How many bytes may be sent now (history.bytes_per_second); below zero: none for a while.
        self._allowance = 0.0
        self._allowed_at = self._clock()
        self._limited = RateLimitedLog(_log, 10.0)
        self._stopping = False

    def stop(self) -> None:
        """End the thread soon, without waiting for it."""
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
                self._answer_next(router)
        finally:
            router.close()
            context.term()
            self._cache.close()

    def _receive(self, router: zmq.Socket[bytes]) -> None:
        if not router.poll(self._poll_milliseconds()):
            return
        while True:
            try:
                identity, body, *rest = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            pending = self._requests.get(body)
            # During an upgrade, a worker of a version before sends less.
            subjects, rules = rest[:1], rest[1:]
            request = unpack_history_request(body) if pending is None else pending.request
            if rules not in ([], [self._rules.get(request.stream)]):
                # Its clients must not get records by keys from elsewhere.
                continue
            if pending is None:
                subject = (subjects or [identity])[0].hex()
                try:
                    self._queue.join(subject, body, REQUEST_BYTES + BYTES_PER_BYTE * len(body))
                except QueueFull:
                    # The worker sends the request again if it still needs the answer.
                    continue
                pending = self._requests[body] = _Pending(request, self._clock())
            pending.waiting.add(identity)

    def _poll_milliseconds(self) -> int:
        """How long there is nothing to do unless a new request arrives."""
        if not self._requests:
            return POLL_MILLISECONDS
        all_later = len(self._retries) == len(self._requests)
        due = self._retries[0][0] - self._clock() if all_later else 0.0
        debt = -self._allowance / self._limits.bytes_per_second
        return max(0, min(POLL_MILLISECONDS, ceil(1000 * max(due, debt))))

    def _answer_next(self, router: zmq.Socket[bytes]) -> None:
        """Answer the next request, unless too much was sent lately."""
        now = self._clock()
        rate = self._limits.bytes_per_second
        # Up to a quarter of a second's worth at once.
        self._allowance = min(rate / 4, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        while self._retries and self._retries[0][0] <= now:
            self._queue.requeue(self._retries.popleft()[1])
        if self._allowance < 0 or (taken := self._queue.take()) is None:
            return
        _, body = taken
        pending = self._requests[body]
        answer = self._answer(pending.request)
        if answer is None and now - pending.received_at < FORGET_SECONDS:
            self._retries.append((now + RETRY_SECONDS, body))
            return
        del self._requests[body]
        self._queue.leave(body)
        if answer is None:
            return
        for identity in pending.waiting:
            try:
                router.send_multipart([identity, body, *answer], zmq.NOBLOCK)
            except zmq.Again:
                # This worker reads nothing at present; it sends the request again.
                continue
            self._allowance -= sum(map(len, answer))

    def _answer(self, request: HistoryRequest) -> list[bytes] | None:
        """The parts of the answer; None: not now: Kafka or a schema is away, or we are behind."""
        epoch = request.epoch if isinstance(request, FindStart) else request.after.epoch
        live = self._stream_head(request.stream)
        if live is None or live.epoch != epoch:
            # Another epoch: the worker, or this thread, will learn of it soon.
            return None
        try:
            log = self._cache.stream_log(request.stream, live)
            if isinstance(request, FindStart):
                return pack_start(self._find(request, log))
            chunks = self._read(request, log)
            # No chunk: the consumer has not read as far as this client's position yet.
            return pack_chunks(chunks) if chunks else None
        except (NotYet, Awaited):
            return None
        except (KafkaException, Unreadable, BrokersUnavailable, TopicUnavailable) as failure:
            self._limited.warning(
                "the log cannot be read back: trying again",
                stream=request.stream,
                reason=failure.args[0].str() if isinstance(failure, KafkaException) else failure,
            )
            # Retention may have removed what was to be read.
            self._cache.refresh(request.stream)
            return None

    def _find(self, request: FindStart, log: StreamLog) -> StartPoint:
        max_messages = self._limits.max_messages
        oldest = log.oldest()
        if request.after is not None:
            log.require(request.after)
            return resume_after(request.after, log.lows, oldest, log.head, max_messages)
        if request.last is not None:
            earliest = log.lows.merge(oldest)
            count = min(request.last, max_messages)
            try:
                block = self._bounded(log.block, FIND_BYTES)
                position, found = newest(count, earliest, log.head, block)
            except _TooMuch:
                position, found = newest_about(count, earliest, log.head)
            exceeded = Unrecovered.HISTORY_EXCEEDED if found < request.last else None
            return StartPoint(position, earliest, exceeded)
        assert request.since_ms is not None
        position = log.since(request.since_ms)
        found_at = resume_after(position, log.lows, oldest, log.head, max_messages)
        if found_at.reason is None and any(
            0 < low == offset
            for low, offset in zip(log.lows.offsets, position.offsets, strict=False)
        ):
            # The log starts with a record from after that time: older ones may have been removed.
            return StartPoint(position, found_at.earliest, Unrecovered.RETENTION)
        return found_at

    def _bounded(self, blocks: Blocks, max_bytes: int) -> Blocks:
        """The same, but it raises _TooMuch once more than max_bytes were read."""
        limit = self._cache.bytes_read + max_bytes

        def block(partition: int, offset: int) -> Block:
            if self._cache.bytes_read > limit:
                raise _TooMuch
            return blocks(partition, offset)

        return block

    def _read(self, request: ReadChunks, log: StreamLog) -> list[Chunk]:
        """Some chunks in a row, as far as their blocks are known; at least one, if there is one.

        The first one starts with a report of what retention has removed meanwhile.
        """
        log.require(request.after)
        begin = request.after.merge(log.lows)
        lost = gap_entries(request.stream, request.after, begin, Unrecovered.RETENTION.value)
        chunks: list[Chunk] = []
        size = 0
        # Merge all partitions, unless their blocks do not fit into memory together.
        whole = True
        loads = 0
        while (
            len(chunks) < CHUNKS_PER_REPLY
            and size < REPLY_BYTES
            and (lost or log.head.beyond(begin))
        ):
            try:
                chunk = assemble(log.frames, begin, log.head, log.known, CHUNK_BYTES, whole=whole)
            except BlocksNeeded as needed:
                if chunks:
                    break
                loads += 1
                if loads > LOADS_PER_REPLY:
                    raise Unreadable(f"the records at {needed.offsets[0]} cannot be held") from None
                whole = log.load(needed.offsets) and loads < LOADS_IN_ORDER
                continue
            size += len(chunk.data)
            whole = True
            begin = chunk.end
            if lost:
                data = b"".join([*(entry.frame for entry in lost), chunk.data])
                chunk = Chunk(request.after, chunk.end, chunk.frames + len(lost), data)
                lost = []
            chunks.append(chunk)
        return chunks
