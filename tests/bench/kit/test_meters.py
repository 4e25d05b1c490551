"""Records with keys are numbered so that load.c can check them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import orjson
import pytest

from bench.kit import meters
from bench.kit.meters import Meters, faults, name
from bench.kit.record import PARTITIONS


class Producer:
    """Keeps what it is given."""

    def __init__(self, _: dict[str, Any]) -> None:
        self.written: list[tuple[int, dict[str, Any], int]] = []

    def produce(self, topic: str, value: bytes, partition: int) -> None:
        self.written.append((partition, orjson.loads(value), len(value)))

    def poll(self, _: float) -> None:
        pass

    def flush(self, _: float) -> int:
        return 0


def test_each_key_is_numbered_densely_in_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "Producer", Producer)
    made = Meters("", lambda number: number * number % 7, 300)
    assert made.write(100_000, 0.001) == 100

    numbers: dict[str, list[int]] = defaultdict(list)
    for partition, record, size in made._producer.written:  # type: ignore[attr-defined]
        numbers[record["k"]].append(int(record["n"]))
        assert (str(partition), size) == (record["p"], 300)
    assert set(numbers) == {name(key) for key in (0, 1, 2, 4)}
    assert all(found == list(range(len(found))) for found in numbers.values())
    assert made.due([0, 1, 3]) == len(numbers[name(0)]) + len(numbers[name(1)])
    assert {key % PARTITIONS for key in (0, 1, 2)} == {0, 1, 2}


def test_frames_that_never_came_are_lost_whatever_came_twice() -> None:
    counts = {"frames": 10, "duplicates": 3, "gaps": 0, "closed": 0}
    assert faults(counts, 9) == {"lost": 2, "gaps": 0, "duplicates": 3, "closed": 0}
