from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from energyws.protocol import frame
from energyws.protocol.frame import DataFrames, rfc3339

POSITION = "7f3a90c2-1042.998.17"
# 2025-12-02T20:17:48.888Z
RECORDED = 1_764_706_668_888
LAST_MS = 253_402_300_799_999

# A record from a SaveEye meter.
REAL_RECORD = (
    b'{"activeActualConsumption":{"L1":638,"L2":250,"L3":67,"total":956},'
    b'"activeActualProduction":{"L1":0,"L2":0,"L3":0,"total":0},'
    b'"activeTotalConsumption":{"total":102795417},"activeTotalProduction":{"total":83},'
    b'"fields":{"active_energy_production":83,"active_energy_total":102795417,'
    b'"active_power_l1":638,"active_power_l2":250,"active_power_l3":67,'
    b'"active_power_total":956,"active_production_total":0,"current_l1":3100,'
    b'"current_l2":1700,"current_l3":400,"power_factor":100,"voltage_l1":235,"voltage_l2":236,'
    b'"voltage_l3":237,"wifi_rssi":-89},"meterSerialNumber":"Not found","meterType":"",'
    b'"powerFactor":{"total":100},"reactiveActualConsumption":{"total":0},'
    b'"reactiveActualProduction":{"total":621},"reactiveTotalConsumption":{"total":30100902},'
    b'"reactiveTotalProduction":{"total":15964771},"rmsCurrent":{"L1":3100,"L2":1700,'
    b'"L3":400},"rmsVoltage":{"L1":235,"L2":236,"L3":237},'
    b'"saveeyeDeviceSerialNumber":"9MANZWNG","tags":{"device_serial":"9MANZWNG",'
    b'"meter_type":""},"timestamp":"2025-12-02T20:17:48","ts":"2025-12-02T20:17:48.88864083Z",'
    b'"wifiRssi":-89}'
)

PASSED_THROUGH = {
    "empty": b"{}",
    "integer of 30 digits": b'{"n":123456789012345678901234567890}',
    "beyond 2**53": b'{"n":9007199254740993}',
    "trailing zero": b'{"p":1.10}',
    "exponent": b'{"p":1.0E+2}',
    "minus zero": b'{"p":-0.0}',
    "raw unicode": '{"é":"日本 😀"}'.encode(),
    "escaped unicode": b'{"\\u00e9":"\\ud83d\\ude00"}',
    "duplicate keys": b'{"a":1,"a":2}',
    "white space": b'{ "a" :\r\n\t1 }',
    "percent signs": b'{"%b":"%s %(x)d %%"}',
    "braces": b'{"a":"}{}"}',
    "real record": REAL_RECORD,
}

names = st.text(max_size=10)
times = st.integers(0, LAST_MS)


def received(data: bytes) -> list[Frame]:
    """The frames that another implementation's client reads from these bytes."""
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    events = client.events_received()
    assert all(isinstance(event, Frame) for event in events)
    return [event for event in events if isinstance(event, Frame)]


def payload(data: bytes) -> bytes:
    """The payload of the one text frame in these bytes."""
    (only,) = received(data)
    assert (only.opcode, only.fin, only.rsv1, only.rsv2, only.rsv3) == (
        Opcode.TEXT,
        True,
        False,
        False,
        False,
    )
    return bytes(only.data)


def pairs(text: bytes) -> Any:
    """JSON with its objects as lists of pairs, which keep order and duplicates."""
    return json.loads(text, object_pairs_hook=list)


HEADERS = {
    0: b"\x81\x00",
    1: b"\x81\x01",
    125: b"\x81\x7d",
    126: b"\x81\x7e\x00\x7e",
    65_535: b"\x81\x7e\xff\xff",
    65_536: b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
    1_000_000: b"\x81\x7f\x00\x00\x00\x00\x00\x0f\x42\x40",
}


@pytest.mark.parametrize(("size", "header"), HEADERS.items(), ids=str)
def test_length_has_its_shortest_form(size: int, header: bytes) -> None:
    data = frame.encode(frame.TEXT, b"x" * size)

    assert data == header + b"x" * size
    assert payload(data) == b"x" * size


@given(st.sampled_from([0, 120, 65_530]), st.integers(0, 12))
def test_text_frame_equals_that_of_another_implementation(size: int, more: int) -> None:
    content = bytes(size + more)

    assert frame.encode(frame.TEXT, content) == Frame(Opcode.TEXT, content).serialize(mask=False)


@given(st.lists(st.sampled_from([0, 1, 125, 126, 300, 65_535, 65_536]), max_size=5))
def test_joined_frames_are_read_one_by_one(sizes: list[int]) -> None:
    contents = [bytes([at]) * size for at, size in enumerate(sizes)]
    joined = b"".join(frame.encode(frame.TEXT, content) for content in contents)

    assert [bytes(each.data) for each in received(joined)] == contents


CONTROLS = {"ping": (frame.PING, Opcode.PING), "pong": (frame.PONG, Opcode.PONG)}


