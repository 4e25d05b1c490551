from __future__ import annotations

import orjson
import pytest

from bench.kit.record import N_AT, N_DIGITS, P_AT, T_AT, T_DIGITS
from bench.tune.__main__ import like, sections


def test_sections_omit_the_keys_that_a_measurement_sets_itself() -> None:
    config = {
        "kafka": {"brokers": "theirs:9092", "topic": "x", "max_record_bytes": 2048},
        "server": {"port": 443, "tls": {"cert": "a", "key": "b"}, "write_buffer_bytes": 8192},
        "auth": {"jwt_secret": "$(JWT_SECRET)"},
        "log": {"format": "json"},
        "history": {"max_frames": 500},
        "bus": None,
    }
    assert sections(config) == {
        "kafka": {"max_record_bytes": 2048},
        "server": {"write_buffer_bytes": 8192},
        "history": {"max_frames": 500},
    }


@pytest.mark.parametrize(
    "sample", [b'{"a":1,"b":[2,3]}', b'{"n":7,"t":"x","a":1,"b":[2,3]}', b"{}"]
)
def test_sample_follows_the_checked_fields_at_their_fixed_positions(sample: bytes) -> None:
    record = like(sample)(2, 42)
    fields = orjson.loads(record)
    assert list(fields)[:3] == ["p", "n", "t"]
    assert {name: fields[name] for name in fields if name not in "pnt"} == {
        name: value for name, value in orjson.loads(sample).items() if name not in "pnt"
    }
    assert record[P_AT : P_AT + 1] == b"2"
    assert int(record[N_AT : N_AT + N_DIGITS]) == 42
    assert int(record[T_AT : T_AT + T_DIGITS]) > 0


def test_sample_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="a JSON object, not a list"):
        like(b"[1]")
