"""Making frames from records, without Kafka."""

from __future__ import annotations

import random
from typing import Literal

import orjson
import pytest

from energyws.process.board import Board, Field, Row
from energyws.protocol.position import from_offsets
from energyws.settings import History, Kafka, Settings, Stream
from energyws.stream.ring import Entry, Ring
from workers.consumer.events import Record, RecordsLost, TopicFound
from workers.consumer.intake import STALLED_SECONDS, Intake, _ReadBack

EPOCH = "abcd0123"


class Bus:
    """A publisher that records its frames."""

    def __init__(self) -> None:
        self.sent: list[Entry] = []
        self.moves = 0

    def publish(self, stream: str, entry: Entry) -> None:
        assert stream == "energy"
        self.sent.append(entry)

    def head_moved(self) -> None:
        self.moves += 1


@pytest.fixture
def row() -> Row:
    return Board.create().row(0)


def intake(
    row: Row,
    bus: Bus,
    begin: tuple[int, ...],
    live: tuple[int, ...],
    max_bytes: int = 16 << 20,
    stream: Stream | None = None,
) -> Intake:
    settings = Settings(
        kafka=Kafka(brokers="x", max_record_bytes=1024),
        streams={"energy": stream or Stream(topic="t")},
        history=History(max_bytes=max_bytes),
    )
    return Intake("energy", TopicFound("energy", EPOCH, begin, live), EPOCH, settings, row, bus)


def record(partition: int, offset: int, timestamp_ms: int | None = 1_000) -> Record:
    value = orjson.dumps({"p": partition, "o": offset})
    return Record("energy", partition, offset, timestamp_ms, value)


def message(entry: Entry) -> dict[str, object]:
    begin = 2 if entry.frame[1] < 126 else 4
    decoded: dict[str, object] = orjson.loads(entry.frame[begin:])
    return decoded


def ring_of(taken: Intake) -> Ring:
    assert taken.ring is not None
    return taken.ring


def entries(ring: Ring) -> list[Entry]:
    return ring.read(ring.first, ring.end, 1 << 30)[0]


def test_empty_topic_is_live_immediately(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (0, 0), (0, 0))
    assert taken.settle()
    taken.take(record(1, 0))
    assert not taken.settle()
    assert [message(entry)["id"] for entry in bus.sent] == [f"{EPOCH}-0.1"]
    assert str(ring_of(taken).head) == f"{EPOCH}-0.1"


@pytest.mark.parametrize("max_bytes", [1, 200, 1_000, 4_000, 1 << 20])
def test_records_are_read_back_in_bounded_memory(row: Row, max_bytes: int) -> None:
    rng = random.Random(max_bytes)
    begin, live = (5, 0, 7), (65, 60, 7)
    written = [
        Record(
            "energy",
            partition,
            offset,
            10 * offset + rng.randrange(10),
            b'{"x":"%s"}' % (b"x" * size),
        )
        for partition in range(2)
        for offset in range(begin[partition], live[partition])
        for size in (rng.choice([1, 40, 300]),)
    ]
    taken = intake(row, Bus(), begin, live, max_bytes)
    for each in written:
        taken.take(each)
        held = [sum(len(data) for _, data in each.records) for each in taken._read_back]
        assert all(size <= max(max_bytes, 310) for size in held)
    assert taken.settle()
    # The ring is the same as if everything had been held until the end.
    everything = intake(row, Bus(), begin, live, max_bytes)
    everything._read_back = [_ReadBack(1 << 30) for _ in begin]
    for each in written:
        everything.take(each)
    assert everything.settle()
    assert entries(ring_of(taken)) == entries(ring_of(everything))
    assert ring_of(taken).floor == ring_of(everything).floor
    assert ring_of(taken).head == ring_of(everything).head


def test_records_read_back_are_ordered_by_time_and_not_published(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (5, 0), (7, 2))
    # One partition after the other, as a broker sends them.
    for each in (record(0, 5, 10), record(0, 6, 30), record(1, 0, 20)):
        taken.take(each)
        assert not taken.settle()
    taken.take(record(1, 1, 40))
    assert taken.settle()
    assert bus.sent == []
    ring = ring_of(taken)
    assert [(e.partition, e.offset) for e in entries(ring)] == [(0, 5), (1, 0), (0, 6), (1, 1)]
    assert [message(entry)["id"] for entry in entries(ring)] == [
        f"{EPOCH}-6.0",
        f"{EPOCH}-6.1",
        f"{EPOCH}-7.1",
        f"{EPOCH}-7.2",
    ]
    assert str(ring.floor) == f"{EPOCH}-5.0"


