"""The consumer process on events from the test: rings, readiness, losses, and its end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from energyws.process.board import Board, Field, PartitionField, State
from energyws.process.stalls import Stall
from energyws.settings import Kafka, Settings, Snapshot, Stream
from energyws.stream.last_values import LastValues
from workers.bus.rendezvous import current
from workers.consumer import process as module
from workers.consumer.events import (
    BrokerState,
    Event,
    FetchError,
    LogEnds,
    MetadataStalls,
    OldRecord,
    PartitionAdded,
    Record,
    Records,
    RecordsLost,
    TopicFound,
    WarmedUp,
)
from workers.consumer.process import ConsumerProcess, consume
from workers.runtime import ChildFailed, Runtime

EPOCH = "aaaa0000"


class FakeThread:
    """A source or a history server that does nothing but record its calls."""

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.calls: list[str] = []

    def __call__(self, *arguments: Any) -> FakeThread:
        self.arguments = arguments
        return self

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def join(self, seconds: float) -> None:
        self.calls.append("join")

    def done(self) -> None:
        self.calls.append("done")


class Stage:
    """A consumer process that gets its events from the test."""

    def __init__(self, runtime: Runtime, source: FakeThread, history: FakeThread) -> None:
        self.runtime = runtime
        self.row = runtime.row
        self.source = source
        self.history = history
        self.process = ConsumerProcess(runtime)
        self.process.start()

    @property
    def ready(self) -> bool:
        return self.row[Field.STATE] == State.READY

    async def emit(self, *events: Event) -> None:
        """Emit from another thread, as the source does, and wait until all are processed."""
        for event in events:
            await asyncio.to_thread(self.source.arguments[-2], event)
        await asyncio.sleep(0)

    def frames(self, stream: str) -> list[tuple[int, int]]:
        """(partition, offset) of each entry in a stream's ring."""
        ring = self.process._rings[stream]
        return [(e.partition, e.offset) for e in ring.read(ring.first, ring.end, 1 << 20)[0]]


def record(offset: int, partition: int = 0, stream: str = "a") -> Record:
    return Record(stream, partition, offset, 1_000 + offset, b"{}")


def batch(*records: Record, **ends: int) -> Records:
    """Records, and the ends of partition 0 of these streams."""
    return Records(list(records), {(stream, 0): end for stream, end in ends.items()})


Main = Callable[[Stage], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeThread, FakeThread]:
    source, history = FakeThread(), FakeThread()
    monkeypatch.setattr(module, "Source", source)
    monkeypatch.setattr(module, "HistoryServer", history)
    return source, history


def runtime(directory: Path, streams: str = "a", *, successor: bool = False) -> Runtime:
    settings = Settings(
        kafka=Kafka(brokers="b"), streams={name: Stream(topic=f"topic-{name}") for name in streams}
    )
    board = Board.create()
    row = board.row(0)
    row[Field.STATE] = State.STARTING
    return Runtime(settings, board, row, "consumer", directory / "bus", None, None, successor)


@pytest.fixture
def run(tmp_path: Path, threads: tuple[FakeThread, FakeThread]) -> Run:
    """`run(main)`: run a coroutine with a consumer process."""

    def run(main: Main, streams: str = "a", *, successor: bool = False) -> None:
        async def staged() -> None:
            stage = Stage(runtime(tmp_path, streams, successor=successor), *threads)
            try:
                await main(stage)
            finally:
                if not stage.process._closed:
                    await stage.process.stop()

        asyncio.run(asyncio.wait_for(staged(), 30))

    return run


@pytest.fixture
def lines() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    found: list[tuple[str, dict[str, Any]]] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.getMessage(), record.energyws_fields))  # type: ignore[attr-defined]

    handler, logger = Recorder(), logging.getLogger("energyws.consumer")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def test_ready_once_every_stream_has_been_read_back(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (2,)), TopicFound("b", EPOCH, (0,), (0,)))
        await at.emit(batch(record(0), b=0))
        assert not at.ready
        await at.emit(batch(record(1), a=2))
        assert at.ready
        assert at.frames("a") == [(0, 0), (0, 1)]
        assert at.frames("b") == []

    run(main, "ab")


