"""A worker's end of what lies further back: asks the consumer's history thread, and keeps answers.

Equal questions are asked once, however many clients have them; a bounded number is under way, so
that answers do not pile up here; what was answered is kept a while, for whoever comes next.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zmq

from energyws.history import Chunk, Query, Start
from energyws.position import Position
from energyws.wire import Read, pack_inquiry, unpack_chunks, unpack_start
from workers.bus import RECONNECT_MILLISECONDS, SocketReader

CACHE_BYTES: Final = 8 << 20
# The consumer knows a question that it still works on, so asking again costs nothing.
ASK_AGAIN_SECONDS: Final = 2.0
# Kafka has been away for so long that clients had better try again later, or elsewhere.
GIVE_UP_SECONDS: Final = 15.0


@dataclass(slots=True)
class _Question:
    """Something that clients wait for. Times are monotonic; None: it has not been asked yet.

    done: told the answer to a Query, or None when there is none.
    """

    inquiry: Query | Read
    done: list[Callable[[Start | None], None]] = field(default_factory=list)
    asked_first: float | None = None
    asked_last: float = 0.0


class Backfill:
    """Whoever waits for a chunk is told by on_chunk(stream, position), or by on_failure."""

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
        self._under_way = 0
        # Those that wait for their turn; some may have been given up.
        self._queue: deque[bytes] = deque()
        self._chunks: OrderedDict[tuple[str, Position], Chunk] = OrderedDict()
        self._size = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.setsockopt(zmq.LINGER, 0)
        self._dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        self._dealer.connect(f"ipc://{directory / 'history'}")
        self._reader = SocketReader(asyncio.get_running_loop(), self._dealer, self._on_reply)

    def find(self, query: Query, done: Callable[[Start | None], None]) -> None:
        """Ask where a replay can begin; `done` is called once, or never if the epoch changes."""
        self._want(query).done.append(done)

    def chunk(self, stream: str, position: Position) -> Chunk | None:
        """The chunk after a position; None: it has been asked for."""
        chunk = self._chunks.get((stream, position))
        if chunk is None:
            self._want(Read(stream, position))
        else:
            self._chunks.move_to_end((stream, position))
        return chunk

    def tick(self) -> None:
        """Once a second or so: ask again what a consumer may have taken with it; give up."""
        now = time.monotonic()
        for key, question in list(self._questions.items()):
            if question.asked_first is None:
                continue
            if now - question.asked_first >= GIVE_UP_SECONDS:
                self._drop(key)
                for done in question.done:
                    done(None)
                if isinstance(question.inquiry, Read):
                    self._on_failure(question.inquiry.stream, question.inquiry.after)
            elif now - question.asked_last >= ASK_AGAIN_SECONDS:
                self._send(key, question)

    def forget(self, stream: str) -> None:
        """The stream has another epoch: nobody wants to know of the one before."""
        for key in [key for key in self._chunks if key[0] == stream]:
            self._size -= len(self._chunks.pop(key).data)
        # Those that wait for their turn first, so that none of them gets it.
        void = [(k, q) for k, q in self._questions.items() if q.inquiry.stream == stream]
        for body, _ in sorted(void, key=lambda item: item[1].asked_first is not None):
            self._drop(body)

    def close(self) -> None:
        """Close the socket."""
        self._reader.close()
        self._dealer.close()
        self._context.term()

    def _want(self, inquiry: Query | Read) -> _Question:
        key = pack_inquiry(inquiry)
        question = self._questions.get(key)
        if question is None:
            question = self._questions[key] = _Question(inquiry)
            self._queue.append(key)
            self._ask()
        return question

    def _ask(self) -> None:
        while self._queue and self._under_way < self._concurrent:
            key = self._queue.popleft()
            question = self._questions.get(key)
            if question is not None and question.asked_first is None:
                self._under_way += 1
                question.asked_first = time.monotonic()
                self._send(key, question)

    def _send(self, key: bytes, question: _Question) -> None:
        question.asked_last = time.monotonic()
        try:
            self._dealer.send(key, zmq.NOBLOCK)
        except zmq.Again:
            # No consumer is connected and the queue is full: asked again at a tick.
            return
        self._reader.after_send()

    def _drop(self, key: bytes) -> _Question | None:
        question = self._questions.pop(key, None)
        if question is not None and question.asked_first is not None:
            self._under_way -= 1
            self._ask()
        return question

    def _on_reply(self, parts: list[bytes]) -> None:
        key, *answer = parts
        question = self._drop(key)
        if question is None:
            # A second answer, or one that came too late.
            return
        if isinstance(question.inquiry, Read):
            stream, position = question.inquiry.stream, question.inquiry.after
            for chunk in unpack_chunks(position, answer):
                self._keep(stream, chunk)
            self._on_chunk(stream, position)
            return
        found = unpack_start(answer)
        for done in question.done:
            done(found)

    def _keep(self, stream: str, chunk: Chunk) -> None:
        key = stream, chunk.start
        if (old := self._chunks.pop(key, None)) is not None:
            self._size -= len(old.data)
        self._chunks[key] = chunk
        self._size += len(chunk.data)
        while self._size > CACHE_BYTES and len(self._chunks) > 1:
            _, gone = self._chunks.popitem(last=False)
            self._size -= len(gone.data)