def test_decreasing_times_do_not_change_the_order_of_a_partition(row: Row) -> None:
    taken = intake(row, Bus(), (0, 0), (3, 1))
    for each in (record(0, 0, 50), record(0, 1, 10), record(0, 2, 60), record(1, 0, 30)):
        taken.take(each)
    assert taken.settle()
    own = [e.offset for e in entries(ring_of(taken)) if e.partition == 0]
    assert own == [0, 1, 2]


def test_end_of_a_log_without_records_at_its_last_offsets_is_reached(row: Row) -> None:
    taken = intake(row, Bus(), (0,), (4,))
    taken.take(record(0, 1))
    assert not taken.settle()
    # Offsets 2 and 3 were control records of a transaction, or compacted away.
    taken.reached(0, 4)
    assert taken.settle()
    assert str(ring_of(taken).head) == f"{EPOCH}-4"


@pytest.mark.parametrize(
    "value", [None, b"", b"nonsense", b"[]", b"x" * 2000], ids=lambda v: str(v)[:12]
)
def test_bad_record_is_counted_and_skipped(row: Row, value: bytes | None) -> None:
    bus = Bus()
    taken = intake(row, bus, (0,), (0,))
    taken.settle()
    taken.take(Record("energy", 0, 0, 1, value))
    assert not taken.settle()
    assert row[Field.BAD_RECORDS] == 1
    assert bus.sent == []
    # The head is after the bad record, so clients resume after it too.
    assert str(ring_of(taken).head) == f"{EPOCH}-1"
    assert bus.moves == 1
    taken.take(record(0, 1))
    assert [message(entry)["id"] for entry in bus.sent] == [f"{EPOCH}-2"]
    # Workers know the head from the frame.
    assert not taken.settle()
    assert bus.moves == 1


def test_repeated_record_is_published_once(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (0,), (0,))
    taken.settle()
    for offset in (0, 1, 0, 1, 2):
        taken.take(record(0, offset))
    assert [entry.offset for entry in bus.sent] == [0, 1, 2]


def test_lost_records_are_replaced_by_a_lagged_message(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (0, 0), (0, 0))
    taken.settle()
    taken.take(record(0, 0))
    taken.lost(RecordsLost("energy", 0, 1, 6))
    taken.take(record(0, 6))
    gap = message(bus.sent[1])
    assert (gap["type"], gap["missed"], gap["reason"]) == ("lagged", 5, "RETENTION")
    assert (gap["from"], gap["to"]) == (f"{EPOCH}-1.0", f"{EPOCH}-6.0")
    assert (bus.sent[1].partition, bus.sent[1].offset) == (0, 5)
    assert str(ring_of(taken).head) == f"{EPOCH}-7.0"


def test_loss_while_reading_back_only_raises_the_floor(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (0, 0), (8, 1))
    taken.take(record(0, 0))
    taken.lost(RecordsLost("energy", 0, 1, 6))
    for each in (record(0, 6), record(0, 7), record(1, 0)):
        taken.take(each)
    assert taken.settle()
    assert bus.sent == []
    ring = ring_of(taken)
    assert str(ring.floor) == f"{EPOCH}-6.0"
    # The floor shows that a client at an older position has missed records.
    assert [(e.partition, e.offset) for e in entries(ring)] == [(0, 6), (0, 7), (1, 0)]


def test_added_partition_is_in_every_later_position(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (0,), (0,))
    taken.settle()
    taken.take(record(0, 0))
    taken.add_partition(1, 0)
    taken.take(record(1, 0))
    assert [message(entry)["id"] for entry in bus.sent] == [f"{EPOCH}-1", f"{EPOCH}-1.1"]


@pytest.mark.parametrize("timestamp_ms", [None, -1, 253_402_300_800_000])
def test_unusable_timestamp_is_replaced_by_the_current_time(
    row: Row, timestamp_ms: int | None
) -> None:
    bus = Bus()
    taken = intake(row, bus, (0,), (0,))
    taken.settle()
    taken.take(record(0, 0, timestamp_ms))
    assert str(message(bus.sent[0])["timestamp"]).startswith("20")