def test_live_records_are_published_and_may_be_committed(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        await at.emit(batch(record(0), record(1)), batch(record(2), a=3))
        assert at.frames("a") == [(0, 0), (0, 1), (0, 2)]
        assert at.process._published == {("a", 0): 3}
        assert at.process._publisher._sequence == 3
        assert at.row.partition(0, PartitionField.NEXT) == 3
        # The source may send another batch for each one that was processed.
        assert at.source.calls.count("done") == 3

    run(main)


def test_stalled_partition_does_not_delay_the_others(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(
            MetadataStalls("a", {1: Stall.NO_LEADER}), TopicFound("a", EPOCH, (0, 0), (1, 0))
        )
        assert not at.ready
        await at.emit(batch(record(0), a=1))
        assert at.ready

    run(main)


def test_failed_fetch_is_a_stall_on_the_board_until_records_arrive(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        await at.emit(FetchError("a", 0, Stall.NOT_ALLOWED))
        assert at.row.partition(0, PartitionField.STALL) == Stall.NOT_ALLOWED
        await at.emit(batch(record(0)))
        assert at.row.partition(0, PartitionField.STALL) == Stall.NONE

    run(main)


def test_added_partition_is_read_and_published(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        await at.emit(PartitionAdded("a", 1, 0), batch(record(0, partition=1)))
        assert at.frames("a") == [(1, 0)]

    run(main)


def test_stream_restarted_on_the_same_topic_gets_another_epoch(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        assert at.process._rings["a"].epoch == EPOCH
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)))
        new = at.process._rings["a"].epoch
        assert new != EPOCH
        head = at.process._stream_head("a")
        assert head is not None
        assert (head.epoch, head.topic_epoch) == (new, EPOCH)
        await at.emit(TopicFound("a", "bbbb0000", (0,), (0,)))
        assert at.process._rings["a"].epoch == "bbbb0000"

    run(main)


def test_history_has_no_head_before_a_stream_is_read_back(run: Run) -> None:
    async def main(at: Stage) -> None:
        assert at.process._stream_head("a") is None
        await at.emit(TopicFound("a", EPOCH, (0,), (1,)))
        assert at.process._stream_head("a") is None
        await at.emit(batch(record(0), a=1))
        assert at.process._stream_head("a") is not None

    run(main)


@pytest.mark.parametrize(
    ("retention", "event", "lost"),
    [
        (True, "records lost: retention took them before they were read", 4),
        (False, "records left out: the partition could not be read for too long", 0),
    ],
)
def test_lost_records_are_logged_and_those_lost_to_retention_counted(
    run: Run, lines: list[tuple[str, dict[str, Any]]], retention: bool, event: str, lost: int
) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        await at.emit(RecordsLost("a", 0, 3, 7, retention))
        fields = {"topic": "topic-a", "partition": 0, "first_offset": 3, "last_offset": 6}
        assert (event, fields) in lines
        assert at.row[Field.LOST_RECORDS] == lost
        assert at.row.partition(0, PartitionField.LOST) == lost

    run(main)


def test_skipped_records_are_counted_by_partition(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        await at.emit(batch(Record("a", 0, 0, 1, b"nonsense")))
        assert at.row[Field.BAD_RECORDS] == 1
        assert at.row.partition(0, PartitionField.BAD) == 1

    run(main)


def test_state_of_the_broker_and_ends_of_logs_are_on_the_board(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), BrokerState(True), LogEnds({("a", 0): 9}))
        assert (at.row[Field.BROKER_UP], at.row.partition(0, PartitionField.END)) == (1, 9)
        await at.emit(BrokerState(False))
        assert at.row[Field.BROKER_UP] == 0

    run(main)


def test_first_consumer_is_found_immediately(run: Run, tmp_path: Path) -> None:
    async def main(at: Stage) -> None:
        assert current(tmp_path / "bus").is_symlink()

    run(main)


def test_successor_is_found_only_once_it_is_ready(run: Run, tmp_path: Path) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (1,)))
        at.process.tick()
        assert not current(tmp_path / "bus").is_symlink()
        assert not at.process.failed.is_set()
        await at.emit(batch(record(0), a=1))
        assert at.ready
        assert current(tmp_path / "bus").is_symlink()

    run(main, successor=True)


