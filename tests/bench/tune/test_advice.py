from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tune.advice import (
    BUSIEST_SHARE,
    Trial,
    advise,
    cores_used,
    disagreements,
    estimate,
)


def trial(
    workers: int,
    busiest: float = 0.3,
    p99: float = 10.0,
    *,
    generator: float = 0.2,
    machine: float = 0.5,
    exact: bool = True,
) -> Trial:
    return Trial(workers, busiest, generator, machine, p99, exact)


@pytest.mark.parametrize(
    ("trials", "workers", "reason"),
    [
        pytest.param([trial(1)], 1, "30% of a core", id="the only one"),
        pytest.param([trial(1), trial(2, p99=8)], 1, "more workers bring p99 to 8.0", id="as good"),
        pytest.param(
            [trial(1, p99=40), trial(2, p99=10)], 2, "with 1 p99 would be 40.0", id="much quicker"
        ),
        pytest.param(
            [trial(1, 0.8), trial(2, 0.4)], 2, "with 1 it would be 80% of a core", id="headroom"
        ),
        pytest.param(
            [trial(1, exact=False), trial(2), trial(3)], 2, "with 1 clients lost", id="losses"
        ),
        pytest.param(
            [trial(1, p99=200), trial(2, p99=99)], 2, "above the limit", id="within the limit"
        ),
        pytest.param([trial(1, 0.9), trial(2, 0.7)], None, "add cores", id="machine too small"),
        pytest.param([trial(1, p99=300)], None, "limit of 100 ms", id="too slow"),
        pytest.param([trial(1, exact=False)], None, "lost frames", id="nothing sound"),
        # The order of trials does not matter.
        pytest.param([trial(3), trial(1, 0.7), trial(2)], 2, "with 1", id="any order"),
    ],
)
def test_rule(trials: list[Trial], workers: int | None, reason: str) -> None:
    advice = advise(trials, p99_limit_ms=100)
    assert advice.workers == workers
    assert reason in advice.reason


def test_overloaded_generator_and_busy_machine_give_warnings() -> None:
    trials = [trial(1, generator=0.95), trial(2, machine=0.97)]
    short, busy = advise(trials, p99_limit_ms=100).warnings
    assert "load generator was short of CPU time (workers: 1)" in short
    assert "all cores were busy (workers: 2)" in busy


def test_no_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="no trials"):
        advise([], p99_limit_ms=100)


@given(
    st.lists(
        st.builds(
            trial,
            st.integers(1, 64),
            st.floats(0, 1),
            st.floats(0.1, 1000),
            exact=st.booleans(),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda each: each.workers,
    )
)
def test_recommended_number_meets_every_limit(trials: list[Trial]) -> None:
    advice = advise(trials, p99_limit_ms=100)
    if advice.workers is not None:
        chosen = next(each for each in trials if each.workers == advice.workers)
        assert chosen.exact
        assert chosen.busiest_share <= BUSIEST_SHARE
        assert chosen.p99_ms <= 100


@pytest.mark.parametrize(
    ("deliveries", "us", "workers"),
    [(0, 6.0, 1), (40_000, 6.0, 1), (100_000, 6.0, 1), (100_001, 6.0, 2), (400_000, 6.0, 4)],
)
def test_formula(deliveries: float, us: float, workers: int) -> None:
    assert estimate(deliveries, us) == workers


@given(st.floats(1, 1e7), st.floats(0.1, 50))
def test_formula_gives_the_fewest_workers_that_leave_headroom(deliveries: float, us: float) -> None:
    workers = estimate(deliveries, us)
    used = cores_used(deliveries, us)
    assert used / workers <= BUSIEST_SHARE * 1.000001
    assert workers == 1 or used / (workers - 1) > BUSIEST_SHARE * 0.999999


@pytest.mark.parametrize(
    ("us", "trials", "advised", "expected"),
    [
        pytest.param(6.0, [trial(1, 0.24), trial(2, 0.12)], 1, [], id="agreed"),
        pytest.param(6.0, [trial(1, 0.24), trial(2, 0.12)], 2, [], id="more for a quicker p99"),
        pytest.param(6.0, [trial(1, 0.7), trial(2, 0.4)], 2, ["2 left headroom"], id="dearer"),
        pytest.param(
            20.0, [trial(1, 0.5)], 1, ["1 left headroom", "1 was recommended"], id="cheaper"
        ),
        pytest.param(60.0, [trial(1, 0.9), trial(2, 0.8)], None, [], id="neither is enough"),
        pytest.param(6.0, [trial(1, 0.9), trial(2, 0.8)], None, ["no number up to 2"], id="hot"),
        pytest.param(6.0, [trial(1, exact=False), trial(2)], 2, ["2 left headroom"], id="losses"),
    ],
)
def test_formula_and_trials_are_compared(
    us: float, trials: list[Trial], advised: int | None, expected: list[str]
) -> None:
    found = disagreements(40_000, us, trials, advised)
    assert len(found) == len(expected)
    assert all(part in line for part, line in zip(expected, found, strict=True))
