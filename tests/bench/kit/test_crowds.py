from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.kit.crowds import OTHER_DESCRIPTORS, generators, merge, workers_needed


@pytest.mark.parametrize(
    ("clients", "limit", "shares"),
    [
        (1, 20_000, [1]),
        (15_000, 20_000, [15_000]),
        (15_001, 20_000, [7501, 7500]),
        (50_000, 20_000, [12_500] * 4),
        (1000, 1000, [500, 500]),
    ],
)
def test_clients_are_distributed_evenly(clients: int, limit: int, shares: list[int]) -> None:
    assert generators(clients, limit) == shares


@given(st.integers(1, 200_000), st.integers(OTHER_DESCRIPTORS + 10, 100_000))
def test_no_process_holds_more_than_its_descriptors_allow(clients: int, limit: int) -> None:
    shares = generators(clients, limit)
    assert sum(shares) == clients
    assert max(shares) <= limit - OTHER_DESCRIPTORS
    assert workers_needed(clients, limit) * (limit - OTHER_DESCRIPTORS) >= clients


def test_counts_add_up() -> None:
    def counts(**fields: Any) -> dict[str, Any]:
        names = "clients frames others gaps duplicates foreign checked closed failed away returned"
        zeros = dict.fromkeys([*names.split(), "longest_away_us", "least", "most"], 0)
        return {**zeros, "delays": [], **fields}

    merged = merge(
        [
            counts(clients=2, frames=20, least=9, most=11, delays=[1, 2]),
            counts(clients=3, frames=30, least=8, most=10, delays=[3], gaps=1),
        ]
    )
    assert merged["clients"] == 5
    assert merged["frames"] == 50
    assert (merged["least"], merged["most"]) == (8, 11)
    assert merged["delays"] == [1, 2, 3]
    assert merged["gaps"] == 1