@pytest.mark.parametrize("removed", ["link", "socket"])
def test_removed_sockets_end_the_process(run: Run, tmp_path: Path, removed: str) -> None:
    async def main(at: Stage) -> None:
        at.process.tick()
        assert not at.process.failed.is_set()
        link = current(tmp_path / "bus")
        (link if removed == "link" else link / "frames").unlink()
        at.process.tick()
        assert at.process.failed.is_set()

    run(main)


def test_tick_skips_a_partition_that_stalls_while_being_read_back(
    run: Run, monkeypatch: pytest.MonkeyPatch, lines: list[tuple[str, dict[str, Any]]]
) -> None:
    async def main(at: Stage) -> None:
        now = 1_000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
        await at.emit(TopicFound("a", EPOCH, (0, 0), (1, 1)), batch(record(0), a=1))
        at.process.tick()
        now += 60.0
        at.process.tick()
        assert at.frames("a") == [(0, 0)]
        assert lines[-1] == (
            "a partition is not read back: going on without it",
            {"stream": "a", "partition": 1},
        )

    run(main)


def test_tick_writes_the_depth_of_the_rings(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (1,)), batch(record(0), a=1))
        at.process.tick()
        assert (at.row[Field.RING_FRAMES], at.row[Field.RING_OLDEST_MS]) == (1, 1_000)

    run(main)


def test_batches_after_the_end_are_discarded(run: Run) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        await at.process.stop()
        at.source.calls.clear()
        await at.emit(batch(record(0)), BrokerState(True))
        assert at.source.calls == ["done"]
        assert at.frames("a") == []
        assert at.row[Field.BROKER_UP] == 0

    run(main)


@pytest.fixture
def switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switch_interval")
def test_drain_ends_the_process_and_its_threads(
    tmp_path: Path, threads: tuple[FakeThread, FakeThread]
) -> None:
    async def main() -> None:
        child = runtime(tmp_path)
        child.drain.set()
        await consume(child)

    asyncio.run(asyncio.wait_for(main(), 30))
    source, history = threads
    assert source.calls == ["start", "stop", "join"]
    assert history.calls == ["start", "stop"]


@pytest.mark.usefixtures("threads", "switch_interval")
def test_process_without_its_sockets_exits_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)

    async def main() -> None:
        task = asyncio.create_task(consume(runtime(tmp_path)))
        await asyncio.sleep(0)
        current(tmp_path / "bus").unlink()
        await task

    with pytest.raises(ChildFailed):
        asyncio.run(asyncio.wait_for(main(), 30))


