"""The records for measuring compression."""

from __future__ import annotations

import time
from typing import Final

from bench.kit.record import PARTITIONS, padded
from bench.kit.writer import Build
from energyws.demo.meter import Meter

# Distinct records per meter: far more than a compression window holds.
READINGS: Final = 500
SIZES: Final = ("440", "real")


class Readings:
    """Records of simulated meters, one a second each, with values that change as real ones do."""

    def __init__(self) -> None:
        now = time.time_ns()
        meters = [Meter(seed) for seed in range(PARTITIONS)]
        self._records = [
            [meter.record(now + number * 10**9) for number in range(READINGS)] for meter in meters
        ]

    def build(self, partition: int, number: int) -> bytes:
        return self._records[partition][number % READINGS]


def builds(size: str) -> Build:
    """A builder of records; those of 440 B are mostly one letter, which compresses too well."""
    return Readings().build if size == "real" else lambda p, n: padded(p, n, 440)
