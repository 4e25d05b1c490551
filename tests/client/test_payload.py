from __future__ import annotations

import json
import math
from typing import Any, get_args, get_type_hints

import orjson
import pytest
from annotated_types import Le
from hypothesis import given
from hypothesis import strategies as st

from energyws.client.connection import MAX_MESSAGE_BYTES
from energyws.client.payload import NoMessage, decode
from energyws.protocol import frame
from energyws.protocol.position import MAX_PARTITIONS
from energyws.settings import Kafka
from tests.clients import first_frame

RECORDS: dict[str, tuple[str, Any]] = {
    "half of a pair": (r'{"name":"kitchen \ud83d"}', {"name": "kitchen \ud83d"}),
    "the other half": (r'{"\udc00":1}', {"\udc00": 1}),
    "a pair in reverse order": (r'{"n":"\udc00\ud83d"}', {"n": "\udc00\ud83d"}),
    "beyond a double": ('{"w":1e400}', {"w": math.inf}),
    "negative beyond a double": ('{"w":-1e400}', {"w": -math.inf}),
    "more digits than a double has": (f'{{"w":{"9" * 5000}}}', {"w": math.inf}),
    "more digits than CPython converts, with a lone surrogate": (
        f'{{"a":"\\ud83d","w":-{"9" * 5000}}}',
        {"a": "\ud83d", "w": -math.inf},
    ),
}


def message(record: str, stream: str = "energy", position: str = "7f-1.2") -> bytes:
    """A data message as the service encodes it."""
    content = first_frame(frame.DataFrames(stream).build(0, record.encode(), position))
    assert content is not None
    return content[0]


@pytest.mark.parametrize(("record", "expected"), RECORDS.values(), ids=RECORDS.keys())
def test_record_that_orjson_refuses_is_delivered(record: str, expected: object) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(record)

    assert decode(message(record)) == {
        "type": "data",
        "stream": "energy",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "data": expected,
        "id": "7f-1.2",
    }


@pytest.mark.parametrize("stream", ["energy", 'a"b\\c', "ström"])
@pytest.mark.parametrize(
    "record", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000]
)
def test_record_that_no_parser_can_represent_becomes_a_gap(stream: str, record: str) -> None:
    assert decode(message(f'{{"deep":{record}}}', stream)) == {
        "type": "lagged",
        "stream": stream,
        "missed": 1,
        "to": "7f-1.2",
        "reason": "UNREADABLE",
    }


def test_record_of_a_snapshot_that_no_parser_can_represent_has_no_position() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    snapshot = f'{{"type":"snapshot","stream":"energy","key":"a","data":{{"deep":{deep}}}}}'

    assert decode(snapshot.encode()) == {
        "type": "lagged",
        "stream": "energy",
        "missed": 1,
        "to": "",
        "reason": "UNREADABLE",
    }


def test_gap_keeps_a_position_of_any_length() -> None:
    position = "ffffffffffffffff-" + ".".join(["9223372036854775806"] * MAX_PARTITIONS)
    found = decode(message('{"deep":' + "[" * 100_000 + "]" * 100_000 + "}", position=position))

    assert found["to"] == position


@pytest.mark.parametrize(
    "payload", [b"", b"{", b'{"type":"data"', b"\xff\xfe", b'{"w":NaN}', b"{}{}"]
)
def test_invalid_json_is_refused(payload: bytes) -> None:
    with pytest.raises(NoMessage, match="not JSON"):
        decode(payload)


@pytest.mark.parametrize("payload", [b"null", b"[1]", b'"x"', b"1", rb'"\ud83d"'])
def test_json_that_is_not_an_object_is_an_empty_message(payload: bytes) -> None:
    assert decode(payload) == {}


@given(
    st.dictionaries(
        st.text(st.characters(), max_size=5),
        st.one_of(st.text(st.characters(), max_size=5), st.integers(-(2**70), 2**70), st.none()),
        max_size=4,
    )
)
def test_every_record_is_delivered(record: dict[str, Any]) -> None:
    found = decode(message(json.dumps(record)))

    # Integers beyond 64 bits become doubles with either parser.
    assert found["data"].keys() == record.keys()
    for key, value in record.items():
        expected = pytest.approx(value) if isinstance(value, int) else value
        assert found["data"][key] == expected


def test_largest_record_of_the_service_fits_in_a_message() -> None:
    (bound,) = [
        each.le
        for each in get_args(get_type_hints(Kafka, include_extras=True)["max_record_bytes"])
        if isinstance(each, Le)
    ]
    position = "ffffffffffffffff-" + ".".join(["9223372036854775806"] * MAX_PARTITIONS)
    envelope = len(message("{}", "s" * 1_000, position))

    assert int(str(bound)) + envelope <= MAX_MESSAGE_BYTES
