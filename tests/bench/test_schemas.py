from __future__ import annotations

import orjson
import pytest

from bench.schemas import flat, measured, nested


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], dict[str, object]]:
    return {(row["shape"], row["format"]): row for row in measured(rounds=1, turns=1)}


@pytest.mark.parametrize("shape", ["flat", "nested"])
def test_all_formats_have_the_same_record(
    shape: str, rows: dict[tuple[str, str], dict[str, object]]
) -> None:
    expected = orjson.dumps({"flat": flat, "nested": nested}[shape]())
    for form in ("json", "json_schema"):
        assert rows[shape, form]["json_bytes"] == len(expected)
    # The time of the flat one is a number in JSON, and text otherwise.
    assert rows[shape, "avro"]["json_bytes"] == rows[shape, "protobuf"]["json_bytes"]
