"""A worker from its clients' bytes to its streams, in memory: framing, sessions, hub and log.

Only sockets, the bus and Kafka are replaced. Nothing happens by itself: tests decide when bytes
arrive, when clients read, when the event loop turns and when the log answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import orjson

from bench.kit.wire import SOCKET, Wire
from energyws.process.board import Board
from energyws.protocol.deflate import inflate
from energyws.protocol.frame import CLOSE, TEXT, DataFrames, split
from energyws.protocol.position import Position, from_offsets, parse
from energyws.settings import History, Limits, Server, Stream
from energyws.stream.history import Block, Chunk, FindStart, StartPoint, Stored, assemble
from energyws.stream.ring import Entry
from tests.clients import masked
from tests.principals import principal
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.clients.connections import Closing
from workers.websocket.clients.context import Context
from workers.websocket.clients.session import Session
from workers.websocket.connection.framing import READ_BYTES, Framing
from workers.websocket.connection.upgrade import Upgrade, switching
from workers.websocket.fanout import turns
from workers.websocket.fanout.history_client import ChunkListener
from workers.websocket.fanout.hub import Hub
from workers.websocket.shares import Shares

EPOCH = "abcd0123"
EXTENSION = "permessage-deflate; server_no_context_takeover"
PARTITIONS = 2
# Small, so that few records exceed them.
RING_FRAMES = 12
CHUNK_BYTES = 500
WRITE_BUFFER_BYTES = 300
_FRAMES = DataFrames("energy")


class Log:
    """All records. It answers when a test says so."""

    def __init__(self) -> None:
        self.partitions: list[list[Stored]] = [[] for _ in range(PARTITIONS)]
        self.finding: list[tuple[Any, FindStart, Callable[[StartPoint | None], None]]] = []
        self.requested: list[Position] = []
        self._ready: dict[Position, Chunk] = {}
        self._listener: ChunkListener
        self.waiting = 0

    def listen(self, listener: ChunkListener) -> None:
        self._listener = listener

    def find(self, client: Any, request: FindStart, done: Callable[..., None]) -> None:
        self.finding.append((client, request, done))

    def chunk(self, client: Any, stream: str, position: Position) -> Chunk | None:
        if position not in self._ready and position not in self.requested:
            self.requested.append(position)
        return self._ready.get(position)

    def withdraw(self, client: Any, stream: str) -> None:
        self.finding = [each for each in self.finding if each[0] is not client]

    def forget(self, stream: str) -> None:
        raise AssertionError("the epoch does not change")

    def tick(self) -> None:
        """Nothing is repeated."""

    @property
    def head(self) -> Position:
        return from_offsets(EPOCH, map(len, self.partitions))

    @property
    def asked(self) -> bool:
        return bool(self.finding or self.requested)

    def answer(self) -> None:
        """Answer the oldest request, if there is one."""
        if self.finding:
            _, request, done = self.finding.pop(0)
            assert request.after is not None
            done(StartPoint(request.after, from_offsets(EPOCH, [0] * PARTITIONS)))
        elif self.requested:
            position = self.requested.pop(0)
            self._ready[position] = assemble(_FRAMES, position, self.head, self._block, CHUNK_BYTES)
            self._listener.chunk_arrived("energy", position)

    def _block(self, partition: int, offset: int) -> Block | None:
        records = self.partitions[partition]
        return Block(0, len(records), records)


class HeldWire(Wire):
    """While the client does not read, its bytes are held."""

    def __init__(self, framing: Framing) -> None:
        self.reads = self.heard = True
        self._held = b""
        self._paused = self.was_paused = False
        self._high = 0
        super().__init__(framing)

    def write(self, data: bytes) -> None:
        if self.reads:
            super().write(data)
            return
        assert not self.over
        self._held += data
        if len(self._held) > self._high and not self._paused:
            self._paused = self.was_paused = True
            self.framing.pause_writing()

    write_nocheck = write

    def read(self) -> None:
        """The client reads again."""
        self.reads = True
        self.received += self._held
        self._held = b""
        if self._paused:
            self._paused = False
            self.framing.resume_writing()

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        self._high = high

    def get_write_buffer_size(self) -> int:
        return len(self._held)

    def abort(self) -> None:
        self.over = True
        self._held = b""

    def pause_reading(self) -> None:
        self.heard = False

    def resume_reading(self) -> None:
        self.heard = True


class Edge:
    """The worker."""

    def __init__(self, max_message_bytes: int = 1_000) -> None:
        self.loop = asyncio.new_event_loop()
        self.log = Log()
        self.closing: set[Closing] = set()
        self.board = Board.create()
        row = self.board.row(0)
        limits = History(max_frames=RING_FRAMES)
        self.hub: Hub = self.loop.run_until_complete(self._hub(limits, row))
        # Time does not pass here.
        cast(Any, self.hub)._waiting._rate_limit.ask = lambda *_: 0.0
        self._rest_share, turns.REST_SHARE = turns.REST_SHARE, 0.0  # type: ignore[misc]
        self.settings = Server(
            messages_per_second=1e6,
            write_buffer_bytes=WRITE_BUFFER_BYTES,
            max_message_bytes=max_message_bytes,
        )
        registry: Any = SimpleNamespace(
            join=lambda *_: None,
            expires=lambda _: None,
            closing=self.closing.add,
            lost=self.closing.discard,
            leave=self.closing.discard,
        )
        tokens: Any = SimpleNamespace()
        shares = Shares(self.board.usage(0), row, Limits())
        self.context = Context(
            self.settings,
            self.hub,
            registry,
            tokens,
            row,
            shares,
            KeyAccess({"energy": Stream(topic="readings")}, shares, row),
        )
        self.hub.set_floor("energy", from_offsets(EPOCH, [0] * PARTITIONS))
        self.hub.synced()

    async def _hub(self, limits: History, row: Any) -> Hub:
        return Hub(["energy"], limits, cast(Any, self.log), row, lambda: None)

    def close(self) -> None:
        turns.REST_SHARE = self._rest_share  # type: ignore[misc]
        self.hub.close()
        self.loop.close()

    def turn(self, count: int = 1) -> None:
        """Let the event loop turn."""
        for _ in range(count):
            self.loop.run_until_complete(asyncio.sleep(0))

    def record(self, partition: int) -> None:
        """A record comes over the bus."""
        offset = len(self.log.partitions[partition])
        number = sum(map(len, self.log.partitions))
        data = orjson.dumps({"partition": partition, "offset": offset})
        head = self.log.head.after(partition, offset)
        self.log.partitions[partition].append(Stored(offset, number, data))
        frame = _FRAMES.build(number, data, str(head))
        self.hub.append("energy", Entry(partition, offset, number, frame))

    def settle(self) -> None:
        """Everything that can happen without clients happens."""
        for _ in range(10_000):
            self.turn()
            if self.log.asked:
                self.log.answer()
            elif self.hub.turns.idle:
                return
        raise AssertionError("no end after 10,000 turns")


class Client:
    """A client, and what it must have received.

    offsets: per partition, the next one that it must get; None without a subscription. last: the id
    of its last record, from which it could resume. code: of the close frame that it got.
    """

    def __init__(self, edge: Edge, *, deflate: bool) -> None:
        self.offsets: list[int] | None = None
        self.last: str | None = None
        self.code: int | None = None
        self.gone = False
        self.replies: list[str] = []
        # What it has sent, and the network has not delivered.
        self.sent = b""
        # The `resume` of subscribe requests without an answer; None: from now on.
        self.asked: list[str | None] = []
        self.edge = edge
        self._read = 0
        extension = EXTENSION if deflate else None
        self.session = Session(edge.context, principal(), "127.0.0.1", None, extension)
        edge.loop.run_until_complete(self._begin(extension))

    async def _begin(self, extension: str | None) -> None:
        response = switching(None, extension)
        self.framing = Framing(Upgrade(self.session, response, "key"), self.edge.settings, SOCKET)
        self.wire = HeldWire(self.framing)
        self.framing.begin(b"")
        assert self.wire.received == response.head()
        self._read = len(self.wire.received)

    def send(self, message: object) -> None:
        self.sent += masked(TEXT, orjson.dumps(message))

    def deliver(self, size: int) -> None:
        """The next bytes arrive, unless the worker does not read."""
        while size and self.sent and self.wire.heard and not self.wire.over and not self.gone:
            count = min(READ_BYTES, size, len(self.sent))
            data, self.sent, size = self.sent[:count], self.sent[count:], size - count
            self.wire.deliver(data)

    def lose(self) -> None:
        """The connection ends."""
        if not self.gone:
            self.gone = True
            self.framing.connection_lost(None)

    def check(self) -> None:
        """Look at everything that came since the last time."""
        data = self.wire.received[self._read :]
        self._read = len(self.wire.received)
        for whole, payload in split(data):
            assert self.code is None, "something follows the close frame"
            opcode = whole[0] & 0xF
            if opcode == CLOSE:
                self.code = int.from_bytes(payload[:2], "big")
            elif opcode == TEXT:
                if whole[0] & 0x40:
                    payload = inflate(payload, 100_000)
                self._take(orjson.loads(payload))

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        self.replies.append(message.get("code", kind))
        if kind == "subscribed":
            state = message["positions"]["energy"]
            asked = self.asked.pop(0)
            assert asked is None or (state["recovered"], state["position"]) == (True, asked)
            self.offsets = list(parse(state["position"]).offsets)
            self.last = state["position"]
        elif kind == "unsubscribed":
            self.offsets = None
        elif kind == "data":
            record = message["data"]
            assert self.offsets is not None, "a record without a subscription"
            # Neither a gap nor a duplicate.
            assert record["offset"] == self.offsets[record["partition"]]
            self.offsets[record["partition"]] += 1
            self.last = message["id"]
            # Whoever resumes from here gets exactly the rest.
            assert parse(message["id"]).offsets == tuple(self.offsets)
        elif kind == "lagged":
            # Only a client that did not read may miss records, and is told which.
            assert self.wire.was_paused
            assert self.offsets is not None
            assert parse(message["from"]).offsets == tuple(self.offsets)
            missed = sum(parse(message["to"]).offsets) - sum(self.offsets)
            assert message["missed"] == missed > 0
            self.offsets = list(parse(message["to"]).offsets)
            self.last = message["to"]
        else:
            assert kind in ("pong", "error", "reconnect"), message
