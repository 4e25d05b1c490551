"""The metrics of streams with keys: a part of the table in energyws.control.admin.metrics."""

from __future__ import annotations

from typing import Final

from energyws.control.admin.definitions import Definition, counter, gauge
from energyws.control.admin.samples import (
    levels_of_workers,
    of_streams,
    of_workers,
    snapshots,
    snapshots_complete,
)
from energyws.process.board import Field

KEYED: Final[tuple[Definition, ...]] = (
    gauge(
        "energyws_keyed_subscriptions",
        "Subscriptions to some keys of a stream.",
        levels_of_workers(Field.KEYED_SUBSCRIPTIONS),
        "worker",
    ),
    gauge(
        "energyws_index_keys",
        "Keys and prefixes that live subscriptions get.",
        levels_of_workers(Field.INDEX_KEYS),
        "worker",
    ),
    counter(
        "energyws_positions_sent",
        "`position` messages sent to clients that get some keys.",
        of_workers(Field.POSITIONS_SENT),
        "worker",
    ),
    counter(
        "energyws_conflated_frames",
        "Frames that newer ones superseded under `max_rate`, or behind `on_lag` latest.",
        of_workers(Field.CONFLATED),
        "worker",
    ),
    counter(
        "energyws_scan_records",
        "Records of Kafka's log searched for keys, counted per client.",
        of_workers(Field.SCAN_RECORDS),
        "worker",
    ),
    counter(
        "energyws_unkeyed_records",
        "Records without a key in streams with keys.",
        of_streams(lambda records: records.unkeyed),
        "stream",
    ),
    gauge(
        "energyws_snapshot_keys", "Keys in memory for snapshots.", snapshots(Field.SNAPSHOT_KEYS)
    ),
    gauge(
        "energyws_snapshot_bytes",
        "Memory for snapshots, about.",
        snapshots(Field.SNAPSHOT_BYTES),
    ),
    gauge(
        "energyws_snapshot_complete",
        "1 while every stream with snapshots has all its keys.",
        snapshots_complete,
    ),
    gauge(
        "energyws_snapshot_warm_seconds",
        "How long the consumer took to read old records for snapshots.",
        snapshots(Field.SNAPSHOT_WARM_MS, 1000),
    ),
    counter(
        "energyws_forbidden_keys",
        "Subscriptions refused because the client's token does not allow the keys.",
        of_workers(Field.FORBIDDEN_KEYS),
        "worker",
    ),
)
