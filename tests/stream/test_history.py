"""Reading history: where a replay starts, and the chain of chunks, on generated logs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position, from_offsets, parse
from energyws.stream.history import (
    MAX_BLOCK_RECORDS,
    MIN_BLOCK_RECORDS,
    Block,
    BlocksNeeded,
    Chunk,
    StartPoint,
    Stored,
    assemble,
    block_records,
    first_since,
    newest,
    resume_after,
)

EPOCH: Final = "abcd0123"
SIZE: Final = 4
FRAMES: Final = DataFrames("energy")


class Topic:
    """Partitions of (offset, timestamp); blocks of SIZE are read on demand."""

    def __init__(self, partitions: Sequence[Sequence[tuple[int, int]]]) -> None:
        self.partitions = [
            [Stored(offset, at, orjson.dumps({"p": p, "o": offset})) for offset, at in partition]
            for p, partition in enumerate(partitions)
        ]
        self.head = at(*(part[-1][0] + 1 if part else 0 for part in partitions))
        self.lows = at(*(0 for _ in partitions))
        self.cache: dict[tuple[int, int], Block] = {}
        self.reads = 0

    def block(self, partition: int, offset: int) -> Block | None:
        return self.cache.get((partition, offset // SIZE))

    def read(self, partition: int, offset: int) -> Block:
        first = offset // SIZE * SIZE
        begin = bisect_left(self.partitions[partition], first, key=lambda r: r.offset)
        stop = bisect_left(self.partitions[partition], first + SIZE, key=lambda r: r.offset)
        self.reads += 1
        return Block(first, first + SIZE, self.partitions[partition][begin:stop])

    def chunk(self, begin: Position, max_bytes: int = 300) -> Chunk:
        while True:
            try:
                return assemble(FRAMES, begin, self.head, self.block, max_bytes)
            except BlocksNeeded as needed:
                for partition, offset in needed.offsets:
                    self.cache[partition, offset // SIZE] = self.read(partition, offset)

    def chunk_of_some(self, begin: Position, room: int) -> Chunk:
        """The next chunk when no more than `room` blocks fit into memory."""
        whole = True
        while True:
            try:
                return assemble(FRAMES, begin, self.head, self.block, 300, whole=whole)
            except BlocksNeeded as needed:
                whole = False
                for partition, offset in needed.offsets[:room]:
                    self.cache[partition, offset // SIZE] = self.read(partition, offset)
                while len(self.cache) > room:
                    del self.cache[next(iter(self.cache))]

    def chain(self, begin: Position, max_bytes: int = 300) -> list[Chunk]:
        chunks = []
        while self.head.beyond(begin):
            chunks.append(self.chunk(begin, max_bytes))
            assert chunks[-1].end != begin, "no progress"
            begin = chunks[-1].end
        return chunks

    def newest(self, count: int) -> tuple[Position, int]:
        return newest(count, self.lows, self.head, self.read)

    def since(self, timestamp_ms: int, partition: int = 0) -> int:
        low, high = self.lows.offsets[partition], self.head.offsets[partition]
        return first_since(timestamp_ms, partition, low, high, self.read)


def at(*offsets: int) -> Position:
    return from_offsets(EPOCH, offsets)


def messages(data: bytes) -> list[tuple[int, int, str]]:
    """(partition, offset, id) of the frames in these bytes."""
    found = []
    while data:
        size, begin = data[1], 2
        if size == 126:
            size, begin = int.from_bytes(data[2:4], "big"), 4
        message = orjson.loads(data[begin : begin + size])
        found.append((message["data"]["p"], message["data"]["o"], message["id"]))
        data = data[begin + size :]
    return found


def records(chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    return [(p, o) for chunk in chunks for p, o, _ in messages(chunk.data)]


# As in Kafka, offsets have holes and times mostly rise.
partition_of = st.lists(
    st.tuples(st.integers(1, 7), st.integers(-2, 9)), min_size=0, max_size=40
).map(
    lambda steps: [
        (sum(s for s, _ in steps[: i + 1]) - 1, 1000 + sum(t for _, t in steps[: i + 1]))
        for i in range(len(steps))
    ]
)
topics = st.lists(partition_of, min_size=1, max_size=4).map(Topic)


@given(topics, st.data())
def test_chain_delivers_everything_after_its_start_once_and_in_order(
    topic: Topic, data: st.DataObject
) -> None:
    begin = at(*(data.draw(st.integers(0, end)) for end in topic.head.offsets))
    chunks = topic.chain(begin, data.draw(st.integers(1, 2000)))
    delivered = records(chunks)
    expected = {
        (p, record.offset)
        for p, part in enumerate(topic.partitions)
        for record in part
        if record.offset >= begin.offsets[p]
    }
    assert set(delivered) == expected
    assert len(delivered) == len(expected)
    assert sum(chunk.frames for chunk in chunks) == len(expected)
    for p in range(len(topic.partitions)):
        offsets = [o for partition, o in delivered if partition == p]
        assert offsets == sorted(offsets)
    if chunks:
        assert chunks[-1].end == topic.head


@given(topics, st.data())
def test_id_covers_exactly_the_records_before_it(topic: Topic, data: st.DataObject) -> None:
    begin = at(*(data.draw(st.integers(0, end)) for end in topic.head.offsets))
    chunks = topic.chain(begin)
    delivered = records(chunks)
    ids = [text for chunk in chunks for _, _, text in messages(chunk.data)]
    for count, text in enumerate(ids, 1):
        position = parse(text)
        assert all(position.covers(p, o) for p, o in delivered[:count])
        assert not any(position.covers(p, o) for p, o in delivered[count:])


@given(topics, st.data())
def test_resuming_anywhere_in_a_chain_gives_the_rest(topic: Topic, data: st.DataObject) -> None:
    whole = [message for c in topic.chain(topic.lows) for message in messages(c.data)]
    if not whole:
        return
    cut = data.draw(st.integers(1, len(whole)))
    rest = records(topic.chain(parse(whole[cut - 1][2])))
    assert sorted(rest) == sorted((p, o) for p, o, _ in whole[cut:])


def test_chains_from_different_positions_reach_the_same_chunks() -> None:
    topic = Topic([[(n, 10 * n + p) for n in range(200)] for p in range(3)])
    chains = [topic.chain(at(*begin)) for begin in ((0, 0, 0), (7, 3, 5), (11, 0, 90))]
    ends = [{chunk.start for chunk in chain} for chain in chains]
    assert len(ends[0] & ends[1]) > 0.8 * len(ends[1])
    assert len(ends[0] & ends[2]) > 0.5 * len(ends[0])


def test_partitions_are_merged_by_time() -> None:
    topic = Topic([[(0, 100), (1, 300)], [(0, 200), (1, 400)]])
    assert records(topic.chain(topic.lows, 10_000)) == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_chunk_ends_at_the_head() -> None:
    topic = Topic([[(n, n) for n in range(10)]])
    topic.head = at(6)
    assert records(topic.chain(at(0))) == [(0, n) for n in range(6)]


def test_position_with_more_partitions_than_the_log_keeps_them() -> None:
    topic = Topic([[(n, n) for n in range(3)]])
    assert topic.chain(at(0, 9))[-1].end == at(3, 9)


@given(topics, st.integers(1, 3), st.data())
def test_chain_is_complete_when_not_all_blocks_fit_into_memory(
    topic: Topic, room: int, data: st.DataObject
) -> None:
    begin = at(*(data.draw(st.integers(0, end)) for end in topic.head.offsets))
    chunks = []
    position = begin
    while topic.head.beyond(position):
        chunks.append(topic.chunk_of_some(position, room))
        assert chunks[-1].end != position, "no progress"
        position = chunks[-1].end
    for p, part in enumerate(topic.partitions):
        assert [o for partition, o in records(chunks) if partition == p] == [
            record.offset for record in part if record.offset >= begin.offsets[p]
        ]


def test_all_missing_blocks_are_requested_together() -> None:
    topic = Topic([[(0, 1)], [(0, 1)], [(0, 1)]])
    with pytest.raises(BlocksNeeded) as needed:
        assemble(FRAMES, topic.lows, topic.head, topic.block, 100)
    assert needed.value.offsets == [(0, 0), (1, 0), (2, 0)]


@given(topics, st.integers(0, 200))
def test_newest_finds_the_requested_number_of_records_or_all(topic: Topic, count: int) -> None:
    position, found = topic.newest(count)
    delivered = records(topic.chain(position))
    assert len(delivered) == found == min(count, sum(map(len, topic.partitions)))


def test_large_number_of_newest_is_split_over_partitions_without_reading() -> None:
    topic = Topic([[(29_999, 1)], [(9_999, 1)]])
    position, found = topic.newest(30_000)
    assert position == at(7_500, 2_500)
    assert found == 30_000
    assert topic.reads == 0


def test_newest_records_have_the_latest_times() -> None:
    topic = Topic([[(n, 10 * n) for n in range(50)], [(n, 1000 + n) for n in range(3)]])
    position, _ = topic.newest(5)
    assert position == at(48, 0)


@given(partition_of, st.integers(900, 1500))
def test_first_since_finds_the_first_record_at_or_after_a_time(
    partition: list[tuple[int, int]], timestamp_ms: int
) -> None:
    times = [at for _, at in partition]
    if times != sorted(times):
        return
    topic = Topic([partition])
    expected = next((o for o, at in partition if at >= timestamp_ms), topic.head.offsets[0])
    assert topic.since(timestamp_ms) == expected


def test_first_since_reads_few_blocks() -> None:
    topic = Topic([[(n, n) for n in range(SIZE * 1024)]])
    assert topic.since(3000) == 3000
    assert topic.reads <= 12


@pytest.mark.parametrize(
    ("after", "lows", "oldest", "most", "expected"),
    [
        pytest.param((5, 5), (0, 0), (0, 0), 100, None, id="nothing removed"),
        pytest.param((9, 9), (0, 0), (0, 0), 100, None, id="ahead in both"),
        pytest.param(
            (2, 5),
            (4, 0),
            (4, 0),
            100,
            StartPoint(at(4, 5), at(4, 0), Unrecovered.RETENTION, (2, 0)),
            id="some removed by the broker",
        ),
        pytest.param(
            (2, 5),
            (0, 0),
            (5, 1),
            100,
            StartPoint(at(5, 5), at(5, 1), Unrecovered.HISTORY_EXCEEDED, (3, 0)),
            id="older than the age limit",
        ),
        pytest.param(
            (1, 0),
            (3, 0),
            (5, 0),
            100,
            StartPoint(at(5, 0), at(5, 0), Unrecovered.HISTORY_EXCEEDED, (4, 0)),
            id="some removed, some too old",
        ),
        pytest.param(
            (0, 0),
            (0, 0),
            (0, 0),
            8,
            StartPoint(at(4, 4), at(0, 0), Unrecovered.HISTORY_EXCEEDED, (4, 4)),
            id="more records than the limit",
        ),
        pytest.param(
            (0,),
            (0, 3),
            (0, 3),
            100,
            StartPoint(at(0, 3), at(0, 3), Unrecovered.RETENTION, (0, 3)),
            id="added partition, trimmed",
        ),
    ],
)
def test_start_of_a_resume(
    after: tuple[int, ...],
    lows: tuple[int, ...],
    oldest: tuple[int, ...],
    most: int,
    expected: StartPoint | None,
) -> None:
    found = resume_after(at(*after), at(*lows), at(*oldest), at(8, 8), most)
    assert found == (expected or StartPoint(at(*after), at(*lows)))


@given(st.integers(1, 5000))
def test_block_size_is_a_bounded_power_of_two(partitions: int) -> None:
    size = block_records(partitions)
    assert MIN_BLOCK_RECORDS <= size <= MAX_BLOCK_RECORDS
    assert size & (size - 1) == 0


def test_chunk_has_keys_and_removals() -> None:
    records = [Stored(0, 5, b'{"n":0}', b"m7"), Stored(1, 6, None, b"m7"), Stored(3, 7, b"{}")]
    block = Block(0, 4, records)
    chunk = assemble(FRAMES, at(0), at(4), lambda partition, offset: block, 1 << 20)
    assert chunk.data == b"".join(
        [
            FRAMES.build(5, b'{"n":0}', f"{EPOCH}-1", b"m7"),
            FRAMES.removed(6, f"{EPOCH}-2", b"m7"),
            FRAMES.build(7, b"{}", f"{EPOCH}-4"),
        ]
    )
