"""The record of the fault runs and its checksum."""

from __future__ import annotations

import orjson
import pytest

from bench.faults.record import build, check


@pytest.mark.parametrize("size", [0, 250, 4000])
def test_unchanged_record_passes_the_check(size: int) -> None:
    record = build(2, 1234, size, 'm7"å')
    assert check(orjson.loads(record)) == (2, 1234)
    assert len(record) == size or size == 0


@pytest.mark.parametrize("name", ["p", "n", "t", "k", "pad", "crc"])
def test_any_changed_field_is_detected(name: str) -> None:
    data = orjson.loads(build(2, 1234, 250, "m7"))
    data[name] = data[name][:-1] + ("0" if data[name][-1] != "0" else "1")
    with pytest.raises(ValueError, match="checksum"):
        check(data)


@pytest.mark.parametrize(
    "data", [{}, {"p": 1}, {"p": 1, "n": 2, "t": 3, "k": "", "pad": "", "crc": ""}]
)
def test_any_other_record_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a record"):
        check(data)
