"""The metrics of streams with keys: a part of the table in energyws.control.admin.metrics."""

from __future__ import annotations

from typing import Final

from energyws.control.admin.definitions import Definition, counter
from energyws.control.admin.samples import of_streams

KEYED: Final[tuple[Definition, ...]] = (
    counter(
        "energyws_unkeyed_records",
        "Records without a key in streams with keys.",
        of_streams(lambda records: records.unkeyed),
        "stream",
    ),
)
