"""The metrics of streams with keys: a part of the table in energyws.control.admin.metrics."""

from __future__ import annotations

from typing import Final

from energyws.control.admin.definitions import Definition, counter
from energyws.control.admin.samples import of_streams, of_workers
from energyws.process.board import Field

KEYED: Final[tuple[Definition, ...]] = (
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
