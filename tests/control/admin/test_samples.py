"""Samples made of the columns of all processes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from energyws.control.children.status import Ended, PartitionStatus, Records, keys_fetched
from energyws.process import counters
from energyws.process.board import Board, issuer_id
from energyws.process.io_uring import IoUring
from energyws.settings import Issuer
from tests.control.admin.scrapes import columns, process, samples, status, value, worker


def test_a_restart_keeps_counters_and_resets_levels() -> None:
    before = Ended(7.0, columns(DELIVERIES=100))
    found = samples(status(worker(DELIVERIES=5, CONNECTIONS=2), ended={"worker-0": before}))
    assert value(found, "energyws_deliveries_total", worker="worker-0") == 105
    assert value(found, "energyws_process_cpu_seconds_total", process="worker-0") == 8.5
    assert value(found, "energyws_connections", worker="worker-0") == 2


def test_a_worker_that_has_ended_keeps_its_counters() -> None:
    found = samples(status(ended={"worker-3": Ended(7.0, columns(DELIVERIES=100))}))
    assert value(found, "energyws_deliveries_total", worker="worker-3") == 100
    assert ("energyws_connections", (("worker", "worker-3"),)) not in found


def test_counters_of_a_worker_and_its_successor_are_added() -> None:
    found = samples(
        status(worker(CONNECTIONS=4, RING_FRAMES=10), worker(CONNECTIONS=3, RING_FRAMES=20))
    )
    assert value(found, "energyws_connections", worker="worker-0") == 7
    assert value(found, "energyws_process_open_fds", process="worker-0") == 20
    # The ring of the newer one.
    assert value(found, "energyws_history_frames", process="worker-0") == 20


def test_exits_begin_at_zero() -> None:
    shown = replace(status(worker()), exits={("worker-0", "hung"): 2})
    found = samples(shown)
    for reason, count in {"told": 0, "failed": 0, "killed": 0, "hung": 2, "overdue": 0}.items():
        name = "energyws_process_exits_total"
        assert value(found, name, process="worker-0", reason=reason) == count


def test_histograms_are_cumulative() -> None:
    board = Board.create()
    row = board.row(0)
    for seconds in (0.0002, 0.003, 0.003, 7.0):
        counters.FANOUT.observe(row, seconds)
    found = samples(status(process("worker-0", row.columns(), 0)))
    counts = {
        dict(labels)["le"]: count
        for (name, labels), count in found.items()
        if name == "energyws_fanout_seconds_bucket"
    }
    assert counts["0.0001"] == 0
    assert counts["0.00025"] == 1
    assert counts["0.005"] == 3
    assert counts["1.0"] == 3
    assert counts["+Inf"] == value(found, "energyws_fanout_seconds_count", worker="worker-0") == 4
    total = value(found, "energyws_fanout_seconds_sum", worker="worker-0")
    assert total == pytest.approx(7.0062)


@pytest.mark.parametrize(
    ("partition", "records", "seconds"),
    [
        (PartitionStatus("energy", 1, 10, 10, 990_000), 0, 0),
        (PartitionStatus("energy", 1, 10, 25, 990_000), 15, 10),
        # The producer's clock is ahead.
        (PartitionStatus("energy", 1, 10, 25, 1_990_000), 15, 0),
        # The watermark is older than the newest record.
        (PartitionStatus("energy", 1, 30, 25, 990_000), 0, 0),
    ],
)
def test_lag(partition: PartitionStatus, records: float, seconds: float) -> None:
    found = samples(replace(status(), partitions=[partition]))
    where = {"stream": "energy", "partition": "1"}
    assert value(found, "energyws_consumer_lag_records", **where) == records
    assert value(found, "energyws_consumer_lag_seconds", **where) == seconds


def test_lag_in_seconds_is_left_out_where_it_is_unknown() -> None:
    found = samples(replace(status(), partitions=[PartitionStatus("energy", 0, 0, 25, 0)]))
    assert value(found, "energyws_consumer_lag_records", stream="energy", partition="0") == 25
    assert not [name for name, _ in found if name == "energyws_consumer_lag_seconds"]


def test_newest_record_of_a_stream_is_that_of_its_partitions() -> None:
    partitions = [
        *(
            PartitionStatus("energy", number, 5, 5, ms)
            for number, ms in enumerate((990_500, 0, 980_000))
        ),
        PartitionStatus("power", 0, 7, 7, 400_000),
        PartitionStatus("empty", 0, 0, 0, 0),
    ]
    found = samples(replace(status(), partitions=partitions))
    name = "energyws_newest_record_timestamp_seconds"
    assert value(found, name, stream="energy") == 990.5
    assert value(found, name, stream="power") == 400
    # There is no sample before the first record.
    assert (name, (("stream", "empty"),)) not in found


def test_records_that_were_skipped_or_lost_are_counted_by_stream() -> None:
    shown = replace(status(), records={"energy": Records(bad=3, lost=7), "power": Records()})
    found = samples(shown)
    assert value(found, "energyws_bad_records_total", stream="energy") == 3
    assert value(found, "energyws_lost_records_total", stream="energy") == 7
    # From the start, so that a rate sees the first one.
    assert value(found, "energyws_bad_records_total", stream="power") == 0


def test_certificate_of_each_worker_that_has_one() -> None:
    found = samples(
        status(process("consumer", columns()), worker(CERTIFICATE_EXPIRES=5), worker("worker-1"))
    )
    name = "energyws_certificate_expiry_timestamp_seconds"
    assert [(*labels, seen) for (n, labels), seen in found.items() if n == name] == [
        (("worker", "worker-0"), 5)
    ]


def test_each_worker_that_has_said_whether_it_uses_io_uring() -> None:
    found = samples(
        status(
            process("consumer", columns()),
            worker(IO_URING=IoUring.IN_USE),
            # The successor of the one above.
            worker(IO_URING=IoUring.OFF),
            worker("worker-1", IO_URING=IoUring.IN_USE),
            # Its successor has not said it yet.
            worker("worker-1"),
            worker("worker-2"),
        )
    )
    assert [
        ([value for _, value in labels], seen)
        for (name, labels), seen in found.items()
        if name == "energyws_io_uring"
    ] == [(["off", "worker-0"], 0), (["in_use", "worker-1"], 1)]


def test_reloads_of_all_processes() -> None:
    found = samples(status(worker(RELOADS=2)))
    name = "energyws_config_reloads_total"
    assert value(found, name, process="supervisor", result="taken") == 3
    assert value(found, name, process="supervisor", result="refused") == 1
    assert value(found, name, process="worker-0", result="taken") == 2


def test_refused_reloads_of_the_supervisor_by_kind_of_fault() -> None:
    row = columns()
    row[counters.RELOAD_REFUSALS.first + 1] = 4
    found = samples(replace(status(), supervisor_columns=row))
    name = "energyws_reload_refusals_total"
    assert value(found, name, reason="certificate") == 4
    assert value(found, name, reason="secret") == 0


def test_age_of_keys_is_that_of_the_worker_with_the_oldest() -> None:
    issuers = [
        Issuer(name=name, issuer=f"https://{where}.example", jwks_url="https://i.example/")
        for name, where in (("home", "a"), ("shop", "b"), ("shop", "c"), ("new", "d"))
    ]
    a, b, c, d = (issuer_id(each.issuer) for each in issuers)
    board = Board.create()
    board.row(0).set_issuers([(a, 5_000), (b, 7_000), (c, 6_000), (d, 0)])
    # The worker has not written its other columns yet.
    board.row(1).set_issuers([(a, 4_500)])

    found = keys_fetched(issuers, [board.row(0), board.row(1), board.row(2)])
    assert found == {"home": 4.5, "shop": 6.0, "new": 0.0}
    shown = samples(replace(status(), issuers=found))
    name = "energyws_issuer_keys_fetched_timestamp_seconds"
    assert value(shown, name, issuer="home") == 4.5
    board.close()


def test_refused_tokens_are_counted_by_reason_and_claim() -> None:
    board = Board.create()
    row = board.row(0)
    counters.TOKEN_REFUSALS.count(row, "claims", "sub")
    counters.TOKEN_REFUSALS.count(row, "expired", "", amount=2)
    found = samples(status(process("worker-0", row.columns(), 0)))
    name = "energyws_token_refusals_total"
    assert value(found, name, reason="claims", claim="sub") == 1
    assert value(found, name, reason="claims", claim="exp") == 0
    assert value(found, name, reason="expired", claim="") == 2
    board.close()
