"""The metrics of streams with keys: a part of the table in energyws.control.admin.metrics."""

from __future__ import annotations

from typing import Final

from energyws.control.admin.definitions import Definition, counter, gauge
from energyws.control.admin.samples import levels_of_workers, of_streams, of_workers
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
    counter(
        "energyws_forbidden_keys",
        "Subscriptions refused because the client's token does not allow the keys.",
        of_workers(Field.FORBIDDEN_KEYS),
        "worker",
    ),
)
