from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.client.backoff import BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS, Backoff


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_bound_doubles_up_to_its_maximum(randoms: list[float]) -> None:
    draws = iter(randoms)
    backoff = Backoff(lambda: next(draws))
    for attempt, random in enumerate(randoms):
        bound = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2.0**attempt)
        assert backoff.next_seconds() == pytest.approx(random * bound)


def test_reset_restarts_the_backoff() -> None:
    backoff = Backoff(lambda: 1.0)
    backoff.next_seconds()
    backoff.reset()

    assert backoff.next_seconds() == BACKOFF_FIRST_SECONDS
