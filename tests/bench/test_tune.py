from __future__ import annotations

from typing import Any

import orjson
import pytest

from bench.advice import Trial
from bench.kit.record import N_AT, N_DIGITS, P_AT, T_AT, T_DIGITS
from bench.tune import like, picture, sections, table, trial


def row(workers: int, **fields: Any) -> dict[str, Any]:
    return {
        "workers": workers,
        "deliveries_per_second": 40_000,
        "cores": {
            "supervisor": 0.01,
            "consumer": 0.02,
            "worker-0": 0.2,
            "worker-1": 0.25,
            "generator-0": 0.5,
            "observer": 0.1,
        },
        "machine_share": 0.6,
        "delay_ms": {"mean": 3.0, "p50": 2.0, "p99": 9.0, "max": 12.0},
        "exact": True,
        **fields,
    }


def test_rule_sees_the_busiest_worker_and_the_busiest_client() -> None:
    assert trial(row(2)) == Trial(2, 0.25, 0.5, 0.6, 9.0, True)


def test_config_keeps_what_matters_and_loses_what_a_measurement_has_its_own_of() -> None:
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
def test_sample_gets_the_measured_fields_in_their_places(sample: bytes) -> None:
    record = like(sample)(2, 42)
    fields = orjson.loads(record)
    assert list(fields)[:3] == ["p", "n", "t"]
    assert {name: fields[name] for name in fields if name not in "pnt"} == {
        name: value for name, value in orjson.loads(sample).items() if name not in "pnt"
    }
    assert record[P_AT : P_AT + 1] == b"2"
    assert int(record[N_AT : N_AT + N_DIGITS]) == 42
    assert int(record[T_AT : T_AT + T_DIGITS]) > 0


def test_sample_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="a JSON object, not a list"):
        like(b"[1]")


def test_table_has_a_line_for_each_count() -> None:
    head, one, two = table([row(1), row(2)]).splitlines()
    assert head.split()[0] == "workers"
    assert one.split()[0] == "1"
    assert two.split()[0] == "2"
    assert "4.0 ×" in two


def test_picture_has_delay_and_cpu() -> None:
    drawn = picture([row(1), row(2)])
    assert "Delay by the number of workers" in drawn
    assert "busiest worker" in drawn
