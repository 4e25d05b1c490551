from __future__ import annotations

import os

import pytest

from bench.attacks import cores


@pytest.mark.parametrize(
    ("known", "workers", "expected"),
    [
        ([0, 1], 1, ({0}, {1})),
        ([7, 3, 5], 2, ({3, 5}, {7})),
        ([0, 1], 2, None),
        ([0], 1, None),
    ],
)
def test_workers_have_cores_of_their_own_if_one_is_left_for_the_rest(
    known: list[int], workers: int, expected: tuple[set[int], set[int]] | None
) -> None:
    assert cores.divided(known, workers) == expected


def test_every_thread_of_a_process_is_moved() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        cores.move(os.getpid(), {min(allowed)})
        assert os.sched_getaffinity(0) == {min(allowed)}
    finally:
        cores.move(os.getpid(), allowed)
    assert os.sched_getaffinity(0) == allowed
