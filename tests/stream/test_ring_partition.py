"""Where the records of one partition are among the entries of a ring."""

from __future__ import annotations

import sys

import pytest

from energyws.stream import ring_partition
from energyws.stream.ring_partition import RingPartition


@pytest.mark.parametrize("spare", [1, 3, 1_000])
def test_entries_are_found_whatever_has_left(monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    monkeypatch.setattr(ring_partition, "SPARE", spare)
    partition = RingPartition(10)
    # Each as (offset, index, head before it), with holes in both.
    kept: list[tuple[int, int, int]] = []
    for number in range(40):
        offset, index = 10 + 3 * number, 5 + 2 * number
        kept.append((offset, index, partition.head))
        partition.append(offset, index)
        assert partition.head == offset + 1
        if number > 6:
            gone, _, _ = kept.pop(0)
            partition.drop()
            assert partition.floor == gone + 1
        for wanted in range(kept[0][0], offset + 2):
            later = [each for each in kept if each[0] >= wanted]
            assert partition.after(wanted) == (later[0][1] if later else None, len(later))
        for at in range(kept[0][1], index + 2):
            heads = [head for _, each, head in kept if each >= at]
            assert partition.head_at(at) == (heads[0] if heads else partition.head)


def test_room_of_entries_that_have_left_is_given_back() -> None:
    partition = RingPartition(0)
    for number in range(10 * ring_partition.SPARE):
        partition.append(number, number)
        if number >= 100:
            partition.drop()
    assert sys.getsizeof(partition._offsets) < 8 * 4 * ring_partition.SPARE
