"""A fan-out by keys, its log, and clients that check what they are told, without a socket."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from energyws.process.board import Board
from energyws.protocol import frame
from energyws.protocol.forms import Form
from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import EVERYBODY, EVERYTHING, KeyFilter, escaped
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import Position, from_offsets, parse
from energyws.settings import History
from energyws.stream.history import Chunk, StartPoint
from energyws.stream.recovery import history_request
from energyws.stream.ring import Entry, Ring, gap_entries
from tests.workers.websocket.fanout.one_stream import ENCODE, messages
from workers.websocket.fanout.keyed_fanout import KeyedFanout
from workers.websocket.fanout.subscription import FanoutClient

STREAM = "energy"
FRAMES = DataFrames(STREAM)


def keys(*exact: str, prefixes: Iterable[str] = ()) -> KeyFilter:
    return KeyFilter(frozenset(map(escaped, exact)), tuple(map(escaped, prefixes)))


@dataclass(frozen=True)
class Record:
    """One of the topic; key: as in its frame."""

    epoch: str
    partition: int
    offset: int
    number: int
    key: bytes | None

    def before(self, position: Position) -> bool:
        """Whether a client with this position has it, or knows that it does not."""
        if position.epoch != self.epoch:
            return position.epoch > self.epoch
        return position.covers(self.partition, self.offset)


@dataclass(eq=False)
class Client:
    """A client that resumes with what it was told last, and checks what it gets.

    start: where its subscription began; place: what it was told last, in any message; lost: the
    pairs of positions that it was told as gaps. pauses: it stops reading in its next write. rate:
    its max_rate; conflated: how many records it was told that newer ones have superseded.
    """

    stream: KeyedStream
    wanted: KeyFilter
    form: Form = Form.PLAIN
    subject: str = "tester"
    writable: bool = True
    pauses: bool = False
    gone: bool = False
    rate: float | None = None
    on_lag: OnLag = OnLag.SKIP
    conflated: int = 0
    over: Position | None = None
    start: Position = field(init=False)
    place: Position = field(init=False)
    told: list[Position] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    lost: list[tuple[Position, Position]] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sink(self) -> Client:
        return self

    def write_nocheck(self, data: bytes) -> None:
        self.write(data)

    def write(self, data: bytes) -> None:
        assert not self.gone
        for message in _positions_of_events(data) if self.form is Form.SSE else messages(data):
            self.received.append(message)
            self._take(message)
        if self.pauses and self.writable:
            self.pauses = False
            self.pause()

    def pause(self) -> None:
        self.writable = False
        self.stream.fanout.pause_writing(self)

    def resume(self) -> None:
        self.writable = True
        self.stream.fanout.resume_writing(self)

    def begins(self, reply: Subscribed) -> None:
        self.start = self.place = parse(reply.position)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        raise AssertionError("only the hub calls this")

    def too_slow(self) -> None:
        self.gone = True

    def history_unavailable(self) -> None:
        self.gone = True

    def lagging(self, stream: str) -> None:
        assert stream == STREAM

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        assert stream == STREAM

    def scanned(self, position: Position) -> None:
        self._reached(position)

    def caught_up(self, position: Position) -> None:
        self.over = position

    def wants(self, record: Record) -> bool:
        """Whether a record is for it."""
        return self.wanted is EVERYTHING or self.wanted.admits(record.key)

    def owed(self) -> list[int]:
        """The numbers of the records that it must have got to be where it was told it is."""
        # With conflation, a newer record of the same key is enough: one that it has got, is to get,
        # or was told that it will not get.
        superseded = set()
        if self.rate is not None or self.on_lag is OnLag.LATEST:
            newest: set[tuple[str, bytes | None]] = set()
            got = set(self.numbers)
            for record in reversed(self.stream.records):
                name = record.epoch, record.key
                if name in newest and record.key != EVERYBODY:
                    superseded.add(record.number)
                elif record.number in got or not record.before(self.place) or self._is_lost(record):
                    newest.add(name)
        return [
            record.number
            for record in self.stream.records
            if self.wants(record)
            and record.number not in superseded
            and not record.before(self.start)
            and record.before(self.place)
            and not self._is_lost(record)
        ]

    def _is_lost(self, record: Record) -> bool:
        """Whether it was told of a gap that has this record."""
        return any(
            record.before(end) and not (begin.epoch == end.epoch and record.before(begin))
            for begin, end in self.lost
        )

    def _take(self, message: Any) -> None:
        match message["type"]:
            case "data":
                number = message["data"]["n"]
                record = self.stream.records[number]
                key = message.get("key")
                assert record.key == (None if key is None else escaped(key))
                assert self.wants(record), "a foreign key"
                assert not record.before(self.place), "it was told that it has this one"
                self.numbers.append(number)
                self._reached(parse(message["id"]))
            case "position":
                self.told.append(parse(message["id"]))
                self.conflated += message.get("conflated", 0)
                self._reached(self.told[-1])
            case "lagged":
                assert message["missed"] is None
                self.lost.append((parse(message["from"]), parse(message["to"])))
                self._reached(parse(message["to"]))
            case other:
                raise AssertionError(other)

    def _reached(self, place: Position) -> None:
        # Where the log has nothing, a record may say less than what was told before.
        assert not any(
            record.before(self.place) and not record.before(place) for record in self.stream.records
        ), "it went back"
        self.place = place
        assert set(self.owed()) <= set(self.numbers), "a position beyond what was sent"


class KeyedLog:
    """All records of the topic; provides a chunk when a test calls `answer`."""

    def __init__(self, stream: KeyedStream) -> None:
        self.stream = stream
        self.requested: list[Position] = []
        self.ready: dict[Position, Chunk] = {}

    def withdraw(self, requester: FanoutClient, stream: str) -> None:
        """Nothing is kept for anybody."""

    def chunk(self, requester: FanoutClient, stream: str, position: Position) -> Chunk | None:
        if position not in self.ready and position not in self.requested:
            self.requested.append(position)
        return self.ready.get(position)

    def answer(self, most: int = 3) -> None:
        """Provide the oldest chunk that is wanted, of up to so many records."""
        begin = self.requested.pop(0)
        epoch, head = self.stream.epoch, self.stream.head
        after = [
            record
            for record in self.stream.records
            if record.epoch == epoch and not record.before(begin)
        ]
        end = begin
        built = []
        for record in after[:most]:
            before, end = end, end.after(record.partition, record.offset)
            if record.key == EVERYBODY:
                built.append(lagged(2, before, end, "RETENTION"))
            else:
                built.append(_frame(record, end))
        # At its end it also covers what the log has no records for.
        if len(after) <= most:
            end = end.merge(head)
        self.ready[begin] = Chunk(begin, end, len(built), b"".join(built))
        self.stream.fanout.catch_up.arrived(begin)


class KeyedStream:
    """A topic of two partitions, numbered records with keys, and a fan-out in one form.

    records: all that ever were; head: the position after them.
    """

    def __init__(self, max_frames: int = 100, form: Form = Form.PLAIN) -> None:
        self.board = Board.create()
        self.row = self.board.row(0)
        self.limits = History(max_frames=max_frames)
        self.form = form
        self.epoch = "0001"
        self.head = from_offsets(self.epoch, [0, 0])
        self.records: list[Record] = []
        self.now = 0.0
        self.log = KeyedLog(self)
        ring = Ring(self.limits, self.head, keyed=True)
        log: Any = self.log
        encode = ENCODE[form]
        self.fanout = KeyedFanout(
            STREAM, ring, log, self.row, encode, encode_from=3 if form is Form.DEFLATE else 1
        )

    def record(self, key: str | None, partition: int = 0, *, hidden: bool = False) -> int:
        """A record comes; returns its number. hidden: to the log only."""
        number, offset = len(self.records), self.head.next_offset(partition)
        text = None if key is None else escaped(key)
        record = Record(self.epoch, partition, offset, number, text)
        self.records.append(record)
        self.head = self.head.after(partition, offset)
        if not hidden:
            entry = Entry(partition, offset, number, _frame(record, self.head))
            self.fanout.ring.append(entry, self.now)
        return number

    def hole(self, partition: int = 0) -> None:
        """A record that cannot be read."""
        self.head = self.head.after(partition, self.head.next_offset(partition))
        self.fanout.ring.advance(self.head)

    def gap(self, count: int = 2, partition: int = 0) -> None:
        """Records that retention has removed before they were read."""
        known = self.head
        for _ in range(count):
            self.head = self.head.after(partition, self.head.next_offset(partition))
        # For all to see, in a report or not at all.
        last = self.head.next_offset(partition) - 1
        self.records.append(Record(self.epoch, partition, last, len(self.records), EVERYBODY))
        for entry in gap_entries(STREAM, known, self.head, "RETENTION"):
            self.fanout.ring.append(entry, self.now)

    def recreate(self) -> None:
        """The topic is created anew, empty."""
        self.epoch = f"{int(self.epoch) + 1:04}"
        self.head = from_offsets(self.epoch, [0, 0])
        self._forget_log()
        self.fanout.restart(Ring(self.limits, self.head, keyed=True))

    def reopen(self) -> None:
        """The worker has missed more than the consumer remembers."""
        self.fanout.reopen(Ring(self.limits, self.head, keyed=True))

    def client(self, *exact: str, **fields: Any) -> Client:
        """A client that subscribes to these keys."""
        wanted = keys(*exact, prefixes=fields.pop("prefixes", ()))
        client = Client(self, wanted, self.form, rate=fields.pop("rate", None))
        self.subscribe(client, **fields)
        return client

    def subscribe(self, client: Client, **fields: Any) -> Subscribed:
        resume = fields.get("resume")
        request = Subscribe(
            (STREAM,),
            {} if resume is None else {STREAM: str(resume)},
            fields.get("last"),
            fields.get("on_lag", OnLag.SKIP),
            filters={} if client.wanted is EVERYTHING else {STREAM: client.wanted},
            max_rate=client.rate,
        )
        client.on_lag = request.on_lag
        query = history_request(STREAM, self.fanout.ring, request)
        found = None
        if query is not None:
            assert query.after is not None
            found = StartPoint(query.after, from_offsets(self.epoch, [0, 0]))
        # Its writes come after the reply.
        reply = self.fanout.subscribe(client, request, found, self.now, left=fields.get("left"))
        client.begins(reply)
        return reply

    def settle(self, writes: int = 1_000) -> None:
        """Run turns until nothing is left to do; the hub has one after each event, too."""
        self.fanout.work(writes, self.now)
        for _ in range(10_000):
            while self.log.requested:
                self.log.answer()
            if not self.fanout.is_busy() and not self.fanout.has_news():
                return
            self.fanout.work(writes, self.now)
        raise AssertionError("no end after 10,000 turns")

    def _forget_log(self) -> None:
        self.log.requested, self.log.ready = [], {}


def _positions_of_events(data: bytes) -> list[dict[str, object]]:
    """The messages in these events; one without data is a position."""
    found = []
    for event in data.split(b"\n\n")[:-1]:
        place = event.split(b"\n")[-2 if b"\ndata: " in event else -1]
        found += messages(event) or [
            {"type": "position", "id": place.removeprefix(b"id: ").decode()}
        ]
    return found


def _frame(record: Record, position: Position) -> bytes:
    data = orjson.dumps({"n": record.number})
    return FRAMES.build(record.number, data, str(position), record.key)


def lagged(missed: int | None, begin: Position, end: Position, reason: str) -> bytes:
    return frame.lagged(STREAM, missed, str(begin), str(end), reason)
