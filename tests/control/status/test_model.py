"""Levels, rates and quantiles of two documents."""

from __future__ import annotations

import pytest

from energyws.control.children.status import PartitionStatus
from energyws.control.status.figures import freshness
from energyws.control.status.model import ProcessView, ServiceView, Traffic, UpperBound, view
from energyws.process import counters
from energyws.process.board import Field, State
from energyws.process.io_uring import IoUring
from tests.control.documents import Child, document


def named(shown: ServiceView, name: str) -> ProcessView:
    (found,) = [each for each in shown.processes if each.name == name]
    return found


def test_levels_need_one_document_only_and_rates_are_unknown() -> None:
    fields = {Field.CONNECTIONS: 7, Field.LAGGING: 2, Field.DELIVERIES: 5000}
    now = document(
        100.0, [Child("consumer"), Child("worker-0", fields=fields), Child("worker-1", 101)]
    )
    shown = view(now)
    assert (shown.connections, shown.lagging, shown.workers_ready) == (7, 2, 2)
    assert (shown.deliveries, shown.published, shown.bytes, shown.fanout) == (None,) * 4
    assert [each.cpu for each in shown.processes] == [None] * 4
    assert [each.name for each in shown.processes] == [
        *("supervisor", "consumer", "worker-0", "worker-1")
    ]
    assert named(shown, "worker-0").traffic == Traffic()


def test_rates_are_differences_over_the_time_between() -> None:
    before = document(
        100.0,
        [
            Child("consumer", 9, 2.0, fields={Field.FRAMES: 1000}),
            Child("worker-0", 10, 5.0, fields={Field.DELIVERIES: 100, Field.WRITES: 50}),
        ],
    )
    now = document(
        104.0,
        [
            Child("consumer", 9, 2.4, fields={Field.FRAMES: 1020}),
            Child(
                "worker-0",
                10,
                8.0,
                fields={Field.DELIVERIES: 900, Field.WRITES: 250, Field.BYTES: 8000},
            ),
        ],
        supervisor_cpu_seconds=1.2,
    )
    shown = view(now, before)
    assert (shown.published, shown.deliveries, shown.bytes) == (5.0, 200.0, 2000.0)
    worker = named(shown, "worker-0")
    assert worker.cpu == 0.75
    assert worker.traffic.joined == 4.0
    assert named(shown, "supervisor").cpu == pytest.approx(0.05)
    assert named(shown, "consumer").cpu == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("pid", "uptime", "rate"),
    [
        # A successor that has run for two seconds.
        (11, 2.0, 20.0),
        # Another process that is older than the first document: the time in between counts.
        (11, 60.0, 4.0),
        # A successor with the same process id.
        (10, 2.0, 20.0),
    ],
)
def test_new_process_counts_from_its_start(pid: int, uptime: float, rate: float) -> None:
    old = {Field.BEAT: 5000, Field.DELIVERIES: 1_000_000}
    new = {Field.BEAT: 8, Field.DELIVERIES: 40}
    before = document(100.0, [Child("worker-0", 10, 50.0, fields=old)])
    child = Child("worker-0", pid, 0.5, fields=new, uptime_seconds=uptime)
    shown = view(document(110.0, [child]), before)
    assert shown.deliveries == rate
    assert named(shown, "worker-0").cpu == 0.5 * rate / 40


def test_draining_process_and_its_successor_are_separate() -> None:
    leaving = {Field.STATE: State.DRAINING, Field.DELIVERIES: 50, Field.CONNECTIONS: 3}
    before = document(100.0, [Child("worker-0", 10, fields={Field.DELIVERIES: 40})])
    now = document(
        101.0,
        [
            Child("worker-0", 10, fields=leaving),
            Child("worker-0", 11, 0.1, uptime_seconds=0.5, fields={Field.DELIVERIES: 2}),
        ],
    )
    shown = view(now, before)
    rates = [each.traffic.deliveries for each in shown.processes if each.is_worker]
    assert rates == [10.0, 4.0]
    assert [each.state for each in shown.processes] == ["", "draining", "ready"]
    assert (shown.connections, shown.workers_ready) == (3, 1)


@pytest.mark.parametrize("time", [100.0, 99.0])
def test_clock_set_back_gives_no_rates(time: float) -> None:
    before = document(100.0, [Child("worker-0")])
    assert view(document(time, [Child("worker-0")]), before).deliveries is None