def test_partition_that_stalls_does_not_delay_the_stream(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (5, 0), (7, 2))
    taken.take(record(0, 5))
    assert taken.skip_stalled(100.0) == []
    for each in (record(1, 0), record(1, 1)):
        taken.take(each)
    assert not taken.settle()
    # The time limit starts at the last progress.
    assert taken.skip_stalled(100.0 + STALLED_SECONDS - 1) == []
    assert taken.skip_stalled(100.0 + STALLED_SECONDS) == [0]
    assert taken.settle()
    ring = ring_of(taken)
    # Records that were not read back are below the floor; clients get them from the log.
    assert str(ring.floor) == str(from_offsets(EPOCH, (7, 0)))
    assert [(e.partition, e.offset) for e in entries(ring)] == [(1, 0), (1, 1)]
    # When these records arrive at last, they are not published.
    for each in (record(0, 6), record(0, 7)):
        taken.take(each)
    assert [(entry.partition, entry.offset) for entry in bus.sent] == [(0, 7)]


def test_intake_waits_for_a_stream_that_stalls_as_a_whole(row: Row) -> None:
    taken = intake(row, Bus(), (5, 0), (7, 2))
    for now in (100.0, 200.0, 300.0):
        assert taken.skip_stalled(now) == []
    assert not taken.settle()


def test_intake_waits_for_a_partition_that_makes_progress(row: Row) -> None:
    taken = intake(row, Bus(), (0, 0), (9, 0))
    for offset in range(8):
        taken.take(record(0, offset))
        assert taken.skip_stalled(100.0 + offset * STALLED_SECONDS) == []


def test_skipped_records_of_an_unavailable_partition_become_a_lagged_message(row: Row) -> None:
    bus = Bus()
    taken = intake(row, bus, (3, 0), (3, 0))
    taken.settle()
    taken.lost(RecordsLost("energy", 0, 3, 8, retention=False))
    gap = message(bus.sent[0])
    assert (gap["type"], gap["missed"], gap["reason"]) == ("lagged", 5, "HISTORY_EXCEEDED")


def keyed(row: Row, bus: Bus, access: Literal["open", "keyed"], live: int = 0) -> Intake:
    stream = Stream(topic="t", key="record", access=access)
    return intake(row, bus, (0,), (live,), stream=stream)


def with_key(offset: int, key: bytes | None, value: bytes | None = b"{}") -> Record:
    return Record("energy", 0, offset, 1_000, value, key)


@pytest.mark.parametrize("live", [0, 3])
def test_frames_have_keys_and_tombstones_remove_them(row: Row, live: int) -> None:
    """Live, and read back."""
    taken = keyed(row, Bus(), "open", live)
    taken.settle()
    for each in (with_key(0, b"m7"), with_key(1, None), with_key(2, b"m7", None)):
        taken.take(each)
    taken.settle()
    timestamp = "1970-01-01T00:00:01.000Z"
    first, second, third = map(message, entries(ring_of(taken)))
    assert first == {
        "type": "data",
        "stream": "energy",
        "timestamp": timestamp,
        "data": {},
        "key": "m7",
        "id": f"{EPOCH}-1",
    }
    assert "key" not in second
    assert third == {
        "type": "removed",
        "stream": "energy",
        "timestamp": timestamp,
        "key": "m7",
        "id": f"{EPOCH}-3",
    }
    assert row[Field.BAD_RECORDS] == 0


@pytest.mark.parametrize("live", [0, 4])
def test_records_without_a_key_reach_nobody_where_access_is_keyed(
    row: Row, live: int, caplog: pytest.LogCaptureFixture
) -> None:
    taken = keyed(row, Bus(), "keyed", live)
    unkeyed: list[int] = []
    taken.on_unkeyed = unkeyed.append
    taken.settle()
    for each in (with_key(0, b"m7"), with_key(1, None), with_key(2, b"\xff"), with_key(3, b"m8")):
        taken.take(each)
    taken.settle()
    ring = ring_of(taken)
    assert [message(entry)["key"] for entry in entries(ring)] == ["m7", "m8"]
    assert str(ring.head) == f"{EPOCH}-4"
    assert unkeyed == [0, 0]
    # The second one is held back for a moment.
    (line,) = caplog.records
    assert line.getMessage() == "record without a key is not published"


def test_records_without_a_key_are_counted_where_everybody_gets_them(row: Row) -> None:
    bus, unkeyed = Bus(), list[int]()
    taken = keyed(row, bus, "open")
    taken.on_unkeyed = unkeyed.append
    taken.settle()
    taken.take(with_key(0, None))
    assert (len(bus.sent), unkeyed) == (1, [0])
