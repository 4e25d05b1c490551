from __future__ import annotations

import pytest

from bench.reading import LIMIT, samples
from energyws.stream.record import BadRecord, decode

SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_good_or_bad_as_named(name: str) -> None:
    value = SAMPLES[name]
    if name.startswith("bad"):
        with pytest.raises(BadRecord):
            decode(value, max_bytes=LIMIT)
    else:
        assert decode(value, max_bytes=LIMIT) == value