@pytest.mark.parametrize(
    ("before", "now", "p99"),
    [
        # Only observations between the documents count.
        ([0.9] * 10, [0.9] * 10 + [0.0002] * 5, UpperBound(0.00025)),
        # One in a hundred may be larger.
        ([], [0.0002] * 99 + [0.2], UpperBound(0.00025)),
        ([], [0.0002] * 98 + [0.2] * 2, UpperBound(0.25)),
        ([], [3.0], UpperBound(1.0, beyond=True)),
        ([0.2], [0.2], None),
    ],
)
def test_p99_is_of_the_observations_between_the_documents(
    before: list[float], now: list[float], p99: UpperBound | None
) -> None:
    shown = view(
        document(101.0, [Child("worker-0", observed={counters.FANOUT: now})]),
        document(100.0, [Child("worker-0", observed={counters.FANOUT: before})]),
    )
    assert named(shown, "worker-0").traffic.fanout == p99
    assert shown.fanout == p99
    assert shown.age is None


def test_p99_of_all_workers_weighs_each_observation() -> None:
    children = [
        Child("worker-0", 10, observed={counters.AGE: [0.002] * 9990}),
        Child("worker-1", 11, observed={counters.AGE: [0.2] * 10}),
        # The consumer sends nothing to clients.
        Child("consumer", 12, observed={counters.AGE: [50.0] * 10_000}),
    ]
    shown = view(document(101.0, children), document(100.0, []))
    assert shown.age == UpperBound(0.0025)
    assert named(shown, "worker-1").traffic.age == UpperBound(0.25)


def test_partitions_have_their_rate_and_lag() -> None:
    before = document(
        100.0,
        [],
        partitions=[
            PartitionStatus("energy", 0, 10, 10, 0),
            PartitionStatus("energy", 1, 500, 500, 0),
        ],
    )
    now = document(
        102.0,
        [],
        partitions=[
            PartitionStatus("energy", 1, 3, 3, 0),
            PartitionStatus("energy", 0, 30, 50, 90_000),
            PartitionStatus("energy", 2, 1, 9, 0),
        ],
    )
    shown = view(now, before).partitions
    assert [each.partition for each in shown] == [0, 1, 2]
    assert [each.records for each in shown] == [10.0, None, None]
    assert [each.lag_records for each in shown] == [20, 0, 8]
    assert [each.lag_seconds for each in shown] == [12.0, 0.0, None]
    assert [each.newest_seconds for each in shown] == [12.0, None, None]


def test_streams_show_the_age_of_their_newest_record() -> None:
    now = document(
        100.0,
        [],
        partitions=[
            PartitionStatus("energy", 0, 10, 10, 40_000),
            PartitionStatus("energy", 1, 10, 10, 97_500),
            PartitionStatus("empty", 0, 0, 0, 0),
            PartitionStatus("power", 0, 10, 10, 10_000),
            # Its producer's clock is ahead.
            PartitionStatus("ahead", 0, 10, 10, 170_000),
        ],
    )
    shown = view(now)
    # The longest age comes first.
    assert list(shown.newest().items()) == [
        *(("power", 90.0), ("energy", 2.5), ("ahead", 0.0), ("empty", None))
    ]
    assert freshness(shown) == (
        "newest record power 1 m 30 s ago · energy 2 s ago · ahead 0 s ago · empty none yet"
    )
    alone = view(document(100.0, [], partitions=[PartitionStatus("energy", 0, 10, 10, 88_000)]))
    assert freshness(alone) == "newest record 12 s ago"
    assert freshness(view(document(100.0, []))) == "newest record –"


def test_depth_is_of_children_only_and_has_an_age() -> None:
    fields = {Field.RING_FRAMES: 5, Field.RING_BYTES: 500, Field.RING_OLDEST_MS: 40_000}
    shown = view(document(100.0, [Child("consumer", fields=fields), Child("worker-0", 11)]))
    depth = named(shown, "consumer").depth
    assert depth is not None
    assert (depth.frames, depth.bytes, depth.seconds) == (5, 500, 60.0)
    empty = named(shown, "worker-0").depth
    assert empty is not None
    assert empty.seconds is None
    assert named(shown, "supervisor").depth is None


def test_events_hold_no_control_characters() -> None:
    event = {
        "time": "2026-11-24T01:02:03.000Z",
        "level": "ERROR",
        "process": "supervisor",
        "event": "child ended",
        "child": "worker-0\x1b[2J",
        "pid": 7,
    }
    (shown,) = view(document(1.0, [], events=[event])).events
    assert (shown.time, shown.level) == ("2026-11-24T01:02:03.000Z", "ERROR")
    assert shown.text == "child ended child=worker-0?[2J pid=7"


def test_a_service_that_does_not_say_whether_it_uses_io_uring() -> None:
    older = document(1.0, [Child("worker-0", fields={Field.IO_URING: IoUring.IN_USE})])
    assert named(view(older), "worker-0").io_uring is IoUring.IN_USE
    for each in older["processes"]:
        each.get("board", {}).pop("io_uring", None)
    assert named(view(older), "worker-0").io_uring is IoUring.UNKNOWN