class WarmUps:
    """Takes the place of WarmUp: what the process has started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[FakeThread] = []
        monkeypatch.setattr(module, "WarmUp", self)

    def __call__(self, *arguments: Any) -> FakeThread:
        self.started.append(FakeThread()(*arguments))
        self.started[-1].taken = lambda: self.started[-1].calls.append("taken")  # type: ignore[attr-defined]
        return self.started[-1]

    async def put(self, *records: OldRecord) -> None:
        """The newest one hands over old records."""
        await asyncio.to_thread(self.started[-1].arguments[-2], list(records))
        await asyncio.sleep(0)

    async def done(self, since_ms: int | None = None, *lacking: int) -> None:
        outcome = WarmedUp(since_ms, lacking, 1, 0.25)
        await asyncio.to_thread(self.started[-1].arguments[-1], outcome)
        await asyncio.sleep(0)


@pytest.fixture
def warm_ups(monkeypatch: pytest.MonkeyPatch) -> WarmUps:
    return WarmUps(monkeypatch)


@pytest.fixture
def run_keyed(tmp_path: Path, threads: tuple[FakeThread, FakeThread]) -> Run:
    """The same as `run` for a stream with snapshots."""

    def run(main: Main, *, successor: bool = False) -> None:
        async def staged() -> None:
            made = runtime(tmp_path, successor=successor)
            stream = Stream(topic="t", key="record", snapshot=Snapshot(enabled=True))
            settings = replace(made.settings, streams={"a": stream})
            stage = Stage(replace(made, settings=settings), *threads)
            try:
                await main(stage)
            finally:
                await stage.process.stop()

        asyncio.run(asyncio.wait_for(staged(), 30))

    return run


def values(stage: Stage) -> LastValues:
    found = stage.process._intakes["a"].values
    assert found is not None
    return found


def test_table_has_old_records_those_read_back_and_live_ones(
    run_keyed: Run, warm_ups: WarmUps
) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (3,), (4,)))
        await warm_ups.put(*(OldRecord(key, 1, b"old", 0) for key in (b"a", b"b", b"c")))
        await at.emit(batch(record(3)._replace(key=b"b", value=b'{"n":3}'), a=4))
        await at.emit(batch(record(4)._replace(key=b"c", value=None)))
        table = values(at)
        assert (len(table), table.complete, at.ready) == (2, False, True)
        await warm_ups.put(OldRecord(b"c", 9, b"old", 0))
        await warm_ups.done()
        assert [table.find(key) and table.find(key).data for key in (b"a", b"b", b"c")] == [  # type: ignore[union-attr]
            b"old",
            b'{"n":3}',
            None,
        ]
        assert table.complete
        at.process.tick()
        assert (at.row[Field.SNAPSHOT_KEYS], at.row[Field.SNAPSHOT_STATE]) == (2, 2)
        assert at.row[Field.SNAPSHOT_WARM_MS] == 250
        assert warm_ups.started[0].calls == ["start", "taken", "taken"]

    run_keyed(main)


def test_table_is_warm_once_all_has_been_read_back_too(run_keyed: Run, warm_ups: WarmUps) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (1,)))
        await warm_ups.done()
        assert not values(at).warm
        await at.emit(batch(record(0)._replace(key=b"a"), a=1))
        table = values(at)
        assert (len(table), table.complete, at.ready) == (1, True, True)

    run_keyed(main)


def test_successor_takes_over_once_its_tables_are_warm(run_keyed: Run, warm_ups: WarmUps) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        assert not at.ready
        await warm_ups.done(7_000)
        assert at.ready
        assert (values(at).complete, values(at).since_ms) == (False, 7_000)

    run_keyed(main, successor=True)


def test_successor_does_not_wait_for_ever(
    run_keyed: Run, warm_ups: WarmUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WARM_SECONDS", 0.0)

    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        assert at.ready

    run_keyed(main, successor=True)


def test_other_log_has_another_table(run_keyed: Run, warm_ups: WarmUps) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        before = values(at)
        await at.emit(TopicFound("a", "bbbb0000", (0,), (0,)), batch(a=0))
        assert values(at) is not before
        first, second = warm_ups.started
        assert (first.calls, second.calls) == (["start", "stop"], ["start"])
        # What the first one had under way concerns nobody.
        await asyncio.to_thread(first.arguments[-1], WarmedUp(None, (), 0, 0.1))
        await asyncio.sleep(0)
        assert not values(at).warm

    run_keyed(main)


def test_what_could_not_be_read_is_lacking(run_keyed: Run, warm_ups: WarmUps) -> None:
    async def main(at: Stage) -> None:
        await at.emit(TopicFound("a", EPOCH, (0,), (0,)), batch(a=0))
        await warm_ups.done(None, 0)
        assert (values(at).complete, values(at).since_ms) == (False, None)

    run_keyed(main)
