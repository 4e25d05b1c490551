"""The records whose compression is measured."""

from __future__ import annotations

import time
from typing import Final

from bench.kit.record import PARTITIONS, padded
from bench.kit.writer import Build
from energyws.demo.meter import Meter

# Of each meter, before they begin again: far more than any window holds.
READINGS: Final = 500
SIZES: Final = ("440", "real")


class Readings:
    """Records of simulated meters, one a second each: their values change as real ones do."""

    def __init__(self) -> None:
        now = time.time_ns()
        meters = [Meter(seed) for seed in range(PARTITIONS)]
        self._records = [
            [meter.record(now + number * 10**9) for number in range(READINGS)] for meter in meters
        ]

    def build(self, partition: int, number: int) -> bytes:
        return self._records[partition][number % READINGS]


def builds(size: str) -> Build:
    """A maker of records of a size; most of 440 B are one letter, which compresses too well."""
    return Readings().build if size == "real" else lambda p, n: padded(p, n, 440)