@pytest.mark.parametrize(("opcode", "expected"), CONTROLS.values(), ids=CONTROLS.keys())
@pytest.mark.parametrize("size", [0, 1, frame.MAX_CONTROL_BYTES])
def test_another_implementation_reads_a_control_frame(
    opcode: int, expected: Opcode, size: int
) -> None:
    (only,) = received(frame.encode(opcode, bytes(size)))

    assert (only.opcode, bytes(only.data)) == (expected, bytes(size))


@pytest.mark.parametrize("reason", ["", "service restart", "é" * 61, "x" * 123])
def test_another_implementation_reads_a_close(reason: str) -> None:
    client = Protocol(CLIENT)
    client.receive_data(frame.close(1012, reason))

    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (1012, reason)


@pytest.mark.parametrize("reason", ["x" * 124, "é" * 62])
def test_close_reason_that_does_not_fit_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match="124 bytes: at most 123 fit"):
        frame.close(1012, reason)


@given(times)
@example(0)
@example(999)
@example(LAST_MS)
def test_time_equals_that_of_datetime(timestamp_ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=timestamp_ms)

    assert rfc3339(timestamp_ms) == moment.isoformat(timespec="milliseconds")[:-6] + "Z"


TIMES = {
    "epoch": (0, "1970-01-01T00:00:00.000Z"),
    "before the epoch": (-1, "1969-12-31T23:59:59.999Z"),
    "milliseconds are padded": (1_000_007, "1970-01-01T00:16:40.007Z"),
    "leap day": (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
    "seed's example": (1_766_752_496_789, "2025-12-26T12:34:56.789Z"),
    "last": (LAST_MS, "9999-12-31T23:59:59.999Z"),
}


@pytest.mark.parametrize(("timestamp_ms", "text"), TIMES.values(), ids=TIMES.keys())
def test_time_in_rfc3339(timestamp_ms: int, text: str) -> None:
    assert rfc3339(timestamp_ms) == text


def test_time_beyond_year_9999_raises() -> None:
    with pytest.raises(ValueError, match="out of range"):
        rfc3339(LAST_MS + 1)


@pytest.mark.parametrize("data", PASSED_THROUGH.values(), ids=PASSED_THROUGH.keys())
def test_data_passes_through_untouched(data: bytes) -> None:
    message = payload(DataFrames("energy").build(RECORDED, data, POSITION))

    assert message == (
        b'{"type":"data","stream":"energy","timestamp":"2025-12-02T20:17:48.888Z","data":'
        + data
        + b',"id":"7f3a90c2-1042.998.17"}'
    )
    assert pairs(message)[3] == ("data", pairs(data))


@given(names, times, st.dictionaries(names, st.integers() | st.text(), max_size=4))
def test_data_message_is_json_with_its_keys_in_order(
    stream: str, timestamp_ms: int, content: dict[str, object]
) -> None:
    data = json.dumps(content).encode()

    assert pairs(payload(DataFrames(stream).build(timestamp_ms, data, POSITION))) == [
        ("type", "data"),
        ("stream", stream),
        ("timestamp", rfc3339(timestamp_ms)),
        ("data", pairs(data)),
        ("id", POSITION),
    ]


def test_envelope_around_a_real_record_is_small() -> None:
    data = DataFrames("energy").build(RECORDED, REAL_RECORD, POSITION)

    assert len(REAL_RECORD) == 1_047
    assert len(payload(data)) == 1_047 + 80 + len(',"id":""') + len(POSITION) == 1_155
    assert len(data) == 1_155 + 4


BUILT: dict[str, tuple[Callable[[], bytes], bytes]] = {
    "text": (lambda: frame.text({"a": ["é", None, 1.5]}), '{"a":["é",null,1.5]}'.encode()),
    "lagged": (
        lambda: frame.lagged("energy", 12, "7f-1.2", "7f-9.6", "LAGGED"),
        (
            b'{"type":"lagged","stream":"energy","missed":12,"from":"7f-1.2","to":"7f-9.6",'
            b'"reason":"LAGGED"}'
        ),
    ),
    "lagged, without a count": (
        lambda: frame.uncounted(frame.lagged("energy", 12, "7f-1.2", "7f-9.6", "LAGGED")),
        (
            b'{"type":"lagged","stream":"energy","missed":null,"from":"7f-1.2","to":"7f-9.6",'
            b'"reason":"LAGGED"}'
        ),
    ),
    "lagged by an unknown number": (
        lambda: frame.lagged("energy", None, None, "7f-9.6", "EPOCH_CHANGED"),
        (
            b'{"type":"lagged","stream":"energy","missed":null,"from":null,"to":"7f-9.6",'
            b'"reason":"EPOCH_CHANGED"}'
        ),
    ),
}


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_payload_of_a_frame(size: int) -> None:
    assert frame.payload(frame.encode(frame.TEXT, bytes(size))) == bytes(size)


@pytest.mark.parametrize(("build", "expected"), BUILT.values(), ids=BUILT.keys())
def test_message_is_encoded_exactly(build: Callable[[], bytes], expected: bytes) -> None:
    assert payload(build()) == expected
