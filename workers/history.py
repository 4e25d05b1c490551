"""Answers to what lies further back than anybody's memory: a thread of the consumer process.

It has a socket, Kafka clients and a cache of its own, so that live delivery waits for nothing
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
from typing import Any, Final

import zmq
from confluent_kafka import KafkaException

from energyws.board import Row
from energyws.flood import Limited
from energyws.history import BlocksNeeded, Chunk, Query, Start, assemble, newest, resume_after
from energyws.log import Log
from energyws.protocol import Unrecovered
from energyws.replay import gap_entries
from energyws.settings import Settings
from energyws.wire import Read, pack_chunks, pack_start, unpack_inquiry
from workers.archive import Archive, NotYet, Past, View
from workers.blocks import Unreadable
from workers.metadata import Unanswered, Unknown
from workers.runtime import vital

CHUNK_BYTES: Final = 64 * 1024
CHUNKS_PER_REPLY: Final = 4
RETRY_SECONDS: Final = 0.25
# A request that could not be answered for so long is forgotten; who still wants it asks again.
FORGET_SECONDS: Final = 10.0
POLL_MILLISECONDS: Final = 500

_log = Log("history")


@dataclass(slots=True)
class _Job:
    """One inquiry, and the workers that wait for its answer. Times are monotonic seconds."""

    inquiry: Query | Read
    asked_at: float
    due: float = 0.0
    waiting: set[bytes] = field(default_factory=set)


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
        self._limits = settings.history
        self._view = view
        self._archive = Archive(settings, client, row)
        self._jobs: OrderedDict[bytes, _Job] = OrderedDict()
        # How many bytes may be handed out now; below zero: it takes a while until more may.
        self._allowance = 0.0
        self._allowed_at = time.monotonic()
        self._limited = Limited(_log, 10.0)
        self._stopping = False

    def stop(self) -> None:
        """End the thread soon; it does not wait for that."""
        self._stopping = True

    @vital
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
                identity, body = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            job = self._jobs.get(body)
            if job is None:
                job = self._jobs[body] = _Job(unpack_inquiry(body), time.monotonic())
            job.waiting.add(identity)

    def _patience(self) -> int:
        """How long nothing but a new request can be of interest, in milliseconds."""
        if not self._jobs:
            return POLL_MILLISECONDS
        due = min(job.due for job in self._jobs.values()) - time.monotonic()
        debt = -self._allowance / self._limits.bytes_per_second
        return max(0, min(POLL_MILLISECONDS, ceil(1000 * max(due, debt))))

    def _work(self, router: zmq.Socket[bytes]) -> None:
        """Answer the first request that is due, unless too much was handed out lately."""
        now = time.monotonic()
        rate = self._limits.bytes_per_second
        # Up to a quarter of a second's worth at once.
        self._allowance = min(rate / 4, self._allowance + (now - self._allowed_at) * rate)
        self._allowed_at = now
        body = next((body for body, job in self._jobs.items() if job.due <= now), None)
        if body is None or self._allowance < 0:
            return
        job = self._jobs.pop(body)
        answer = self._answer(job.inquiry)
        if answer is None:
            if now - job.asked_at < FORGET_SECONDS:
                job.due = now + RETRY_SECONDS
                self._jobs[body] = job
            return
        for identity in job.waiting:
            try:
                router.send_multipart([identity, body, *answer], zmq.NOBLOCK)
            except zmq.Again:
                # It takes nothing at present; it will ask again.
                continue
            self._allowance -= sum(map(len, answer))

    def _answer(self, inquiry: Query | Read) -> list[bytes] | None:
        """None: not now. Kafka is away, or the live side is not there yet."""
        epoch = inquiry.epoch if isinstance(inquiry, Query) else inquiry.after.epoch
        view = self._view(inquiry.stream)
        if view is None or view.epoch != epoch:
            # Another epoch: the worker is about to hear of it, or has told us of it too early.
            return None
        try:
            past = self._archive.past(inquiry.stream, view)
            if isinstance(inquiry, Query):
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

    def _find(self, query: Query, past: Past) -> Start:
        most = self._limits.max_messages
        oldest = past.oldest()
        if query.after is not None:
            past.require(query.after)
            return resume_after(query.after, past.lows, oldest, past.head, most)
        if query.last is not None:
            earliest = past.lows.merge(oldest)
            position, found = newest(min(query.last, most), earliest, past.head, past.block)
            exceeded = Unrecovered.HISTORY_EXCEEDED if found < query.last else None
            return Start(position, earliest, exceeded)
        assert query.since_ms is not None
        position = past.since(query.since_ms)
        found_at = resume_after(position, past.lows, oldest, past.head, most)
        if found_at.reason is None and any(
            0 < low == offset
            for low, offset in zip(past.lows.offsets, position.offsets, strict=False)
        ):
            # The log begins with a record from after that time: nobody can tell what was before.
            return Start(position, found_at.earliest, Unrecovered.RETENTION)
        return found_at

    def _read(self, read: Read, past: Past) -> list[Chunk]:
        """A few chunks in a row, as far as their blocks are known; at least one, if there is one.

        What retention has taken meanwhile is owned up to at the beginning of the first.
        """
        past.require(read.after)
        begin = read.after.merge(past.lows)
        lost = gap_entries(read.stream, read.after, begin, Unrecovered.RETENTION.value)
        chunks: list[Chunk] = []
        while len(chunks) < CHUNKS_PER_REPLY and (lost or past.head.beyond(begin)):
            try:
                chunk = assemble(past.frames, begin, past.head, past.known, CHUNK_BYTES)
            except BlocksNeeded as needed:
                if chunks:
                    break
                past.load(needed.places)
                continue
            begin = chunk.end
            if lost:
                data = b"".join([*(entry.frame for entry in lost), chunk.data])
                chunk = Chunk(read.after, chunk.end, chunk.frames + len(lost), data)
                lost = []
            chunks.append(chunk)
        return chunks
