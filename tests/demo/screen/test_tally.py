"""Counting by offsets."""

from __future__ import annotations

import pytest

from energyws.demo.screen.tally import Tally


@pytest.mark.parametrize(
    ("positions", "received", "lost", "repeated"),
    [
        ([], 0, 0, 0),
        # A client begins anywhere.
        (["a-5.7.0"], 1, 0, 0),
        (["a-5.7.0", "a-5.8.0", "a-6.8.0", "a-6.8.1"], 4, 0, 0),
        (["a-5.7", "a-7.7"], 2, 1, 0),
        (["a-5.7", "a-5.8", "a-5.8"], 3, 0, 1),
        # Another replica interleaves the partitions differently.
        (["a-5.7", "a-6.7", "a-5.8", "a-6.8"], 4, 0, 1),
        (["a-5.7", "a-6.7", "a-6.8"], 3, 0, 0),
        # A partition more.
        (["a-5", "a-5.1"], 2, 0, 0),
    ],
)
def test_readings_are_compared_with_offsets(
    positions: list[str], received: int, lost: int, repeated: int
) -> None:
    tally = Tally()
    for position in positions:
        tally.take(position)
    assert (tally.received, tally.lost, tally.repeated) == (received, lost, repeated)


def test_gap_counts_as_lost() -> None:
    tally = Tally()
    tally.skip("a-9.9")
    assert tally.lost == 0
    tally.take("a-10.9")
    tally.skip("a-13.9")
    assert tally.lost == 3
    tally.take("a-14.9")
    assert (tally.received, tally.lost) == (2, 3)
