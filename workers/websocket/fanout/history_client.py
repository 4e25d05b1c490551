"""A worker's end of what lies further back: asks the consumer's history thread, and keeps answers.

Rules of this file:

1. A client has one question per stream at most. It is withdrawn when the client leaves,
   unsubscribes or asks another one; a question that no client waits for is not asked.
2. Equal questions are one question, however many clients have them. A bounded number is under
   way, so that answers do not pile up here; what was answered is kept a while.
3. The others wait in a bounded queue in which subjects take turns (FairQueue). One subject never
   has all that may be under way, so another one's question does not wait for its answers.
4. A chunk stays until the clients that waited for it have taken it: else two that are larger than
   the cache would push each other out for ever.
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
    pack_history_request,
    unpack_chunks,
    unpack_start,
)
from energyws.stream.fair_queue import FairQueue, QueueFull
from energyws.stream.history import Chunk, FindStart, ReadChunks, StartPoint
from workers.bus.rendezvous import RECONNECT_MILLISECONDS
from workers.bus.socket_reader import SocketReader

CACHE_BYTES: Final = 8 << 20
# What the questions of all clients may weigh; one subject alone may have half of it.
QUESTIONS_BYTES: Final = 64 << 20
# Of a client that waits: its request, its place in the queue, and the question if no other has it.
QUESTION_BYTES: Final = 4 << 10
# Of each byte of the packed question: a position is its text and a tuple of integers.
BYTES_PER_BYTE: Final = 12
# The consumer knows a question that it still works on, so asking again costs nothing.
ASK_AGAIN_SECONDS: Final = 2.0
# Kafka has been away for so long that clients had better try again later, or elsewhere.
GIVE_UP_SECONDS: Final = 15.0


_log = Log("history")


class Requester(Protocol):
    """A client. subject: those of one subject share its turns."""

    @property
    def subject(self) -> str:
        """The subject of its token."""


Done = Callable[[StartPoint | None], None]
# One client's interest in one stream.
_Wait = tuple[Requester, str]
_Place = tuple[str, Position]


@dataclass(slots=True)
class _Question:
    """Something that clients wait for. Times are monotonic; None: it has not been asked yet.

    waiting: the clients that want the answer; for a FindStart with what takes it, or None when
    there is none. subject: the one in whose turn it was asked.
    """

    inquiry: FindStart | ReadChunks
    waiting: dict[_Wait, Done | None] = field(default_factory=dict)
    subject: str = ""
    asked_first: float | None = None
    asked_last: float = 0.0


class HistoryClient:
    """Clients that wait for a chunk are reported by on_chunk(stream, position), or on_failure."""

    def __init__(
        self,
        directory: Path,
        concurrent: int,
        on_chunk: Callable[[str, Position], None],
        on_failure: Callable[[str, Position], None],
    ) -> None:
        self._concurrent = concurrent
        self._on_chunk = on_chunk
        self._on_failure = on_failure
        self._questions: dict[bytes, _Question] = {}
        self._asked: dict[_Wait, bytes] = {}
        self._turns: FairQueue[_Wait] = FairQueue(QUESTIONS_BYTES)
        self._limited = RateLimitedLog(_log, 10.0)
        # How many are under way, by the subject in whose turn they were asked.
        self._under_way: Counter[str] = Counter()
        self._chunks: OrderedDict[_Place, Chunk] = OrderedDict()
        self._size = 0
        # Chunks that clients have waited for and not taken yet: by client, and how many clients.
        self._owed: dict[_Wait, _Place] = {}
        self._owed_to: Counter[_Place] = Counter()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.LINGER, 0)
        self._dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        self._dealer.connect(f"ipc://{directory / 'history'}")
        self._reader = SocketReader(asyncio.get_running_loop(), self._dealer, self._on_reply)

    @property
    def waiting(self) -> int:
        """How many questions clients wait for, each client's counted."""
        return len(self._asked)

    def find(self, asker: Requester, query: FindStart, done: Done) -> None:
        """Ask where a replay can begin; `done` is called once, or never if the epoch changes.

        Raises energyws.stream.fair_queue.Full.
        """
        self._want((asker, query.stream), query, done)

    def chunk(self, asker: Requester, stream: str, position: Position) -> Chunk | None:
        """The chunk after a position; None: it has been asked for. Raises QueueFull."""
        place = stream, position
        chunk = self._chunks.get(place)
        if chunk is None:
            self._want((asker, stream), ReadChunks(stream, position), None)
            return None
        self._chunks.move_to_end(place)
        self._release((asker, stream))
        return chunk

    def withdraw(self, asker: Requester, stream: str) -> None:
        """A client waits for nothing of a stream any more."""
        wait = asker, stream
        self._release(wait)
        key = self._asked.pop(wait, None)
        if key is None:
            return
        self._turns.leave(wait)
        question = self._questions[key]
        del question.waiting[wait]
        if not question.waiting and question.asked_first is None:
            del self._questions[key]

    def tick(self) -> None:
        """Once a second or so: ask again what a consumer may have taken with it; give up."""
        now = time.monotonic()
        for key, question in list(self._questions.items()):
            if question.asked_first is None:
                continue
            if now - question.asked_first >= GIVE_UP_SECONDS:
                self._drop(key)
                self._tell(question, None)
                if isinstance(question.inquiry, ReadChunks):
                    self._on_failure(question.inquiry.stream, question.inquiry.after)
            elif now - question.asked_last >= ASK_AGAIN_SECONDS:
                if question.waiting:
                    self._send(key, question)
                else:
                    self._drop(key)

    def forget(self, stream: str) -> None:
        """The stream has another epoch: nobody wants to know of the one before."""
        for wait in [wait for wait in self._owed if wait[1] == stream]:
            self._release(wait)
        for place in [place for place in self._chunks if place[0] == stream]:
            self._size -= len(self._chunks.pop(place).data)
        # Those that wait for their turn first, so that none of them gets it.
        void = [(k, q) for k, q in self._questions.items() if q.inquiry.stream == stream]
        for key, _ in sorted(void, key=lambda item: item[1].asked_first is not None):
            self._drop(key)

    def close(self) -> None:
        """Close the socket."""
        self._reader.close()
        self._dealer.close()
        self._context.term()

    def _want(self, wait: _Wait, inquiry: FindStart | ReadChunks, done: Done | None) -> None:
        key = pack_history_request(inquiry)
        if self._asked.get(wait) != key:
            self.withdraw(*wait)
            weight = QUESTION_BYTES + BYTES_PER_BYTE * len(key)
            try:
                self._turns.join(wait[0].subject, wait, weight)
            except QueueFull:
                self._limited.warning(
                    "too many history requests: disconnecting clients",
                    subject=wait[0].subject,
                    stream=wait[1],
                    waiting=len(self._turns),
                )
                raise
            self._asked[wait] = key
            if key not in self._questions:
                self._questions[key] = _Question(inquiry)
        self._questions[key].waiting[wait] = done
        self._ask()

    def _ask(self) -> None:
        while self._has_room() and (taken := self._turns.take(self._may_ask)) is not None:
            subject, wait = taken
            key = self._asked[wait]
            question = self._questions[key]
            if question.asked_first is None:
                question.subject = subject
                self._under_way[subject] += 1
                question.asked_first = time.monotonic()
                self._send(key, question)

    def _may_ask(self, subject: str) -> bool:
        """Whether less of what may be under way is this subject's than is free."""
        free = self._concurrent - self._under_way.total()
        return self._under_way[subject] < free

    def _send(self, key: bytes, question: _Question) -> None:
        question.asked_last = time.monotonic()
        whose = blake2b(question.subject.encode(), digest_size=8).digest()
        try:
            self._dealer.send_multipart([key, whose], zmq.NOBLOCK)
        except zmq.Again:
            # No consumer is connected and the queue is full: asked again at a tick.
            return
        self._reader.after_send()

    def _drop(self, key: bytes) -> _Question | None:
        question = self._questions.pop(key, None)
        if question is None:
            return None
        for wait in question.waiting:
            del self._asked[wait]
            self._turns.leave(wait)
        if question.asked_first is not None:
            self._under_way[question.subject] -= 1
            if not self._under_way[question.subject]:
                del self._under_way[question.subject]
            self._ask()
        return question

    def _tell(self, question: _Question, found: StartPoint | None) -> None:
        for done in question.waiting.values():
            if done is not None:
                done(found)

    def _on_reply(self, parts: list[bytes]) -> None:
        key, *answer = parts
        question = self._questions.get(key)
        if question is None:
            # A second answer, or one that came too late.
            return
        if not isinstance(question.inquiry, ReadChunks):
            self._drop(key)
            self._tell(question, unpack_start(answer))
            return
        place = stream, position = question.inquiry.stream, question.inquiry.after
        for wait in question.waiting:
            self._owed[wait] = place
            self._owed_to[place] += 1
        # Before the next is asked: whether there is room for its answer depends on it.
        for chunk in unpack_chunks(position, answer):
            self._keep(stream, chunk)
        self._drop(key)
        self._on_chunk(stream, position)

    def _keep(self, stream: str, chunk: Chunk) -> None:
        place = stream, chunk.start
        if (old := self._chunks.pop(place, None)) is not None:
            self._size -= len(old.data)
        self._chunks[place] = chunk
        self._size += len(chunk.data)
        self._evict()

    def _release(self, wait: _Wait) -> None:
        """A client has taken what it waited for, or does not want it any more."""
        place = self._owed.pop(wait, None)
        if place is not None:
            self._owed_to[place] -= 1
            if not self._owed_to[place]:
                del self._owed_to[place]
                had_room = self._has_room()
                self._evict()
                if not had_room:
                    self._ask()

    def _evict(self) -> None:
        if self._size <= CACHE_BYTES:
            return
        for place in [place for place in self._chunks if place not in self._owed_to]:
            self._size -= len(self._chunks.pop(place).data)
            if self._size <= CACHE_BYTES:
                return

    def _has_room(self) -> bool:
        """Whether another answer may come; else clients are about to take what fills the cache."""
        return self._size <= CACHE_BYTES
