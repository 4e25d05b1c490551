"""A fan-out of one stream, its log and its clients, without a socket."""

from __future__ import annotations

import orjson

from energyws.process.board import Board
from energyws.protocol import event_stream, json_lines
from energyws.protocol.deflate import Compressor, inflate
from energyws.protocol.forms import Form, Kept
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Block, Chunk, StartPoint, Stored, assemble
from energyws.stream.recovery import history_request
from energyws.stream.ring import Entry, Ring
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.subscription import FanoutClient

EPOCH = "abcd0123"
FRAMES = DataFrames("energy")
ENCODE = {
    Form.PLAIN: None,
    Form.DEFLATE: Compressor(2_000),
    Form.SSE: Kept(event_stream.encode, 2_000),
    Form.LINES: json_lines.encode,
}


def messages(data: bytes) -> list[dict[str, object]]:
    """The JSON of the messages in these bytes, in any form."""
    if data[:1] not in (b"\x81", b"\xc1"):
        # Events have theirs behind a name, lines have nothing else.
        texts = (line.removeprefix(b"data: ") for line in data.splitlines())
        return [orjson.loads(text) for text in texts if text.startswith(b"{")]
    found = []
    while data:
        size, begin = data[1], 2
        if size == 126:
            size, begin = int.from_bytes(data[2:4], "big"), 4
        payload = data[begin : begin + size]
        assert data[0] in (0x81, 0xC1)
        found.append(orjson.loads(inflate(payload, 10_000) if data[0] == 0xC1 else payload))
        data = data[begin + size :]
    return found


class ReadingClient:
    """Records received messages; pauses in the middle of its write number `pause_after`."""

    def __init__(self, pause_after: int | None = None) -> None:
        self.writable = True
        self.form = Form.PLAIN
        self.subject = "tester"
        self.fanout: Fanout | None = None
        self.received: list[dict[str, object]] = []
        self.writes = 0
        self.gone = False
        self.lagged = 0
        self.skips: list[tuple[int, bool]] = []
        self.pause_after = pause_after

    @property
    def sink(self) -> ReadingClient:
        return self

    def write_nocheck(self, data: bytes) -> None:
        self.write(data)

    def write(self, data: bytes) -> None:
        self.received += messages(data)
        self.writes += 1
        if self.writes == self.pause_after:
            self.pause()

    def pause(self) -> None:
        self.writable = False
        assert self.fanout is not None
        self.fanout.pause_writing(self)

    def resume(self) -> None:
        self.writable = True
        assert self.fanout is not None
        self.fanout.resume_writing(self)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        raise AssertionError("only the hub calls this")

    def too_slow(self) -> None:
        self.gone = True

    def history_unavailable(self) -> None:
        self.gone = True

    def lagging(self, stream: str) -> None:
        assert stream == "energy"
        self.lagged += 1

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        assert stream == "energy"
        self.skips.append((frames, by_choice))

    @property
    def numbers(self) -> list[object]:
        return [m["data"]["n"] for m in self.received if m["type"] == "data"]  # type: ignore[index]

    @property
    def gaps(self) -> list[dict[str, object]]:
        return [m for m in self.received if m["type"] == "lagged"]


class FakeLog:
    """All records; provides a chunk when a test calls `answer`."""

    def __init__(self) -> None:
        self.partitions: list[list[Stored]] = [[], []]
        self.requested: list[Position] = []
        self.ready: dict[Position, Chunk] = {}
        self.max_bytes = 400
        self.full = False
        self.withdrawn: list[FanoutClient] = []

    def withdraw(self, requester: FanoutClient, stream: str) -> None:
        self.withdrawn.append(requester)

    def chunk(self, requester: FanoutClient, stream: str, position: Position) -> Chunk | None:
        if self.full:
            raise QueueFull("no room")
        if position not in self.ready and position not in self.requested:
            self.requested.append(position)
        return self.ready.get(position)

    def answer(self, position: Position) -> None:
        self.requested.remove(position)
        head = from_offsets(EPOCH, [len(records) for records in self.partitions])
        self.ready[position] = assemble(FRAMES, position, head, self._block, self.max_bytes)

    def _block(self, partition: int, offset: int) -> Block | None:
        return Block(0, len(self.partitions[partition]), self.partitions[partition])


class OneStream:
    """A fan-out in one form with a ring of `max_frames`, and numbered records."""

    def __init__(self, max_frames: int = 100, form: Form = Form.PLAIN) -> None:
        self.board = Board.create()
        self.row = self.board.row(0)
        self.limits = History(max_frames=max_frames)
        self.log = FakeLog()
        ring = Ring(self.limits, from_offsets(EPOCH, [0, 0]))
        self.fanout = Fanout("energy", ring, self.log, self.row, ENCODE[form])
        self.sent = 0
        self.now = 0.0

    def records(self, count: int = 1) -> list[int]:
        """Append records, alternating between two partitions."""
        numbers = list(range(self.sent, self.sent + count))
        for number in numbers:
            partition, offset = number % 2, number // 2
            head = self.fanout.ring.head.after(partition, offset)
            data = orjson.dumps({"n": number})
            frame = FRAMES.build(number, data, str(head))
            self.log.partitions[partition].append(Stored(offset, number, data))
            self.fanout.ring.append(Entry(partition, offset, number, frame), self.now)
        self.sent += count
        return numbers

    def answer(self) -> None:
        """Provide the chunk for the oldest request."""
        if self.log.requested:
            position = self.log.requested[0]
            self.log.answer(position)
            self.fanout.catch_up.arrived(position)

    def settle(self, writes: int = 1000) -> None:
        """Run turns until nothing is left to do."""
        for _ in range(10_000):
            self.answer()
            if not self.fanout.is_busy() and not self.fanout.has_news() and not self.log.requested:
                return
            self.fanout.work(writes, self.now)
        raise AssertionError("no end after 10,000 turns")

    def subscribe(self, client: ReadingClient, **fields: object) -> Subscribed:
        client.fanout = self.fanout
        request = Subscribe(
            ("energy",),
            fields.get("resume", {}),  # type: ignore[arg-type]
            fields.get("last"),  # type: ignore[arg-type]
            fields.get("on_lag", OnLag.SKIP),  # type: ignore[arg-type]
        )
        query = history_request("energy", self.fanout.ring, request)
        found = None
        if query is not None and query.after is not None:
            found = StartPoint(query.after, from_offsets(EPOCH, [0, 0]))
        return self.fanout.subscribe(client, request, found, self.now)
