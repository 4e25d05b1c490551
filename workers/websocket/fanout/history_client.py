"""Requests history from the consumer process for a worker's clients, and keeps the answers a while.

Rules of this file:

1. A client has at most one request per stream. It is withdrawn when the client leaves, unsubscribes
   or makes another one; a request that no client waits for is not sent.
2. Equal requests are one request, however many clients make them. A bounded number is in flight, so
   that answers do not pile up here.
3. The others wait in a bounded queue in which subjects take turns (FairQueue). One subject never
   has everything that may be in flight, so another's request does not wait for its answers.
4. A chunk stays until the clients that waited for it have taken it: otherwise two that are larger
   than the cache would evict each other for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol

import zmq

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.protocol.position import Position
from energyws.stream.bus_messages import (
    KeyRules,
    pack_history_request,
    pack_rule,
    unpack_chunks,
    unpack_start,
)
from energyws.stream.fair_queue import FairQueue, QueueFull
from energyws.stream.history import Chunk, FindStart, ReadChunks, StartPoint
from workers.bus.rendezvous import dealer
from workers.bus.socket_reader import SocketReader

CACHE_BYTES: Final = 8 << 20
# What the requests of all clients may weigh; one subject alone may have half of it.
REQUESTS_BYTES: Final = 64 << 20
# For each client that waits: its subscribe request, its place in the queue, and the history request
# if no other client makes it.
REQUEST_BYTES: Final = 4 << 10
# For each byte of the packed request: a position is its text and a tuple of integers.
BYTES_PER_BYTE: Final = 12
# The consumer knows a request that it still works on, so sending it again costs nothing.
SEND_AGAIN_SECONDS: Final = 2.0
# Kafka has been away for long: clients should try again later, or elsewhere.
GIVE_UP_SECONDS: Final = 15.0


_log = Log("history")


class Requester(Protocol):
    """A client."""

    @property
    def subject(self) -> str:
        """The subject of its token: clients of one subject share its turns."""


class ChunkListener(Protocol):
    """Learns about the chunks that clients wait for: the hub."""

    def chunk_arrived(self, stream: str, position: Position) -> None:
        """The chunk after a position can be taken."""

    def chunk_failed(self, stream: str, position: Position) -> None:
        """The chunk after a position cannot be read."""


Done = Callable[[StartPoint | None], None]
# A client that waits, and the stream that it waits for.
_Waiter = tuple[Requester, str]
# Of a chunk: its stream, and the position that it follows.
_ChunkId = tuple[str, Position]


@dataclass(slots=True)
class _Request:
    """Something that clients wait for. Times are monotonic; None: it has not been sent yet.

    waiters: for a FindStart with what takes its answer. subject: the one in whose turn it was sent.
    """

    body: FindStart | ReadChunks
    waiters: dict[_Waiter, Done | None] = field(default_factory=dict)
    subject: str = ""
    first_sent: float | None = None
    last_sent: float = 0.0


class HistoryClient:
    """Of one worker. directory: the bus's; concurrent: how many requests may be in flight.

    rules: of the worker's settings.
    """

    def __init__(self, directory: Path, concurrent: int, rules: KeyRules) -> None:
        self._concurrent = concurrent
        self._rules = {stream: pack_rule(rule) for stream, rule in rules.items()}
        # Set by `listen`, before the first request.
        self._listener: ChunkListener
        # By their packed form, which is their key in answers.
        self._requests: dict[bytes, _Request] = {}
        self._waiting_for: dict[_Waiter, bytes] = {}
        self._queue: FairQueue[_Waiter] = FairQueue(REQUESTS_BYTES)
        self._limited = RateLimitedLog(_log, 10.0)
        # The number in flight, by the subject in whose turn they were sent.
        self._in_flight: Counter[str] = Counter()
        self._chunks: OrderedDict[_ChunkId, Chunk] = OrderedDict()
        self._size = 0
        # Chunks that clients have waited for and not taken yet: by client, and how many clients.
        self._owed: dict[_Waiter, _ChunkId] = {}
        self._owed_to: Counter[_ChunkId] = Counter()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer = dealer(self._context, directory, "history")
        self._reader = SocketReader(asyncio.get_running_loop(), self._dealer, self._on_reply)

    @property
    def waiting(self) -> int:
        """The number of requests that clients wait for, counted per client."""
        return len(self._waiting_for)

    def listen(self, listener: ChunkListener) -> None:
        """Report chunks to this one."""
        self._listener = listener

    def find(self, requester: Requester, request: FindStart, done: Done) -> None:
        """Find where a replay can begin; `done` is called once, or never if the epoch changes.

        Raises QueueFull.
        """
        self._wait((requester, request.stream), request, done)

    def chunk(self, requester: Requester, stream: str, position: Position) -> Chunk | None:
        """The chunk after a position; None: it has been requested. Raises QueueFull."""
        chunk_id = stream, position
        chunk = self._chunks.get(chunk_id)
        if chunk is None:
            self._wait((requester, stream), ReadChunks(stream, position), None)
            return None
        self._chunks.move_to_end(chunk_id)
        self._release((requester, stream))
        return chunk

    def withdraw(self, requester: Requester, stream: str) -> None:
        """A client waits for nothing of a stream any more."""
        waiter = requester, stream
        self._release(waiter)
        key = self._waiting_for.pop(waiter, None)
        if key is None:
            return
        self._queue.leave(waiter)
        request = self._requests[key]
        del request.waiters[waiter]
        if not request.waiters and request.first_sent is None:
            del self._requests[key]

    def tick(self) -> None:
        """To be called about once a second: sends again what a consumer may have lost; gives up."""
        now = time.monotonic()
        for key, request in list(self._requests.items()):
            if request.first_sent is None:
                continue
            if now - request.first_sent >= GIVE_UP_SECONDS:
                self._drop(key)
                self._answer(request, None)
                if isinstance(request.body, ReadChunks):
                    self._listener.chunk_failed(request.body.stream, request.body.after)
            elif now - request.last_sent >= SEND_AGAIN_SECONDS:
                if request.waiters:
                    self._send(key, request)
                else:
                    self._drop(key)

    def forget(self, stream: str) -> None:
        """The stream has another epoch: drop everything of the old one."""
        for waiter in [waiter for waiter in self._owed if waiter[1] == stream]:
            self._release(waiter)
        for chunk_id in [chunk_id for chunk_id in self._chunks if chunk_id[0] == stream]:
            self._size -= len(self._chunks.pop(chunk_id).data)
        # Those that wait for their turn first, so that none of them gets it.
        void = [(k, r) for k, r in self._requests.items() if r.body.stream == stream]
        for key, _ in sorted(void, key=lambda item: item[1].first_sent is not None):
            self._drop(key)

    def close(self) -> None:
        self._reader.close()
        self._dealer.close()
        self._context.term()

    def _wait(self, waiter: _Waiter, body: FindStart | ReadChunks, done: Done | None) -> None:
        key = pack_history_request(body)
        if self._waiting_for.get(waiter) != key:
            self.withdraw(*waiter)
            weight = REQUEST_BYTES + BYTES_PER_BYTE * len(key)
            try:
                self._queue.join(waiter[0].subject, waiter, weight)
            except QueueFull:
                self._limited.warning(
                    "too many history requests: disconnecting clients",
                    subject=waiter[0].subject,
                    stream=waiter[1],
                    waiting=len(self._queue),
                )
                raise
            self._waiting_for[waiter] = key
            if key not in self._requests:
                self._requests[key] = _Request(body)
        self._requests[key].waiters[waiter] = done
        self._send_next()

    def _send_next(self) -> None:
        while self._has_room() and (taken := self._queue.take(self._may_send)) is not None:
            subject, waiter = taken
            key = self._waiting_for[waiter]
            request = self._requests[key]
            if request.first_sent is None:
                request.subject = subject
                self._in_flight[subject] += 1
                request.first_sent = time.monotonic()
                self._send(key, request)

    def _may_send(self, subject: str) -> bool:
        """Whether this subject has less in flight than is still free."""
        free = self._concurrent - self._in_flight.total()
        return self._in_flight[subject] < free

    def _send(self, key: bytes, request: _Request) -> None:
        request.last_sent = time.monotonic()
        subject = blake2b(request.subject.encode(), digest_size=8).digest()
        try:
            rule = self._rules[request.body.stream]
            self._dealer.send_multipart([key, subject, rule], zmq.NOBLOCK)
        except zmq.Again:
            # No consumer is connected and zmq's queue is full: a tick sends it again.
            return
        self._reader.after_send()

    def _drop(self, key: bytes) -> None:
        request = self._requests.pop(key, None)
        if request is None:
            return
        for waiter in request.waiters:
            del self._waiting_for[waiter]
            self._queue.leave(waiter)
        if request.first_sent is not None:
            self._in_flight[request.subject] -= 1
            if not self._in_flight[request.subject]:
                del self._in_flight[request.subject]
            self._send_next()

    def _answer(self, request: _Request, found: StartPoint | None) -> None:
        for done in request.waiters.values():
            if done is not None:
                done(found)

    def _on_reply(self, parts: list[bytes]) -> None:
        key, *answer = parts
        request = self._requests.get(key)
        if request is None:
            # A second answer, or one that came too late.
            return
        if not isinstance(request.body, ReadChunks):
            self._drop(key)
            self._answer(request, unpack_start(answer))
            return
        stream, position = chunk_id = request.body.stream, request.body.after
        for waiter in request.waiters:
            self._owed[waiter] = chunk_id
            self._owed_to[chunk_id] += 1
        # Before the next request is sent: whether there is room for its answer depends on this one.
        for chunk in unpack_chunks(position, answer):
            self._keep(stream, chunk)
        self._drop(key)
        self._listener.chunk_arrived(stream, position)

    def _keep(self, stream: str, chunk: Chunk) -> None:
        chunk_id = stream, chunk.start
        if (old := self._chunks.pop(chunk_id, None)) is not None:
            self._size -= len(old.data)
        self._chunks[chunk_id] = chunk
        self._size += len(chunk.data)
        self._evict()

    def _release(self, waiter: _Waiter) -> None:
        """A client has taken the chunk that it waited for, or needs it no more."""
        chunk_id = self._owed.pop(waiter, None)
        if chunk_id is not None:
            self._owed_to[chunk_id] -= 1
            if not self._owed_to[chunk_id]:
                del self._owed_to[chunk_id]
                had_room = self._has_room()
                self._evict()
                if not had_room:
                    self._send_next()

    def _evict(self) -> None:
        if self._size <= CACHE_BYTES:
            return
        for chunk_id in [chunk_id for chunk_id in self._chunks if chunk_id not in self._owed_to]:
            self._size -= len(self._chunks.pop(chunk_id).data)
            if self._size <= CACHE_BYTES:
                return

    def _has_room(self) -> bool:
        """Whether another answer may come; else clients are about to take what fills the cache."""
        return self._size <= CACHE_BYTES
