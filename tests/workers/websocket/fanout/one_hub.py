"""A hub of two streams, its log and a client, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from energyws.process.board import Board
from energyws.protocol.forms import Form
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Chunk, FindStart, StartPoint
from energyws.stream.ring import Entry
from tests.workers.websocket.fanout.one_stream import FRAMES
from workers.websocket.fanout.history_client import ChunkListener
from workers.websocket.fanout.hub import Hub
from workers.websocket.fanout.subscription import FanoutClient

EPOCH = "abcd0123"
# The first one in the ring of each stream.
FRAME = FRAMES.build(0, b"{}", f"{EPOCH}-6")


def at(*offsets: int, epoch: str = EPOCH) -> Position:
    return from_offsets(epoch, offsets)


def subscribe(*streams: str, **fields: Any) -> Subscribe:
    complete: dict[str, Any] = {"resume": {}, "last": None, "on_lag": OnLag.SKIP, **fields}
    return Subscribe(streams=streams, **complete)


class FakeClient:
    writable = True

    def __init__(self, form: Form = Form.PLAIN) -> None:
        self.form = form
        self.on_write: Callable[[], None] | None = None
        self.replies: list[dict[str, Subscribed]] = []
        self.frames: list[bytes] = []
        self.gone = False
        self.subject = "tester"

    @property
    def sink(self) -> FakeClient:
        return self

    def write_nocheck(self, data: bytes) -> None:
        self.write(data)

    def write(self, data: bytes) -> None:
        self.frames.append(data)
        if self.on_write is not None:
            self.on_write()

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        self.replies.append(streams)

    def too_slow(self) -> None:
        self.gone = True

    def history_unavailable(self) -> None:
        self.gone = True

    def lagging(self, stream: str) -> None:
        """Only logged."""

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        """Only logged."""


class ScriptedLog:
    """A history client with replies from the test."""

    def __init__(self) -> None:
        self.requests: list[tuple[FindStart, Callable[[StartPoint | None], None]]] = []
        self.forgotten: list[str] = []
        self.wanted: list[Position] = []
        self.chunks: dict[Position, Chunk] = {}
        self.withdrawn: list[str] = []
        self.waiting = 0
        self.full = False

    def listen(self, listener: ChunkListener) -> None:
        """Tests call the hub directly instead."""

    def find(
        self,
        requester: FanoutClient,
        request: FindStart,
        done: Callable[[StartPoint | None], None],
    ) -> None:
        if self.full:
            raise QueueFull("no room")
        self.requests.append((request, done))

    def withdraw(self, requester: FanoutClient, stream: str) -> None:
        self.withdrawn.append(stream)

    def chunk(self, requester: FanoutClient, stream: str, position: Position) -> Chunk | None:
        if position not in self.chunks:
            self.wanted.append(position)
        return self.chunks.get(position)

    def forget(self, stream: str) -> None:
        self.forgotten.append(stream)

    def tick(self) -> None:
        pass


def run(test: Callable[[Hub, ScriptedLog, FakeClient], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a hub of these streams; `keyed` has keys. The log begins before the rings."""

    async def main() -> None:
        board = Board.create()
        row = board.row(0)
        log = ScriptedLog()
        hub = Hub(
            ("a", "b", "keyed"),
            History(max_scan_records=3),
            log,
            row,
            lambda: None,
            keyed=("keyed",),
        )
        await test(hub, log, FakeClient())
        hub.close()

    asyncio.run(asyncio.wait_for(main(), 20))


async def turns(hub: Hub) -> None:
    """Wait until no turn is scheduled."""
    while not hub.turns.idle:
        await asyncio.sleep(0)


def found(hub: Hub, *streams: str) -> None:
    """The topics of these streams are found; the ring of each begins at offset 5."""
    for name in streams:
        hub.set_floor(name, at(5))
        hub.append(name, Entry(0, 5, 0, FRAME))
    hub.synced()
