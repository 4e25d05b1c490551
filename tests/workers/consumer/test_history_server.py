"""History requests over a real socket, answered from a log in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zmq

from energyws.process.stalls import Stall
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.bus_messages import pack_history_request, unpack_chunks, unpack_start
from energyws.stream.history import Chunk, FindStart, HistoryRequest, ReadChunks, StartPoint
from tests.workers.consumer.memory_log import EPOCH, MemoryLog
from workers.bus.rendezvous import endpoint
from workers.consumer import history_server
from workers.consumer.history_server import FORGET_SECONDS, RETRY_SECONDS, HistoryServer
from workers.consumer.log_cache import StreamHead
from workers.consumer.log_reader import Unreadable

PATIENCE_MILLISECONDS = 10_000


class Stage:
    """A history server that takes a turn when the test calls it, and its workers."""

    def __init__(self, directory: Path, memory: MemoryLog) -> None:
        self.memory = memory
        self.live: StreamHead | None = memory.live
        self.server = HistoryServer(
            directory,
            memory.settings,
            {},
            lambda stream: self.live,
            memory.row,
            memory.schemas,
            lambda: memory.now,
        )
        self._directory = directory
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self._socket(zmq.ROUTER)
        self.router.bind(endpoint(directory, "history"))
        self.workers: list[zmq.Socket[bytes]] = []

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        return socket

    def worker(self) -> zmq.Socket[bytes]:
        """A new worker."""
        self.workers.append(self._socket(zmq.DEALER))
        self.workers[-1].connect(endpoint(self._directory, "history"))
        return self.workers[-1]

    def send(self, worker: zmq.Socket[bytes], request: HistoryRequest, *subject: bytes) -> None:
        """Send a request, and let the server receive it."""
        worker.send_multipart([pack_history_request(request), *subject])
        assert self.router.poll(PATIENCE_MILLISECONDS)
        self.server._receive(self.router)

    def answer_next(self) -> None:
        self.server._answer_next(self.router)

    def received(self, worker: zmq.Socket[bytes]) -> list[bytes]:
        """The next reply: the request that it repeats, and its parts."""
        assert worker.poll(PATIENCE_MILLISECONDS)
        return worker.recv_multipart()

    def waiting(self) -> int:
        """The number of requests without a reply yet."""
        return len(self.server._requests)

    def find(self, **wanted: Any) -> StartPoint:
        """The reply to a FindStart from a new worker."""
        worker = self.worker()
        self.send(worker, FindStart("s", EPOCH, **wanted))
        self.answer_next()
        return unpack_start(self.received(worker)[1:])

    def read(self, after: Position) -> list[Chunk]:
        """The reply to a ReadChunks from a new worker."""
        worker = self.worker()
        self.send(worker, ReadChunks("s", after))
        self.answer_next()
        return unpack_chunks(after, self.received(worker)[1:])

    def close(self) -> None:
        for socket in (self.router, *self.workers):
            socket.close()
        self._context.term()


Make = Callable[..., Stage]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """`make(counts)`: a server of a log with counts[n] records in partition n."""
    stages: list[Stage] = []

    def make(counts: list[int], **history: Any) -> Stage:
        memory = MemoryLog(counts, History(**history))
        memory.serve(monkeypatch)
        stages.append(Stage(tmp_path, memory))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    found: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(str(record.energyws_fields["reason"]))  # type: ignore[attr-defined]

    handler, logger = Recorder(), logging.getLogger("energyws.history")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def at(*offsets: int) -> Position:
    return from_offsets(EPOCH, offsets)


def messages(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """The frames in chunks, decoded."""
    found = []
    for chunk in chunks:
        data = chunk.data
        while data:
            size, begin = data[1], 2
            if size >= 126:
                begin += 2 if size == 126 else 8
                size = int.from_bytes(data[2:begin], "big")
            found.append(orjson.loads(data[begin : begin + size]))
            data = data[begin + size :]
    return found


def test_equal_requests_of_several_workers_are_read_once(make: Make) -> None:
    stage = make([10])
    one, two = stage.worker(), stage.worker()
    request = ReadChunks("s", at(3))
    for worker in (one, two, one):
        stage.send(worker, request, b"subject")
    stage.answer_next()
    assert stage.received(one) == stage.received(two)
    assert (stage.waiting(), len(stage.memory.reads)) == (0, 1)


def test_reply_repeats_its_request(make: Make) -> None:
    stage = make([10])
    worker = stage.worker()
    request = FindStart("s", EPOCH, after=at(3))
    stage.send(worker, request, b"subject")
    stage.answer_next()
    assert stage.received(worker)[0] == pack_history_request(request)


def test_subjects_take_turns(make: Make) -> None:
    stage = make([10])
    busy, other = stage.worker(), stage.worker()
    for offset in range(5):
        stage.send(busy, ReadChunks("s", at(offset)), b"busy")
    stage.send(other, ReadChunks("s", at(7)), b"other")
    for _ in range(2):
        stage.answer_next()
        stage.memory.now += 1.0
    assert messages(unpack_chunks(at(7), stage.received(other)[1:]))[0]["id"] == f"{EPOCH}-8"


def test_worker_of_an_older_version_counts_as_one_subject(make: Make) -> None:
    stage = make([10])
    worker = stage.worker()
    stage.send(worker, ReadChunks("s", at(7)))
    stage.answer_next()
    assert len(messages(unpack_chunks(at(7), stage.received(worker)[1:]))) == 3


def test_subject_over_its_share_is_refused_and_another_is_served(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_server, "REQUESTS_BYTES", 10 * 2_048)
    stage = make([200])
    stage.live = None
    worker = stage.worker()
    for offset in range(30):
        stage.send(worker, ReadChunks("s", at(offset)), b"busy")
    accepted = stage.waiting()
    assert accepted < 30
    stage.send(worker, ReadChunks("s", at(100)), b"other")
    assert stage.waiting() == accepted + 1


def test_reply_rate_is_limited(make: Make) -> None:
    stage = make([10], bytes_per_second=4_000)
    worker = stage.worker()
    for offset in range(3):
        stage.send(worker, ReadChunks("s", at(offset)), b"subject")
    stage.answer_next()
    stage.received(worker)
    for _ in range(5):
        stage.answer_next()
    assert stage.waiting() == 2
    assert stage.server._poll_milliseconds() > 0
    stage.memory.now += 1.0
    stage.answer_next()
    assert stage.waiting() == 1


def test_request_without_an_answer_is_retried_and_dropped_in_the_end(make: Make) -> None:
    stage = make([10])
    live, stage.live = stage.live, None
    worker = stage.worker()
    stage.send(worker, ReadChunks("s", at(3)), b"subject")
    stage.answer_next()
    assert stage.server._poll_milliseconds() == int(1_000 * RETRY_SECONDS)
    stage.live = live
    stage.answer_next()
    assert stage.waiting() == 1
    stage.memory.now += RETRY_SECONDS
    stage.answer_next()
    stage.received(worker)
    stage.live = None
    stage.send(worker, ReadChunks("s", at(4)), b"subject")
    stage.memory.now += FORGET_SECONDS
    stage.answer_next()
    assert stage.waiting() == 0


def test_request_of_another_epoch_waits(make: Make) -> None:
    stage = make([10])
    stage.send(stage.worker(), ReadChunks("s", from_offsets("ffff0000", [3])), b"subject")
    stage.answer_next()
    assert (stage.waiting(), stage.memory.reads) == (1, [])


def test_request_for_an_unreadable_partition_waits_without_a_warning(
    make: Make, warnings: list[str]
) -> None:
    stage = make([10, 10])
    stage.memory.stalls = {1: Stall.NO_LEADER}
    stage.send(stage.worker(), ReadChunks("s", at(3, 3)), b"subject")
    stage.answer_next()
    assert (stage.waiting(), warnings) == (1, [])


def test_failed_read_is_logged_and_the_topic_described_again(
    make: Make, warnings: list[str]
) -> None:
    stage = make([10])
    stage.memory.failure = Unreadable("partition 0 has no offset 3 any more")
    worker = stage.worker()
    stage.send(worker, ReadChunks("s", at(3)), b"subject")
    stage.answer_next()
    assert warnings == ["partition 0 has no offset 3 any more"]
    stage.memory.failure = None
    stage.memory.lows[0] = 5
    stage.memory.now += RETRY_SECONDS
    stage.answer_next()
    stage.received(worker)
    assert stage.memory.described == ["t", "t"]


def test_position_at_the_head_waits_for_the_next_record(make: Make) -> None:
    stage = make([10])
    worker = stage.worker()
    stage.send(worker, ReadChunks("s", at(10)), b"subject")
    stage.answer_next()
    assert stage.waiting() == 1
    stage.memory.records[0].append(stage.memory.record(0, 10))
    stage.live = stage.memory.live
    stage.memory.now += RETRY_SECONDS
    stage.answer_next()
    assert len(messages(unpack_chunks(at(10), stage.received(worker)[1:]))) == 1


def test_chunks_are_merged_by_time_and_end_at_the_head(make: Make) -> None:
    stage = make([3, 3])
    chunks = stage.read(at(1, 0))
    assert [(each["data"]["p"], each["data"]["n"]) for each in messages(chunks)] == [
        (1, 0),
        (0, 1),
        (1, 1),
        (0, 2),
        (1, 2),
    ]
    assert chunks[-1].end == at(3, 3)


def test_records_removed_by_retention_are_reported_before_the_first_record(make: Make) -> None:
    stage = make([10])
    stage.memory.lows[0] = 6
    gap, first, *_ = messages(stage.read(at(2)))
    assert (gap["type"], gap["missed"], gap["reason"]) == ("lagged", 4, "RETENTION")
    assert first["data"]["n"] == 6


def test_reply_is_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_server, "CHUNK_BYTES", 500)
    stage = make([2_000])
    chunks = stage.read(at(0))
    assert len(chunks) == history_server.CHUNKS_PER_REPLY
    assert all(len(chunk.data) < 1_000 for chunk in chunks)


def test_start_after_a_position_is_that_position(make: Make) -> None:
    assert make([10]).find(after=at(3)) == StartPoint(at(3), at(0))


def test_start_before_the_low_watermark_is_moved_to_it(make: Make) -> None:
    stage = make([10])
    stage.memory.lows[0] = 6
    assert stage.find(after=at(2)) == StartPoint(at(6), at(6), Unrecovered.RETENTION, (4,))


def test_start_is_moved_when_more_records_follow_than_allowed(make: Make) -> None:
    stage = make([10], max_messages=4)
    assert stage.find(after=at(2)) == StartPoint(at(6), at(0), Unrecovered.HISTORY_EXCEEDED, (4,))


def test_newest_records_are_found_by_time(make: Make) -> None:
    # One record per second: partition 0 has the newest records.
    assert make([20, 10]).find(last=5) == StartPoint(at(15, 10), at(0, 0))


def test_request_for_more_records_than_exist_has_an_incomplete_start(make: Make) -> None:
    found = make([3, 2]).find(last=9)
    assert (found.position, found.reason) == (at(0, 0), Unrecovered.HISTORY_EXCEEDED)


def test_newest_records_too_costly_to_find_are_taken_evenly_from_partitions(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_server, "FIND_BYTES", 0)
    assert make([2_000, 2_000]).find(last=100).position == at(1_950, 1_950)


def test_start_at_a_time_is_the_first_record_since_then(make: Make) -> None:
    assert make([10, 4]).find(since_ms=3_000) == StartPoint(at(3, 3), at(0, 0))


def test_start_at_a_time_before_the_low_watermark_is_incomplete(make: Make) -> None:
    stage = make([10])
    stage.memory.lows[0] = 6
    assert stage.find(since_ms=3_000) == StartPoint(at(6), at(6), Unrecovered.RETENTION)


def test_thread_serves_requests_until_stopped(make: Make) -> None:
    stage = make([10])
    stage.router.close()
    stage.server.start()
    worker = stage.worker()
    worker.send_multipart([pack_history_request(ReadChunks("s", at(3))), b"subject"])
    assert len(messages(unpack_chunks(at(3), stage.received(worker)[1:]))) == 7
    stage.server.stop()
    stage.server.join(10)
    assert not stage.server.is_alive()


def test_worker_with_another_key_rule_gets_no_answer(make: Make) -> None:
    stage = make([4])
    request, worker = ReadChunks("s", at(0)), stage.worker()
    for rule in (b'"/meter"', b'"record"'):
        stage.send(worker, request, b"subject", rule)
        assert stage.waiting() == 0
    # Also while an equal request of another worker waits.
    other = stage.worker()
    stage.send(other, request, b"subject", b"null")
    stage.send(worker, request, b"subject", b'"/meter"')
    assert stage.waiting() == 1
    stage.answer_next()
    assert stage.received(other)[0] == pack_history_request(request)
    assert not worker.poll(0)
